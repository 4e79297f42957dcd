//go:build race

package nbd

import "syscall"

// tellRaceDetector says that what was done before happened before whoever reads what is
// sent. Package syscall says so of its own calls; this is one, of nothing.
func tellRaceDetector(fd uintptr) { _, _ = syscall.Write(int(fd), nil) }
