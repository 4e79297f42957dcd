package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// color reports whether text on w may be coloured: on a terminal that can, unless
// --no-color, NO_COLOR (https://no-color.org: set and not empty) or --json say no.
func (c *cli) color(w io.Writer) bool {
	return !c.noColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && !c.json && isTerminal(w)
}

// isTerminal reports whether f is an *os.File on a terminal. /dev/null, a
// character device too, is none.
func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// columns gives the width of the terminal w; 0 when it is none or does not say.
func columns(w io.Writer) int {
	if !isTerminal(w) {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(w.(*os.File).Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// confirm asks for a yes on the terminal that stdin is. ctx ends the wait.
func (c *cli) confirm(ctx context.Context, question string) error {
	fmt.Fprintf(c.err, "\n%s Only \"yes\" is taken: ", question)
	line, err := readLine(ctx, c.in.(*os.File))
	if err != nil {
		fmt.Fprintln(c.err)
		if ctx.Err() != nil {
			return errors.New("interrupted; nothing was changed")
		}
	}
	if strings.TrimSpace(line) != "yes" {
		return errors.New("that was no yes; nothing was changed")
	}
	return nil
}

// readLine reads one line from a terminal, in steps, because a read that waits
// cannot be cancelled.
func readLine(ctx context.Context, tty *os.File) (string, error) {
	const step = 100 // milliseconds
	var line []byte
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(tty.Fd()), Events: unix.POLLIN}}, step)
		if errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			continue
		}
		if err != nil {
			return "", err
		}
		b := make([]byte, 256)
		if n, err = tty.Read(b); err != nil {
			return "", err
		}
		line = append(line, b[:n]...)
		if before, _, ok := strings.Cut(string(line), "\n"); ok {
			return before, nil
		}
		if len(line) > 4096 {
			return "", errors.New("the line is too long")
		}
	}
	return "", ctx.Err()
}
