package handover

import (
	"context"
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
// and an error. purpose is what it is called in the store. The service manager is not
// waited for once ctx has ended.
func (s *Store) ListenUnix(ctx context.Context, purpose, path string) (*net.UnixListener, error) {
	if len(path) > MaxUnixPath {
		return nil, fmt.Errorf("the path of the socket, %s, has %d bytes, and Linux allows %d: give a shorter one, such as one in /run", path, len(path), MaxUnixPath)
	}
	if s == nil {
		return listenUnix(path)
	}
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	for name := range s.inherited {
		if !strings.HasPrefix(name, purpose+"@") {
			continue
		}
		for _, f := range s.take(ctx, name) {
			l, err := adoptUnix(f, path, func(here os.FileInfo) bool { return unixName(purpose, here) == name })
			f.Close()
			if err == nil {
				s.kept[name] = true
				s.log.Info("a listener is taken over from the process before", "name", name)
				return l, nil
			}
			s.log.Warn("a listener of the process before is of no use, and is bound anew", "name", name, "why", err)
			s.remove(ctx, name)
		}
	}
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	l, err := listenUnix(path)
	if err != nil {
		return nil, err
	}
	if here, err := os.Lstat(path); err == nil {
		// Its file stays where it is, for the next process.
		l.SetUnlinkOnClose(false)
		s.keep(ctx, unixName(purpose, here), l)
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

// adoptUnix makes a listener of a stored file that is the one at path. same says whether
// the file that leads there is the one that was bound.
func adoptUnix(f *os.File, path string, same func(os.FileInfo) bool) (*net.UnixListener, error) {
	if err := serves(int(f.Fd()), unix.AF_UNIX, unix.SOCK_STREAM); err != nil {
		return nil, err
	}
	name, err := unix.Getsockname(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	if un, ok := name.(*unix.SockaddrUnix); !ok || un.Name != path {
		return nil, fmt.Errorf("it is not bound to %s", path)
	}
	here, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("nobody can reach it: %w", err)
	case here.Mode().Type() != os.ModeSocket || !same(here):
		return nil, fmt.Errorf("%s is not its file any more", path)
	case here.Mode().Perm() != unixMode:
		return nil, fmt.Errorf("%s has the mode %04o, not %04o", path, here.Mode().Perm(), unixMode)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil // it is of this kind
}

// unixMode is who may connect: the owner of the process, and its group.
const unixMode = 0o660

func listenUnix(path string) (*net.UnixListener, error) {
	if err := vacate(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, unixMode); err != nil {
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
