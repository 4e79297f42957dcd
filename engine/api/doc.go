// Package api is the daemon's interface to its command line: JSON over HTTP on a
// unix socket, and the client for it.
package api
