package faultnet

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Interface is the name of the interface that each Space has on the segment.
const Interface = "eth0"

// Space is one machine: a network namespace.
type Space struct {
	Name string  // of the namespace, for `ip netns exec`
	MAC  [6]byte // of Interface

	t     testing.TB
	net   *Net
	port  string // the other end of Interface, on the bridge
	cable *cable // nil: the kernel's own
}

// Do runs f in the namespace and returns its error. Sockets that f opens stay in
// the namespace wherever they are used. f must not start goroutines that open
// others, nor call t.FailNow.
func (s *Space) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Not unlocked: the thread, which is in the wrong namespace for everybody
		// else, ends with the goroutine.
		runtime.LockOSThread()
		err := fmt.Errorf("namespace %s: the function left its goroutine", s.Name)
		defer func() { done <- err }()
		ns, oerr := os.Open("/run/netns/" + s.Name)
		if oerr != nil {
			err = oerr
			return
		}
		defer ns.Close()
		if serr := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); serr != nil {
			err = fmt.Errorf("setns %s: %w", s.Name, serr)
			return
		}
		err = f()
	}()
	return <-done
}

// Command makes a command that runs in the namespace.
func (s *Space) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", s.Name, name}, args...)...)
}

// Run runs a command in the namespace and returns what it prints, both streams
// together. A failing command fails the test.
func (s *Space) Run(name string, args ...string) string {
	s.t.Helper()
	out, err := s.Command(s.t.Context(), name, args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s: %s %s: %v\n%s", s.Name, name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Sysctl sets a kernel setting of the namespace: a path below /proc/sys.
func (s *Space) Sysctl(path, value string) {
	s.t.Helper()
	err := s.Do(func() error { return os.WriteFile("/proc/sys/"+path, []byte(value), 0o644) })
	if err != nil {
		s.t.Fatal(err)
	}
}

// Unplug pulls the machine's cable, and Plug puts it back.
func (s *Space) Unplug() {
	s.t.Helper()
	s.net.ip("-n", s.net.name, "link", "set", s.port, "down")
	s.net.await(s.Name, Interface, false)
}

// Plug undoes Unplug.
func (s *Space) Plug() {
	s.t.Helper()
	s.net.ip("-n", s.net.name, "link", "set", s.port, "up")
	s.net.await(s.net.name, s.port, true)
	s.net.await(s.Name, Interface, true)
}

// checksums makes the kernel fill in checksums itself. A veth leaves that to
// hardware it does not have, and clients that read raw packets (udhcpc, dhclient)
// drop what they get.
func checksums(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	value := struct{ cmd, data uint32 }{unix.ETHTOOL_STXCSUM, 0}
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // the kernel copies a whole struct ifreq
	}
	copy(req.name[:], name)
	req.data = unsafe.Pointer(&value)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return fmt.Errorf("turn off checksum offload of %s: %w", name, errno)
	}
	return nil
}
