// Package api is the daemon's interface to its command line: JSON over HTTP on a
// unix socket and, where the settings open one, over TLS; and the client for both.
package api
