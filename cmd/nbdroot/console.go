package main

import (
	"fmt"
	"os"
)

// openConsole gives a logger that writes to the kernel log, which reaches the
// console, dmesg and the journal without touching a disk. Without one it is
// standard error.
func openConsole() func(format string, args ...any) {
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		f = os.Stderr
	}
	return func(format string, args ...any) {
		// One write is one record; <5> is notice, which consoles show unless "quiet".
		fmt.Fprintf(f, "<5>nbdroot: "+format+"\n", args...)
	}
}
