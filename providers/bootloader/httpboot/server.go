package httpboot

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"
)

// File is an open file. Its bytes, size and digest do not change while it is open.
type File interface {
	io.ReaderAt
	Size() int64
	Digest() string // names the bytes: equal digests are equal files; becomes the ETag
	// OSFile gives the file that holds exactly the bytes, so that the kernel can
	// send them, or nil when they are not in one. Its offset is neither used nor
	// moved.
	OSFile() *os.File
	// Release is called once, when the answer is sent.
	Release()
}

// Config says what is served, and to how many. The zero value of every field but
// Open is usable.
type Config struct {
	// Open gives the file that is asked for. An error that is fs.ErrNotExist becomes
	// status 404, fs.ErrPermission 403, any other 500.
	Open func(Request) (File, error)
	// Phone is told what a machine reports. stage has 1 to 32 of a–z, 0–9 and "-".
	Phone func(client netip.AddrPort, stage string)
	// Done is told of each GET when its answer is sent or was broken off. It is
	// called from many goroutines, like Open and Phone; none may block for long.
	Done func(Transfer)

	Log *slog.Logger     // nil: discarded
	Now func() time.Time // nil: time.Now

	MaxConns          int // connections at the same time; 0 means 2048
	MaxConnsPerClient int // from one address; 0 means 32
	// Grace is how long answers under way may go on after the end; 0 means 3 s.
	Grace time.Duration
}

// Request is what a client asks for.
type Request struct {
	Client netip.AddrPort
	Name   string // no leading slash, no empty, "." or ".." element, at most 255 bytes
	Agent  string // the header User-Agent: "iPXE/1.0.0+"
}

// Transfer says how one GET ended.
type Transfer struct {
	Client netip.AddrPort
	Name   string
	File   File // what Open gave, released by now; nil when it gave an error
	Status int
	Size   int64 // of the file; 0 when it could not be opened
	Bytes  int64 // taken by the client's connection; of the body
	Took   time.Duration
	// Whole says that this one answer held the complete file and was sent to its
	// end. An answer to a range is whole only when it covers everything.
	Whole bool
	// Err says why the file was not opened or the answer not sent to its end.
	Err error
}

// Server answers HTTP requests. Its limits hold over all sockets it serves. Safe
// for concurrent use.
type Server struct {
	cfg   Config
	conns *gate
	gone  time.Duration // goneTimeout
}

// NewServer makes a server. Nothing runs until Serve.
func NewServer(cfg Config) *Server {
	if cfg.Phone == nil {
		cfg.Phone = func(netip.AddrPort, string) {}
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
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = 2048
	}
	if cfg.MaxConnsPerClient <= 0 {
		cfg.MaxConnsPerClient = 32
	}
	if cfg.Grace <= 0 {
		cfg.Grace = 3 * time.Second
	}
	return &Server{cfg: cfg, conns: newGate(cfg.MaxConns, cfg.MaxConnsPerClient), gone: goneTimeout}
}

// Serve answers on ln, and owns it.
//
// When ln is closed by somebody else, no new connection is taken, answers under
// way are finished, and Serve returns when the last connection is closed. When ctx
// ends, Serve closes ln, and after Config.Grace what is still open. Either way it
// returns nil, and nothing it started runs any more. An error means that ln can no
// longer be used although it is open.
func (s *Server) Serve(ctx context.Context, ln *net.TCPListener) error {
	var alive sync.WaitGroup // connections
	hs := &http.Server{
		Handler: http.HandlerFunc(s.route),
		// No limit on a whole request or answer: a slow machine may take its time
		// for a large file. One that takes nothing is dropped by the kernel, see
		// userTimeout.
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
		ConnState: func(c net.Conn, st http.ConnState) {
			switch st {
			case http.StateNew:
				alive.Add(1)
			case http.StateActive:
				c.(*conn).idle.Store(false)
			case http.StateIdle:
				c.(*conn).idle.Store(true)
			case http.StateClosed, http.StateHijacked:
				alive.Done()
			}
		},
	}
	gl := &listener{TCPListener: ln, gate: s.conns, gone: s.gone, closed: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- hs.Serve(gl) }()
	var err error
	select {
	case err = <-ended: // ln was closed, or broke
		hs.Shutdown(ctx) // ends with the last connection, or with ctx
	case <-ctx.Done():
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Grace)
		hs.Shutdown(grace)
		cancel()
		err = <-ended
	}
	hs.Close()
	alive.Wait()
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
