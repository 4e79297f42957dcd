package handover

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// MaxUnixPath is what sockaddr_un has room for besides its NUL; see unix(7).
const MaxUnixPath = 107

// ListenUnix gives the unix socket at path, readable and writable for its owner and
// group: the one that the process before left there and in s, else a new one. A socket
// file that no process listens on is replaced; anything else that is there is left alone,
// and an error. purpose is what it is called in the store.
func (s *Store) ListenUnix(purpose, path string) (*net.UnixListener, error) {
	if len(path) > MaxUnixPath {
		return nil, fmt.Errorf("the path of the socket, %s, has %d bytes, and Linux allows %d: give a shorter one, such as one in /run", path, len(path), MaxUnixPath)
	}
	if s == nil {
		return listenUnix(path)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	here, err := os.Lstat(path)
	for name := range s.inherited {
		if !strings.HasPrefix(name, purpose+"@") {
			continue
		}
		for _, f := range s.take(name) {
			l, adopted := adoptUnix(f, path)
			f.Close()
			if err == nil && adopted == nil && name == unixName(purpose, here) {
				s.kept[name] = true
				s.log.Info("a listener is taken over from the process before", "name", name)
				return l, nil
			}
			if l != nil {
				l.Close()
			}
			s.log.Warn("a listener of the process before is of no use, and is bound anew", "name", name, "why", adopted)
			s.remove(name)
		}
	}
	s.settle()
	l, err := listenUnix(path)
	if err != nil {
		return nil, err
	}
	if here, err = os.Lstat(path); err == nil {
		// Its file stays where it is, for the next process.
		l.SetUnlinkOnClose(false)
		s.keep(unixName(purpose, here), l)
	}
	return l, nil
}

// unixName is the name of a unix socket in the store. The file that leads to a socket is
// not the socket: only its inode tells whether it still is the one that was bound.
func unixName(purpose string, file os.FileInfo) string {
	name := purpose + "@"
	if st, ok := file.Sys().(*syscall.Stat_t); ok {
		name += strconv.FormatUint(st.Dev, 16) + "." + strconv.FormatUint(st.Ino, 16)
	}
	return name
}

func adoptUnix(f *os.File, path string) (*net.UnixListener, error) {
	if err := serves(int(f.Fd()), unix.SOCK_STREAM); err != nil {
		return nil, err
	}
	name, err := unix.Getsockname(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	if un, ok := name.(*unix.SockaddrUnix); !ok || un.Name != path {
		return nil, fmt.Errorf("it is not bound to %s", path)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil // it is of this kind
}

func listenUnix(path string) (*net.UnixListener, error) {
	if err := vacate(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// vacate removes a socket that a daemon left behind when it died.
func vacate(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s is there and is no socket: give another path", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return fmt.Errorf("another daemon listens on %s: give another path", path)
	}
	return os.Remove(path)
}
