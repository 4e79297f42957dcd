package httpboot

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// How long sent bytes may stay unacknowledged, or the client's window closed, before
// the kernel drops the connection (TCP_USER_TIMEOUT): a machine that was switched off,
// or one that stopped reading.
const (
	userTimeout = 60 * time.Second
	// goneTimeout is that of a client which closed its side after its last answer:
	// GRUB is gone by then, and comes back with the same ports.
	goneTimeout = 10 * time.Second
)

// gate counts connections.
type gate struct {
	slots     chan struct{}
	perClient int

	mu     sync.Mutex // guards client
	client map[netip.Addr]int
}

func newGate(total, perClient int) *gate {
	return &gate{slots: make(chan struct{}, total), perClient: perClient, client: map[netip.Addr]int{}}
}

func (g *gate) enter(a netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.client[a] >= g.perClient {
		return false
	}
	g.client[a]++
	return true
}

func (g *gate) leave(a netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.client[a]--; g.client[a] <= 0 {
		delete(g.client, a)
	}
}

// listener accepts as many connections as its gate lets in. The rest of them wait
// in the kernel's queue; those of a client that has too many are refused.
type listener struct {
	*net.TCPListener
	gate   *gate
	gone   time.Duration // see goneTimeout
	once   sync.Once
	closed chan struct{}
}

// Close also ends an Accept that waits for the gate.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.TCPListener.Close()
}

// Accept gives the next connection that is let in.
func (l *listener) Accept() (net.Conn, error) {
	for {
		select {
		case l.gate.slots <- struct{}{}:
		case <-l.closed:
			return nil, net.ErrClosed
		}
		c, err := l.AcceptTCP()
		if err != nil {
			<-l.gate.slots
			return nil, err
		}
		from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		if !l.gate.enter(from) {
			<-l.gate.slots
			c.SetLinger(0)
			c.Close()
			continue
		}
		c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 4})
		patience(c, userTimeout)
		return &conn{TCPConn: c, gone: l.gone, leave: sync.OnceFunc(func() {
			l.gate.leave(from)
			<-l.gate.slots
		})}, nil
	}
}

// conn is one connection. Embedding *net.TCPConn keeps ReadFrom, and with it
// sendfile.
type conn struct {
	*net.TCPConn
	leave func()
	gone  time.Duration
	idle  atomic.Bool // between two requests
}

// patience sets how long the client may be silent.
func patience(c *net.TCPConn, d time.Duration) {
	control(c, func(fd int) {
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}

// Close closes the connection: with a reset, if it is idle and the client has
// acknowledged everything. An orderly close would leave it in LAST-ACK when the
// client is gone, and GRUB uses the same local ports at every boot: the next
// boot's SYN would meet the old connection and time out, GRUB would go on without
// an initrd, and the kernel panic. Where bytes are still under way a reset would
// destroy them, and the close is orderly; the kernel drops such a connection when
// they are not acknowledged within goneTimeout.
func (c *conn) Close() error {
	c.leave()
	if c.idle.Load() {
		unsent := 1
		control(c.TCPConn, func(fd int) {
			if n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ); err == nil {
				unsent = n
			}
		})
		if unsent == 0 {
			c.SetLinger(0)
		} else {
			patience(c.TCPConn, c.gone)
		}
	}
	return c.TCPConn.Close()
}

// control calls f with the file descriptor, if the connection is open.
func control(c *net.TCPConn, f func(fd int)) {
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}
