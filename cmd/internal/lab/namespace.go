package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// namespaceDir is where ip-netns(8) keeps its names.
const namespaceDir = "/run/netns"

// namespace is one named network namespace.
type namespace struct{ name string }

func (n namespace) path() string { return filepath.Join(namespaceDir, n.name) }

// addNamespace makes a namespace of that name, or of that name with a number
// behind it when the process made one before.
func addNamespace(ctx context.Context, name string) (namespace, error) {
	for i := range 1000 {
		n := namespace{name}
		if i > 0 {
			n.name = fmt.Sprintf("%s-%d", name, i+1)
		}
		if _, err := os.Lstat(n.path()); err == nil {
			continue
		}
		err := ip(ctx, "", "netns", "add", n.name)
		if err == nil {
			return n, nil
		}
		if !strings.Contains(err.Error(), "File exists") { // lost a race with another New
			return namespace{}, err
		}
	}
	return namespace{}, fmt.Errorf("too many namespaces named %s", name)
}

// ip runs ip(8), with stdin as its input.
func ip(ctx context.Context, stdin string, args ...string) error {
	cmd := exec.CommandContext(ctx, "ip", args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// setup runs ip commands inside the namespace, up to the first that fails.
func (n namespace) setup(ctx context.Context, commands ...string) error {
	return ip(ctx, strings.Join(commands, "\n")+"\n", "-n", n.name, "-batch", "-")
}

// command runs a program inside the namespace, and kills it when the process
// that started it dies.
func (n namespace) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.name, name}, args...)...)
	// Without this a missing program is only an exit status of ip's.
	if _, err := exec.LookPath(name); err != nil && cmd.Err == nil {
		cmd.Err = err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// do runs fn with the calling goroutine's thread inside the namespace.
func (n namespace) do(fn func() error) (err error) {
	runtime.LockOSThread()
	back, err := enter(n)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		// A thread that cannot return stays locked, and so ends with its goroutine
		// instead of running others in the wrong namespace.
		if e := back(); e != nil {
			err = errors.Join(err, e)
			return
		}
		runtime.UnlockOSThread()
	}()
	return fn()
}

// enter moves the calling thread, which the caller has locked, into the namespace;
// back returns it to the one it was in.
func enter(n namespace) (back func() error, err error) {
	before, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	there, err := os.Open(n.path())
	if err != nil {
		return nil, errors.Join(err, before.Close())
	}
	err = unix.Setns(int(there.Fd()), unix.CLONE_NEWNET)
	if e := there.Close(); e != nil && err == nil {
		err = e
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("entering namespace %s: %w", n.name, err), before.Close())
	}
	return func() error {
		defer before.Close()
		if err := unix.Setns(int(before.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("leaving namespace %s: %w", n.name, err)
		}
		return nil
	}, nil
}

// remove ends every process inside the namespace and removes it. Removing what is
// not there is no error.
func (n namespace) remove(ctx context.Context) error {
	if n.name == "" {
		return nil
	}
	if err := n.killAll(ctx); err != nil {
		return err
	}
	err := ip(ctx, "", "netns", "delete", n.name)
	if _, gone := os.Lstat(n.path()); errors.Is(gone, fs.ErrNotExist) {
		return nil
	}
	return err
}
