// Package handover opens the listening sockets of the daemon.
package handover
