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
	// Open gives the file of that name. The name has no leading slash, no empty,
	// "." or ".." element, and at most 255 bytes. An error that is fs.ErrNotExist
	// becomes TFTP error 1, fs.ErrPermission error 2, any other error 0. Open is
	// called by the goroutine that reads requests: it must not block.
	Open func(client netip.AddrPort, name string) (File, error)
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
	// until its place is needed. A transfer in lockstep, where the client asked for
	// neither window nor timeout, knows none of this: it repeats every Timeout, is
	// held for Timeout × (Retries + 1), and keeps its place.
	Timeout time.Duration
	Retries int
}

// Transfer says how one request ended.
type Transfer struct {
	Client     netip.AddrPort
	Name       string
	Size       int64 // of the file, bytes; 0 when it could not be opened
	Bytes      int64 // acknowledged by the client
	Took       time.Duration
	BlockSize  int
	WindowSize int   // 1 is lockstep
	Resent     int64 // datagrams sent more than once; lockstep transfers do not count them
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
}

// NewServer makes a server. Nothing runs until Serve.
func NewServer(cfg Config) *Server {
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
	return &Server{cfg: cfg, ledger: newLedger(cfg.MaxTransfers, cfg.MaxTransfersPerClient, cfg.Timeout)}
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
