package handover

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// TCP gives what makes a listener on an address of a stored file.
func TCP(at netip.AddrPort) func(*os.File) (*net.TCPListener, error) {
	return func(f *os.File) (*net.TCPListener, error) {
		if err := check(f, unix.SOCK_STREAM, at); err != nil {
			return nil, err
		}
		l, err := net.FileListener(f)
		if err != nil {
			return nil, err
		}
		if t, ok := l.(*net.TCPListener); ok {
			return t, nil
		}
		return nil, errors.Join(errors.New("it is no TCP listener"), l.Close())
	}
}

// UDP gives what makes a socket on an address of a stored file. device is the interface
// that it is bound to, "" for none.
func UDP(at netip.AddrPort, device string) func(*os.File) (*net.UDPConn, error) {
	return func(f *os.File) (*net.UDPConn, error) {
		if err := check(f, unix.SOCK_DGRAM, at); err != nil {
			return nil, err
		}
		bound, err := unix.GetsockoptString(int(f.Fd()), unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
		switch {
		case err != nil: // ENODEV: that interface is gone
			return nil, fmt.Errorf("its interface: %w", err)
		case bound != device:
			return nil, fmt.Errorf("it is bound to interface %q, not to %q", bound, device)
		}
		c, err := net.FilePacketConn(f)
		if err != nil {
			return nil, err
		}
		if u, ok := c.(*net.UDPConn); ok {
			return u, nil
		}
		return nil, errors.Join(errors.New("it is no UDP socket"), c.Close())
	}
}

// check says why a file is not the socket that would be bound anew: the kernel knows.
func check(f *os.File, kind int, at netip.AddrPort) error {
	fd := int(f.Fd())
	if err := serves(fd, unix.AF_INET, kind); err != nil {
		return err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	in4, ok := name.(*unix.SockaddrInet4)
	if !ok {
		return errors.New("it is not of IPv4")
	}
	if got := netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port)); got != at {
		return fmt.Errorf("it is bound to %s, not to %s", got, at)
	}
	here, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(here)
	ours, err1 := unix.GetsockoptUint64(here, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	its, err2 := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err1 == nil && err2 == nil && ours != its { // Linux before 5.14 does not say
		return errors.New("it is of another network namespace")
	}
	return nil
}

// serves says why a descriptor is no socket of a family and a kind that takes what comes.
func serves(fd, family, kind int) error {
	of, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("it is no socket: %w", err)
	}
	got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	switch {
	case err != nil:
		return fmt.Errorf("it is no socket: %w", err)
	case of != family:
		return fmt.Errorf("it is a socket of family %d, not %d", of, family)
	case got != kind:
		return fmt.Errorf("it is a socket of type %d, not %d", got, kind)
	case kind != unix.SOCK_STREAM:
		return nil
	}
	if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 {
		return errors.New("it does not listen")
	}
	return nil
}
