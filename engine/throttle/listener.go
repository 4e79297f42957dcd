package throttle

import (
	"net"
	"net/netip"
	"sync"
)

// Listener accepts from another one, and closes at once what is too much: a client
// that holds connections open without a word takes room from nobody but its address.
type Listener struct {
	net.Listener
	all, each int

	mu   sync.Mutex // guards the fields below
	open int
	by   map[netip.Prefix]int
}

// Listen bounds l to so many connections at once, in all and of each address. It owns
// l.
func Listen(l net.Listener, all, each int) *Listener {
	return &Listener{Listener: l, all: all, each: each, by: map[netip.Prefix]int{}}
}

// Accept gives the next connection that there is room for.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		k := key(Addr(c.RemoteAddr()))
		if l.enter(k) {
			return &conn{Conn: c, leave: sync.OnceFunc(func() { l.leave(k) })}, nil
		}
		c.Close() // nobody was promised anything
	}
}

func (l *Listener) enter(k netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.all || l.by[k] >= l.each {
		return false
	}
	l.open++
	l.by[k]++
	return true
}

func (l *Listener) leave(k netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.by[k]--; l.by[k] == 0 {
		delete(l.by, k)
	}
}

type conn struct {
	net.Conn
	leave func()
}

func (c *conn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// CloseWrite ends what is sent and no more, where the connection can: an HTTP server
// does that for a client that has not finished sending yet.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// Addr gives the address of a peer, without its port; the zero Addr of one that has
// none.
func Addr(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
