package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// command is one run of a foreign program. However it ends, and however we end,
// nothing of it stays: it has its own process group, dies with us, and when it is
// private, its processes and mounts are gone with it.
type command struct {
	argv   []string
	env    []string // the whole environment
	dir    string
	stdin  io.Reader
	stdout io.Writer         // nil: standard output is lines, like standard error
	line   func(text string) // told each line of output; may be nil
	// private gives it process numbers, mounts, host name and message queues of
	// its own; /proc is mounted anew.
	private bool
	// offline takes the network away; only when private.
	offline bool
}

// failure is a program that ended badly.
type failure struct {
	program string
	err     error    // how it ended
	tail    []string // the last lines that it wrote
}

func (f *failure) Error() string {
	// Debian's tools mark errors; without a mark the end says most.
	var told []string
	for _, l := range f.tail {
		if strings.HasPrefix(l, "E: ") && len(told) < 3 {
			told = append(told, l)
		}
	}
	if len(told) == 0 {
		told = f.tail[max(0, len(f.tail)-4):]
	}
	if len(told) == 0 {
		return fmt.Sprintf("%s: %v", f.program, f.err)
	}
	return fmt.Sprintf("%s: %v: %s", f.program, f.err, strings.Join(told, " | "))
}

func (f *failure) Unwrap() error { return f.err }

// said gives the first of its last lines that contains part.
func (f *failure) said(part string) (string, bool) {
	for _, l := range f.tail {
		if strings.Contains(l, part) {
			return l, true
		}
	}
	return "", false
}

// ownProc is the wrapper of a private command: /proc must be that of its own
// process numbers. The mount is in its own mount namespace.
const ownProc = `umask 022 && mount -t proc proc /proc && exec "$@"`

// run runs the program to its end. A cancelled ctx kills it, and is the error.
func (c command) run(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	file, err := exec.LookPath(c.argv[0])
	if err != nil {
		return fmt.Errorf("%s is needed to build images and is not installed: %w", c.argv[0], err)
	}
	argv := append([]string{file}, c.argv[1:]...)
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if c.private {
		argv = append([]string{"sh", "-c", ownProc, "sh"}, argv...)
		attr.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
		attr.Unshareflags = syscall.CLONE_NEWNS // Go makes all mounts private with it
		if c.offline {
			attr.Cloneflags |= syscall.CLONE_NEWNET
		}
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	out := &lines{each: c.line}
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.SysProcAttr = c.dir, c.env, c.stdin, attr
	cmd.Stdout, cmd.Stderr = c.stdout, out
	if c.stdout == nil {
		cmd.Stdout = out
	}
	cmd.Cancel = func() error {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		return os.ErrProcessDone
	}
	cmd.WaitDelay = 5 * time.Second // for whoever left the group and holds the pipe
	// The kernel sends Pdeathsig when the thread ends that started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	out.end()
	if cerr := ctx.Err(); cerr != nil {
		return cerr
	}
	if err != nil {
		return &failure{program: c.argv[0], err: err, tail: out.tail}
	}
	return nil
}

const (
	maxLine   = 400 // longer ones are cut
	tailLines = 12
)

// lines cuts output into lines, and remembers the last few.
type lines struct {
	each func(string)
	part bytes.Buffer
	tail []string
}

func (l *lines) Write(p []byte) (int, error) {
	for _, c := range p {
		switch {
		case c == '\n' || c == '\r': // progress bars use the latter
			l.end()
		case l.part.Len() < maxLine:
			l.part.WriteByte(c)
		}
	}
	return len(p), nil
}

// end ends the current line.
func (l *lines) end() {
	text := strings.TrimSpace(strings.ToValidUTF8(l.part.String(), "?"))
	l.part.Reset()
	if text == "" {
		return
	}
	if len(l.tail) == tailLines {
		l.tail = l.tail[1:]
	}
	l.tail = append(l.tail, text)
	if l.each != nil {
		l.each(text)
	}
}
