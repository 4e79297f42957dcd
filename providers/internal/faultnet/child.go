package faultnet

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// Start starts a program. It is killed when the test ends, and by the kernel when this
// process is killed. The caller has set where its output goes; what has been written
// there is there when the test's earlier cleanups run.
func Start(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	wait, err := providertest.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		wait()
	})
}

// childEnv is set for a process that Child started.
const childEnv = "DLRECONCILE_TEST_CHILD"

// InChild reports whether this process is one that Child started.
func InChild() bool { return os.Getenv(childEnv) != "" }

// Report prints what say gives, a line each time it has changed, until the process that
// started this one ends it.
func Report(say func() string) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		io.Copy(io.Discard, os.Stdin)
	}()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for last := ""; ; {
		if now := say(); now != last {
			last = now
			fmt.Println(now)
		}
		select {
		case <-tick.C:
		case <-over:
			return
		}
	}
}

// Child is a test of this very program that runs as a process of its own: all of its
// threads are in one namespace, so that what it opens anew is there too.
type Child struct {
	t     testing.TB
	lines chan string // closed when it has ended
	said  []string
}

// Child starts the test of that name in the namespace. The test asks InChild, and ends
// with Report.
func (s *Space) Child(test string) *Child {
	s.t.Helper()
	cmd := s.Command(s.t.Context(), os.Args[0], "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	c := &Child{t: s.t, lines: make(chan string, 1000)}
	go func() {
		defer close(c.lines)
		for b := bufio.NewScanner(r); b.Scan(); {
			c.lines <- b.Text()
		}
	}()
	s.t.Cleanup(func() {
		w.Close()
		for range c.lines {
		}
	})
	Start(s.t, cmd)
	s.t.Cleanup(func() { stdin.Close() })
	return c
}

// Await waits for a line after those that were awaited before that holds text.
func (c *Child) Await(text string) {
	c.t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case line, ok := <-c.lines:
			if !ok {
				c.t.Fatalf("it has ended before it said %q:\n%s", text, c)
			}
			if c.said = append(c.said, line); strings.Contains(line, text) {
				return
			}
		case <-timeout:
			c.t.Fatalf("nothing said %q:\n%s", text, c)
		}
	}
}

// String gives what it has said so far, as far as somebody awaited it.
func (c *Child) String() string { return strings.Join(c.said, "\n") }

// Last gives the line that was awaited last.
func (c *Child) Last() string { return c.said[len(c.said)-1] }
