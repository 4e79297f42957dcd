package main

import (
	"fmt"
	"os"
)

// Levels of the kernel log, syslog(2).
const (
	alarm  = 3 // KERN_ERR: consoles show it even with "quiet"
	notice = 5 // KERN_NOTICE: consoles show it unless "quiet"
)

// openConsole gives a logger that writes to the kernel log, which reaches the
// console, dmesg and the journal without touching a disk. Without one it is
// standard error.
func openConsole(level int) func(format string, args ...any) {
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		f = os.Stderr
	}
	return func(format string, args ...any) {
		// One write is one record.
		fmt.Fprintf(f, "<%d>nbdroot: %s\n", level, printable(fmt.Appendf(nil, format, args...)))
	}
}
