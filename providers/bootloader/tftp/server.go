package tftp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
)

// File is an open file. Its bytes and size do not change while it is open.
type File interface {
	io.ReaderAt
	Size() int64
	// Release is called once, when the transfer is over.
	Release()
}

// Config says what is served, and to how many. The zero value of every field but
// Open is usable.
type Config struct {
	// Open gives the file that is asked for. An error that is fs.ErrNotExist becomes
	// TFTP error 1, fs.ErrPermission error 2, any other error 0. Open is called by
	// the goroutine that reads requests: it must not block, unless Slow says so.
	Open func(Request) (File, error)
	// Slow reports whether Open of that name may block: then it is called by a
	// goroutine of its own. nil: it never does.
	Slow func(name string) bool
	// Done is told of each transfer when it is over, and of each request for
	// which Open gave an error. It is called from many goroutines and must not
	// block.
	Done func(Transfer)

	Log *slog.Logger     // nil: discarded
	Now func() time.Time // nil: time.Now

	MaxTransfers          int // at the same time; 0 means 2048
	MaxTransfersPerClient int // at the same time from one address; 0 means 32

	// Timeout is how long a datagram waits for its acknowledgement before it is
	// sent again at first, unless the client negotiates another; 0 means one
	// second. It is doubled with every repetition, up to what was negotiated and
	// to 4 × Timeout. Retries is how often; 0 means 5. A client that vanished holds
	// its transfer, and Serve's return, for less than 4 × Timeout × (Retries + 1);
	// one that never acknowledged anything, for at most 12 × Timeout, and only
	// until its place is needed. A transfer in netascii knows none of this: it repeats
	// every Timeout, is held for Timeout × (Retries + 1), and keeps its place.
	Timeout time.Duration
	Retries int
}

// Request is what a client asks for.
type Request struct {
	Client netip.AddrPort
	Name   string // no leading slash, no empty, "." or ".." element, at most 255 bytes
	// Options are those that were sent, as they were spelled and in their order:
	// "blksize=1432 tsize=0".
	Options string
}

// Transfer says how one request ended.
type Transfer struct {
	Client     netip.AddrPort
	Name       string
	File       File  // what Open gave, released by now; nil when it gave an error
	Size       int64 // of the file, bytes; 0 when it could not be opened
	Bytes      int64 // acknowledged by the client
	Took       time.Duration
	BlockSize  int
	WindowSize int   // 1 is lockstep
	Resent     int64 // datagrams sent more than once; not counted in netascii
	// Probe says that the client only wanted to know the size: it asked for tsize
	// and broke off before it acknowledged any data. EDK2, PXELINUX and most PXE
	// ROMs do so before the real transfer. Err is nil then.
	Probe bool
	// Err is nil when the client acknowledged the whole file.
	Err error
}

// Server answers read requests. Its limits hold over all sockets it serves. Safe
// for concurrent use.
type Server struct {
	cfg    Config
	ledger ledger
	seats  seats
}

// NewServer makes a server. Nothing runs until Serve.
func NewServer(cfg Config) *Server {
	if cfg.Slow == nil {
		cfg.Slow = func(string) bool { return false }
	}
	if cfg.Done == nil {
		cfg.Done = func(Transfer) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.MaxTransfers <= 0 {
		cfg.MaxTransfers = 2048
	}
	if cfg.MaxTransfersPerClient <= 0 {
		cfg.MaxTransfersPerClient = 32
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = time.Second
	}
	if cfg.Retries <= 0 {
		cfg.Retries = 5
	}
	return &Server{
		cfg: cfg, seats: newSeats(),
		ledger: newLedger(cfg.MaxTransfers, cfg.MaxTransfersPerClient, cfg.Timeout),
	}
}

// Active counts the transfers under way.
func (s *Server) Active() int { return s.ledger.active() }

// Serve answers requests that arrive on conn, and owns conn.
//
// When conn is closed by somebody else, no new request is taken and Serve returns
// when the transfers under way have ended. When ctx ends, Serve closes conn and
// breaks off the transfers: the clients are told. Either way it returns nil, and
// nothing it started runs any more. An error means that conn can no longer be
// read although it is open.
func (s *Server) Serve(ctx context.Context, conn *net.UDPConn) error {
	f := &front{srv: s, conn: conn, interrupted: ctx.Err, claims: map[string]*transfer{}}
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	f.local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	if f.local.Addr().IsUnspecified() {
		// The answer must leave from the address that the client asked.
		if err := ipv4.NewPacketConn(conn).SetControlMessage(ipv4.FlagDst, true); err != nil {
			conn.Close()
			return err
		}
		f.anyAddr = true
	}
	var windowed sync.WaitGroup
	f.window = func(t *transfer) {
		windowed.Go(func() { s.sendWindowed(ctx, t) })
	}
	f.slowly = func(t *transfer) {
		windowed.Go(func() {
			if _, ok := f.open(t); ok {
				s.sendWindowed(ctx, t)
			}
		})
	}
	f.lockstep = newLockstep(f)

	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		conn.Close()
		close(closed)
	})
	// ReadFrom of front ends this when conn cannot be read any more.
	err := f.lockstep.Serve(f)
	windowed.Wait()
	if !stop() {
		<-closed
	}
	conn.Close()
	if err == nil && f.err != nil && !errors.Is(f.err, net.ErrClosed) {
		err = f.err
	}
	return err
}
