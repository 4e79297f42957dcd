// Package webhook listens for what a Git forge sends when somebody pushes. All that
// such a request can do is have the repo looked at: its body is checked, and otherwise
// ignored, so one that is sent again does no harm.
package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/dlreconcile/dlreconcile/engine/throttle"
)

// Config is what a Server needs.
type Config struct {
	// Secret gives what is shared with the forge, for each request anew. An error
	// refuses the request.
	Secret func() ([]byte, error)
	// Certificate is shown to whoever connects; nil: plain HTTP.
	Certificate func() (*tls.Certificate, error)
	Poke        func()       // has the repo looked at; does not wait
	Log         *slog.Logger // nil: nowhere
	Now         func() time.Time

	readTimeout time.Duration // 0: the default
}

const (
	maxBody     = 1 << 20
	maxHeader   = 16 << 10
	connections = 64 // at once
	perAddress  = 16

	headerTimeout = 10 * time.Second
	bodyTimeout   = 30 * time.Second
	idleTimeout   = 30 * time.Second
	shutdownGrace = time.Second
)

// limits are far above what a forge sends, and far below what costs this machine
// anything.
var limits = throttle.Limits{Each: 2, EachBurst: 20, All: 50, AllBurst: 100}

// Counts says what came of all requests so far.
type Counts struct {
	Accepted uint64 // signed well: the repo was looked at
	Forged   uint64 // not signed, or not with the secret
	Flooded  uint64 // too many: not looked at
	Refused  uint64 // no POST, too large, broken off
}

// Server answers a forge. Its methods may be called from several goroutines at once.
type Server struct {
	cfg   Config
	log   *slog.Logger
	table *throttle.Table
	some  rate.Sometimes // lines about strangers

	accepted, forged, flooded, refused atomic.Uint64
}

// New makes a server.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.readTimeout == 0 {
		cfg.readTimeout = bodyTimeout
	}
	return &Server{
		cfg: cfg, log: cfg.Log, table: throttle.New(limits, cfg.Now),
		some: rate.Sometimes{First: 10, Interval: time.Second},
	}
}

// Counts says what came of all requests so far.
func (s *Server) Counts() Counts {
	return Counts{s.accepted.Load(), s.forged.Load(), s.flooded.Load(), s.refused.Load()}
}

// Serve answers on l until ctx ends, and returns when every request has ended. It
// closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler: s, ReadHeaderTimeout: headerTimeout, ReadTimeout: s.cfg.readTimeout, WriteTimeout: s.cfg.readTimeout + headerTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: log.New(connectionLog{s}, "", 0),
	}
	l = throttle.Listen(l, connections, perAddress)
	if s.cfg.Certificate != nil {
		l = tls.NewListener(l, &tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cfg.Certificate() },
		})
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	}()
	err := srv.Serve(l)
	asked := ctx.Err() != nil
	cancel()
	<-done
	if asked {
		return nil
	}
	return fmt.Errorf("webhook: %w", err)
}

// ServeHTTP answers one request, of any path: 202 when the repo is looked at.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		s.refuse(w, http.StatusMethodNotAllowed, "want a POST, as a forge sends it", &s.refused)
		return
	}
	from := source(r)
	if !s.table.Take(from) {
		w.Header().Set("Retry-After", "10")
		s.refuse(w, http.StatusTooManyRequests, "too many requests: the repo is looked at anyway", &s.flooded)
		return
	}
	if r.ContentLength > maxBody {
		s.refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("more than %d bytes: send fewer kinds of events", maxBody), &s.refused)
		return
	}
	secret, err := s.cfg.Secret()
	if err != nil || len(secret) == 0 {
		s.some.Do(func() { s.log.Error("webhooks cannot be checked", "error", err) })
		s.refuse(w, http.StatusServiceUnavailable, "this server cannot check signatures now: see its log", &s.refused)
		return
	}
	p := proofs(r.Header, secret)
	if len(p) > 0 { // else nothing in the body would help
		switch err := p.read(http.MaxBytesReader(w, r.Body, maxBody)); {
		case errors.As(err, new(*http.MaxBytesError)):
			s.refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("more than %d bytes: send fewer kinds of events", maxBody), &s.refused)
			return
		case err != nil:
			s.refuse(w, http.StatusBadRequest, "the body ends too early, or came too slowly", &s.refused)
			return
		}
	}
	forge, ok := p.good()
	if !ok {
		s.some.Do(func() { s.log.Warn("a webhook is refused: it is not signed with the secret", "address", r.RemoteAddr) })
		s.refuse(w, http.StatusForbidden, "not signed with the secret that is shared with this server", &s.forged)
		return
	}
	s.accepted.Add(1)
	s.log.Info("a webhook: looking at the repo", "address", r.RemoteAddr, "forge", forge)
	s.cfg.Poke()
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, "The repo is looked at.\n") // an error here is the client's going away
}

func (s *Server) refuse(w http.ResponseWriter, code int, why string, count *atomic.Uint64) {
	count.Add(1)
	w.Header().Set("Connection", "close") // what is left of it is not read
	http.Error(w, why, code)
}

// source gives the address that a request comes from; of one that has none, the zero
// Addr, which counts as one too.
func source(r *http.Request) netip.Addr {
	ap, _ := netip.ParseAddrPort(r.RemoteAddr)
	return ap.Addr()
}

// connectionLog tells of connections that fail before there is a request.
type connectionLog struct{ s *Server }

func (c connectionLog) Write(b []byte) (int, error) {
	c.s.some.Do(func() {
		c.s.log.Warn("a connection for a webhook fails", "why", strings.TrimSpace(string(b)))
	})
	return len(b), nil
}
