package nbd

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A guest that is powered off leaves no FIN: its connection must end by itself. A client
// that may take nothing for a while must not lose its connection before.
func TestVanishedPeersAreNoticed(t *testing.T) {
	for stall, timeout := range map[time.Duration]int{
		5 * time.Second: 40_000, 40 * time.Second: 40_000, 60 * time.Second: 60_000, time.Hour: 3_600_000,
	} {
		t.Run(stall.String(), func(t *testing.T) { wantTuned(t, stall, timeout) })
	}
}

// wantTuned checks the options of a connection as the server accepts it.
func wantTuned(t *testing.T, stall time.Duration, timeout int) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tap := &tapped{Listener: l, accepted: make(chan *net.TCPConn, 1)}
	h := newShelf()
	h.add("x", newDisk(4096), Info{})
	_, stop := serveOn(t, tap, h, Limits{Stall: stall})
	t.Cleanup(stop)
	nc, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	cl := &client{t: t, nc: nc, in: newReader(nc)}
	cl.attach("x")
	raw, err := receive(t, tap.accepted).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]struct{ level, opt, want int }{
		"SO_KEEPALIVE":     {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		"TCP_KEEPIDLE":     {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 10},
		"TCP_KEEPINTVL":    {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 10},
		"TCP_KEEPCNT":      {unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3},
		"TCP_USER_TIMEOUT": {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, timeout},
		"TCP_NODELAY":      {unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
	} {
		var got int
		raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), o.level, o.opt) })
		if err != nil || got != o.want {
			t.Errorf("%s is %d, want %d (%v)", name, got, o.want, err)
		}
	}
}

// tapped is a listener that shows what it accepted.
type tapped struct {
	net.Listener
	accepted chan *net.TCPConn
}

func (l *tapped) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if tcp, ok := nc.(*net.TCPConn); ok {
		l.accepted <- tcp
	}
	return nc, err
}
