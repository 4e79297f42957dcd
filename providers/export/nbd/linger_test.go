package nbd

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Who is quick is waited for, for a moment, and not when that was in vain.
func TestLinger(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	fd := uintptr(fds[0])
	l := linger{may: true, quick: true}
	if l.more(fd) {
		t.Error("nothing came")
	}
	if _, err := unix.Write(fds[1], []byte("x")); err != nil {
		t.Fatal(err)
	}
	if l.more(fd) {
		t.Error("it waits for a second time, and keeps its processor")
	}
	l.came()
	if l.quick {
		t.Error("that was not soon")
	}
	if l.more(fd) {
		t.Error("it waits for who is not quick")
	}
	l = linger{may: true, quick: true}
	if !l.more(fd) {
		t.Error("something is there")
	}
	l = linger{quick: true}
	if l.more(fd) {
		t.Error("it waits where it may not")
	}
}
