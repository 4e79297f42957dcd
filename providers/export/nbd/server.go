package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/throttle"
)

// Server answers NBD clients. Make one with New.
type Server struct {
	handler Handler
	limits  Limits
	log     *slog.Logger
	census  census // of machines
	locals  census // of programs of this machine, at a Unix socket
	buffers buffers
	disk    *lanes       // of READs that wait for a disk; see slowReads
	ahead   *lanes       // of CACHEs
	maps    *lanes       // of BLOCK_STATUS
	looked  atomic.Int64 // pieces in maps since others had their turn
	writes  slots        // of WRITE, TRIM and WRITE_ZEROES
	syncs   slots
	turns   turns
	conns   sync.WaitGroup
	counts  counts
	told    *throttle.Table // of complaints
	// security is never nil; see Secure.
	security atomic.Pointer[Security]
}

// New makes a server. A nil log discards.
func New(h Handler, l Limits, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l = l.WithDefaults()
	s := &Server{
		handler: h, limits: l, log: log,
		census: census{total: l.Connections, perAddr: l.PerAddress, halfOpen: l.HalfOpen, byAddr: map[netip.Addr]int{}},
		locals: census{total: l.Local, halfOpen: l.Local, byAddr: map[netip.Addr]int{}},
		disk:   newLanes(l.DiskReads),
		ahead:  newLanes(aheadLanes),
		maps:   newLanes(mapLanes).perAddress(max(1, runtime.GOMAXPROCS(0)/2)),
		writes: newSlots(l.DiskWrites),
		syncs:  newSlots(l.DiskWrites),
		told:   throttle.New(complaints, nil),
	}
	s.buffers.budget = l.Memory
	s.Secure(Security{})
	return s
}

// Serve accepts connections until l is closed or ctx ends; either is no error.
// It may be called for several listeners at once.
//
// Connections outlive their listener, as a socket that is no longer declared must
// not cut off who came through it. They end when ctx does; whoever calls Serve
// calls Wait after that.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	pause := time.Duration(0)
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.start(ctx, nc)
		case errors.Is(err, net.ErrClosed) || ctx.Err() != nil:
			return nil
		default: // out of descriptors, or the peer gave up: neither is for ever
			if pause = min(max(2*pause, 5*time.Millisecond), time.Second); pause == time.Second {
				s.log.Warn("nbd: accepting connections", "listen", l.Addr().String(), "err", err)
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}
}

// Wait returns when every connection is over. The contexts given to Serve must
// have ended.
func (s *Server) Wait() {
	s.conns.Wait()
	s.turns.wg.Wait()
}

func (s *Server) start(ctx context.Context, nc net.Conn) {
	remote := addrPort(nc.RemoteAddr())
	among := &s.census
	if !remote.IsValid() {
		among = &s.locals
	}
	place, instead, ok := among.enter(remote.Addr(), nc)
	if instead != nil {
		s.counts.refused.Add(1)
		s.log.Debug("nbd: connection dropped: too many that do not attach", "remote", instead.RemoteAddr())
		instead.Close()
	}
	if !ok {
		s.counts.refused.Add(1)
		s.log.Debug("nbd: connection refused: too many", "remote", remote)
		nc.Close()
		return
	}
	s.counts.connections.Add(1)
	s.conns.Add(1)
	go func() {
		defer s.conns.Done()
		defer among.leave(remote.Addr(), place)
		if tcp, ok := nc.(*net.TCPConn); ok {
			if err := tune(tcp, s.limits.Stall); err != nil {
				s.log.Debug("nbd: connection lost", "remote", remote, "err", err)
				nc.Close()
				return
			}
		}
		s.serveConn(ctx, nc, remote, func() { among.attached(place) })
	}()
}

// addrPort gives the address of a peer; the zero one when it has none of that
// kind, as with a Unix socket.
func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		ap := tcp.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// conn is one connection. All of it belongs to the goroutine of serveConn, but
// for what its comment says.
type conn struct {
	srv     *Server
	raw     net.Conn // as accepted; to close, by anyone
	nc      net.Conn // raw, or TLS over it. Reads: serveConn's goroutine only; writes: through outbox
	remote  netip.AddrPort
	in      *inbox
	log     *slog.Logger
	cancel  context.CancelFunc
	dropped atomic.Bool     // by anyone
	gone    <-chan struct{} // closed when it is

	attached func() // see serveConn

	secure *tls.Config // nil in "NOTLS mode"
	forced bool        // "FORCEDTLS mode"
	// tlsFailed is Security.Failed.
	tlsFailed func(netip.AddrPort, error)
	tls       *tls.ConnectionState // nil in the clear
	form      form
	// allocation names the export that base:allocation was selected for; nil when
	// it was not.
	allocation *string
}

// complaints are how often the log tells of one address that something of ours fails:
// five times, and then every ten seconds. Clients come back three times a second until
// it is mended.
var complaints = throttle.Limits{Each: 0.1, EachBurst: 5, All: 10, AllBurst: 100}

// complain logs that something of ours fails for this client, or reports false: there was
// too much of that.
func (c *conn) complain(msg string, args ...any) bool {
	if !c.srv.told.Take(c.remote.Addr()) {
		return false
	}
	c.log.Error(msg, args...)
	return true
}

// drop disconnects the client; see Peer.Drop.
func (c *conn) drop() {
	c.dropped.Store(true)
	c.cancel()
	c.raw.Close()
}

// serveConn does one connection, from greeting to close. attached is called before the
// client is told that it is.
func (s *Server) serveConn(ctx context.Context, nc net.Conn, remote netip.AddrPort, attached func()) {
	cctx, cancel := context.WithCancel(ctx)
	sec := s.security.Load()
	c := &conn{
		srv: s, raw: nc, nc: nc, remote: remote, cancel: cancel, gone: cctx.Done(), attached: attached,
		secure: sec.Config, forced: sec.Forced, tlsFailed: sec.Failed,
		in:  newInbox(nc, &s.buffers, s.limits.Stall),
		log: s.log.With("remote", remote),
	}
	defer c.drop()
	defer func() { c.in.close() }()
	stop := context.AfterFunc(ctx, c.drop)
	defer stop()

	exp, err := c.handshake(cctx)
	if err != nil {
		if !errors.Is(err, errGoodbye) {
			c.log.Debug("nbd: handshake failed", "err", err)
		}
		return
	}
	c.log.Debug("nbd: attached", "export", exp.Name)
	stats := c.transmit(exp)
	if c.tls != nil {
		c.nc.Close() // says goodbye: "Terminating the transmission phase"
	}
	if exp.Detached != nil {
		exp.Detached(stats)
	}
	c.log.Debug("nbd: detached", "export", exp.Name, "requests", stats.Requests, "err", stats.Err)
}
