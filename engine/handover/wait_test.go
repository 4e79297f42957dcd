package handover

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A service manager that reads nothing is waited for by who goes on, and by nobody who
// is to stop.
func TestStopDoesNotWaitForTheManager(t *testing.T) {
	at := filepath.Join(t.TempDir(), "notify")
	silent, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := makeStore(at, slog.New(slog.DiscardHandler))
	s.dropped = true // a barrier is due
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan error)
	go func() {
		l, err := Open(ctx, s, "a", TCP(netip.AddrPort{}), bindTCP("127.0.0.1:0"))
		if err == nil {
			l.Close()
		}
		opened <- err
	}()
	raw, err := silent.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Read(func(fd uintptr) bool { // it was sent; read, its pipe would be closed, which is the answer
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 64), unix.MSG_PEEK)
		return err != unix.EAGAIN
	}); err != nil {
		t.Fatal(err)
	}
	inTurn, stop := context.WithCancel(t.Context())
	stop()
	if _, err := s.ListenUnix(inTurn, "api", filepath.Join(t.TempDir(), "sock")); !errors.Is(err, context.Canceled) {
		t.Errorf("who has stopped stands in line: %v", err)
	}
	cancel()
	began := time.Now()
	if err := <-opened; !errors.Is(err, context.Canceled) {
		t.Errorf("opened: %v", err)
	}
	if d := time.Since(began); d > patience/2 {
		t.Errorf("it waited for %s more", d)
	}
}

// A Unix socket whose file is not as it was made is bound anew, and the log says why: it
// said null.
func TestUnixSocketWithAnotherFile(t *testing.T) {
	for what, change := range map[string]func(path string) error{
		"has the mode 0666":        func(path string) error { return os.Chmod(path, 0o666) },
		"nobody can reach it":      os.Remove,
		"is not its file any more": func(path string) error { return errors.Join(os.Rename(path, path+".old"), leave(path)) },
		"it is not bound to":       func(path string) error { return errors.Join(os.Remove(path), leave(path)) },
	} {
		t.Run(what, func(t *testing.T) {
			s, _ := newStore(t)
			var said bytes.Buffer
			s.log = slog.New(slog.NewTextHandler(&said, nil))
			path := filepath.Join(t.TempDir(), "sock")
			l, err := s.ListenUnix(t.Context(), "nbd", path)
			if err != nil {
				t.Fatal(err)
			}
			var name string
			for n := range s.kept {
				name = n
			}
			f := fileOf(t, l)
			if what == "it is not bound to" {
				other, err := listenUnix(path + "2")
				if err != nil {
					t.Fatal(err)
				}
				defer other.Close()
				f.Close()
				f = fileOf(t, other)
			}
			l.Close()
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			s.inherited[name] = []*os.File{f}
			fresh, err := s.ListenUnix(t.Context(), "nbd", path)
			if err != nil {
				t.Fatal(err)
			}
			defer fresh.Close()
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != unixMode {
				t.Errorf("mode %v, %v", st.Mode(), err)
			}
			if !strings.Contains(said.String(), what) || strings.Contains(said.String(), "<nil>") {
				t.Errorf("it says %s", said.String())
			}
		})
	}
}

// leave leaves the file of a socket that nobody listens on.
func leave(path string) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	return l.Close()
}
