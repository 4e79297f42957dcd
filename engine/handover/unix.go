package handover

import (
	"errors"
	"fmt"
	"net"
	"os"
)

// MaxUnixPath is what sockaddr_un has room for besides its NUL; see unix(7).
const MaxUnixPath = 107

// ListenUnix binds the unix socket at path, readable and writable for its owner and
// group. A socket file that no process listens on is replaced; anything else that is
// there is left alone, and an error.
func ListenUnix(path string) (*net.UnixListener, error) {
	if len(path) > MaxUnixPath {
		return nil, fmt.Errorf("the path of the socket, %s, has %d bytes, and Linux allows %d: give a shorter one, such as one in /run", path, len(path), MaxUnixPath)
	}
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
