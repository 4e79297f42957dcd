package sock

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Check has the set ask f, every few seconds, why a socket that is being served is not
// any more what was bound: nobody tells who reads from it that its interface went. f
// returns nil when it still is. One that is not is closed, and opened again as one whose
// serve has failed. A socket of another network namespace than Run's is believed: other
// interfaces are there, and it could not be opened again. Check is called before Run,
// once, and gives s.
func (s *Set[K, S]) Check(f func(K, S) error) *Set[K, S] {
	s.check = f
	return s
}

// examine closes the sockets that are not what was bound.
func (s *Set[K, S]) examine() {
	if s.check == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	space := namespace()
	for k, e := range s.socks {
		if e.since.IsZero() || e.broken != nil || e.space != space {
			continue
		}
		if err := s.check(k, e.sock); err != nil {
			e.broken = err
			e.sock.Close() // serve returns
		}
	}
}

// Lost says, of every socket that should serve and cannot be reached, why: its serve has
// ended and it could not be opened again yet, or the address that at gives for it is on
// no interface. An address that is not valid, or that stands for all, is on every one.
func (s *Set[K, S]) Lost(at func(K) netip.Addr) map[K]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	here, space := addresses(), namespace()
	lost := map[K]error{}
	for k, e := range s.socks {
		switch {
		case !e.active:
		case e.err != nil && e.since.IsZero():
			lost[k] = e.err
		case e.space == space && !here(at(k)): // elsewhere there are other interfaces
			lost[k] = fmt.Errorf("no network interface has the address %s any more", at(k))
		}
	}
	return lost
}

// addresses gives a function that reports whether the machine has an address. Where that
// cannot be found out it has all.
func addresses() func(netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	has := map[netip.Addr]bool{}
	for _, a := range all {
		if p, perr := netip.ParsePrefix(a.String()); perr == nil {
			has[p.Addr().Unmap()] = true
		}
	}
	return func(a netip.Addr) bool {
		return err != nil || !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || has[a.Unmap()]
	}
}

var errNotListening = errors.New("the socket does not listen any more: somebody shut it down")

// Listening says why a TCP listener takes no connections any more, nil when it does: a
// socket that was destroyed from outside is open, and silent.
func Listening(l syscall.Conn) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	accepts := 1
	cerr := raw.Control(func(fd uintptr) { accepts, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN) })
	if err := errors.Join(err, cerr); err != nil {
		return err
	}
	if accepts == 0 {
		return errNotListening
	}
	return nil
}

// namespace tells network namespaces apart: SO_NETNS_COOKIE of socket(7), since Linux
// 5.14; 0 where that is not known.
func namespace() uint64 {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return cookie
}
