package lab

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestConsoleLines(t *testing.T) {
	for name, c := range map[string]struct{ raw, want string }{
		"CR LF":            {"a\r\nb\r\n", "a\nb\n"},
		"LF":               {"a\nb\n", "a\nb\n"},
		"CR CR LF":         {"a\r\r\n\r\r\nb", "a\n\nb"},
		"overwritten":      {"Press Ctrl-B...\r               \rnet0: up\r\n", "Press Ctrl-B...\nnet0: up\n"},
		"colours":          {"\x1b[1;31mred\x1b[0m \x1b[2J\x1b[12;3Hx\x1b(B!\x1b=", "red x!"},
		"broken escape":    {"a\x1b", "a"},
		"unfinished CSI":   {"a\x1b[12", "a"},
		"control, not tab": {"a\x00\tb\x08c\x7f", "a\tbc"},
		"not UTF-8":        {"a\xffb\xc3\xa4", "abä"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, len(c.raw)} { // whole, and byte by byte
				con := newConsole()
				for raw := c.raw; raw != ""; raw = raw[size:] {
					con.add([]byte(raw[:size]), false)
				}
				if got := con.String(); got != c.want {
					t.Errorf("in pieces of %d: %q, want %q", size, got, c.want)
				}
			}
		})
	}
}

func TestConsoleKeepsABoundedPart(t *testing.T) {
	con := newConsole()
	line := []byte(strings.Repeat("x", 1023) + "\n")
	for range maxConsole/1024 + 100 {
		con.add(line, false)
	}
	if got := len(con.String()); got > maxConsole {
		t.Errorf("%d bytes are kept", got)
	}
	if got, want := con.mark(), maxConsole/1024+100; got != want {
		t.Errorf("mark %d, want %d: what is dropped counts", got, want)
	}
	con.add([]byte(strings.Repeat("y", 3*maxLine)), false)
	if len(con.last) > maxLine {
		t.Errorf("an unfinished line of %d bytes is kept", len(con.last))
	}
}

func TestWaitingOnTheConsole(t *testing.T) {
	number := regexp.MustCompile(`^up (\d+)$`)
	t.Run("an unfinished line counts only once it stands still", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			con := newConsole()
			r, w := io.Pipe()
			go con.follow(r)
			go func() {
				for _, part := range []string{"noise\nup 1", "2", "3"} {
					io.WriteString(w, part)
					time.Sleep(settle / 2)
				}
			}()
			if got, err := con.wait(t.Context(), number, 0); got != "up 123" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			w.Close()
		})
	})
	t.Run("from a mark on", func(t *testing.T) {
		con := newConsole()
		con.add([]byte("up 1\n"), false)
		mark := con.mark()
		con.add([]byte("up 2\nup 3\n"), false)
		for from, want := range map[int]string{0: "up 1", mark: "up 2", mark + 1: "up 3"} {
			if got, err := con.wait(t.Context(), number, from); got != want || err != nil {
				t.Errorf("from %d: %q, %v, want %q", from, got, err, want)
			}
		}
	})
	t.Run("when it came", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			con := newConsole()
			began := time.Now()
			for _, line := range []string{"noise\nup", " 1\n", "up 2\nup 3"} {
				time.Sleep(time.Second)
				con.add([]byte(line), false)
			}
			for re, want := range map[string]time.Duration{"noise": 1, "up": 2, "up 2": 3, "up 3": 0} {
				at, ok := con.when(regexp.MustCompile(re))
				if ok != (want > 0) || ok && at.Sub(began) != want*time.Second {
					t.Errorf("%q: %v, %v, want after %d s", re, at.Sub(began), ok, want)
				}
			}
		})
	})
	t.Run("the end", func(t *testing.T) {
		con := newConsole()
		con.add([]byte("up 1x\nup 7"), true)
		if got, err := con.wait(t.Context(), number, 0); got != "up 7" || err != nil {
			t.Errorf("a last line without an end: %q, %v", got, err)
		}
		if _, err := con.wait(t.Context(), number, 5); !errors.Is(err, ErrExited) {
			t.Errorf("beyond the end: %v", err)
		}
	})
	t.Run("the context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := newConsole().wait(ctx, number, 0); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
