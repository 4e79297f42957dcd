package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/handover"
	"github.com/dlreconcile/dlreconcile/engine/node"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Server answers the API. It owns no goroutine beyond those of Serve.
type Server struct {
	Engine *engine.Engine
	Nodes  *node.Tracker
	Store  *store.Store
	Log    *slog.Logger
	// Principals are those whose role the settings name; nil: nobody.
	Principals *Principals
	// Metrics answers GET /metrics; nil: nothing is counted.
	Metrics http.Handler
	// Overlays are what machines wrote; nil: nobody has written anything.
	Overlays provider.Overlays

	patience patience   // with clients
	copies   sync.Mutex // held by the one request that copies disks
	large    sync.Mutex // held by the one request whose body may be large, to its end

	plans, viewersPlans turnstile // see planning
}

// maxBody bounds a request: the largest legitimate one is a few hundred bytes.
const maxBody = 64 << 10

// maxApply bounds the one that may carry a saved plan, in base64.
const maxApply = engine.MaxSavedPlan/3*4 + maxBody

// maxShared bounds the bodies that several requests may have at once. Larger ones take
// turns: the largest costs this process more than half a gigabyte.
const maxShared = 4 << 20

// Listen binds the unix socket of the API; see handover.Store.ListenUnix.
func Listen(ctx context.Context, kept *handover.Store, path string) (net.Listener, error) {
	fail := func(err error) error { return fmt.Errorf("api: %w", err) }
	if err := failpoint.Hit("api.listen.bind"); err != nil {
		return nil, fail(err)
	}
	l, err := kept.ListenUnix(ctx, "api", path)
	if err != nil {
		return nil, fail(err)
	}
	if err := failpoint.Hit("api.listen.bound"); err != nil {
		l.Close()
		return nil, fail(err)
	}
	return l, nil
}

// Serve answers on l, a unix socket, until ctx ends, and returns when every request
// has ended. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, l, &http.Server{Handler: s.routes(s.local), ConnContext: withPeer}, shutdownGrace)
}

// serve runs srv on l. Requests have grace to end when ctx does.
func (s *Server) serve(ctx context.Context, l net.Listener, srv *http.Server, grace time.Duration) error {
	// Requests see this ctx, so they end by themselves.
	ctx, cancel := context.WithCancel(ctx)
	var requests sync.WaitGroup
	answer := srv.Handler
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		defer requests.Done()
		answer.ServeHTTP(w, r)
	})
	srv.ReadHeaderTimeout = s.patience.orDefault().header
	srv.MaxHeaderBytes = maxBody
	srv.BaseContext = func(net.Listener) context.Context { return ctx }
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		if srv.Shutdown(end) != nil {
			srv.Close() // who does not read what it asked for is cut off
		}
	}()
	err := srv.Serve(l)
	asked := ctx.Err() != nil
	cancel()
	<-done
	requests.Wait()
	if asked {
		return nil
	}
	return fmt.Errorf("api: %w", err)
}

// log is where the server says what nobody asked for.
func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// shutdownGrace is how long a request may take to see that it is over. Over TCP it is
// less: a stranger who opens a connection and says nothing must not hold up a restart.
const (
	shutdownGrace    = 5 * time.Second
	shutdownGraceTCP = time.Second
)

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	// An error here is the client's going away; there is nobody to tell.
	_ = enc.Encode(v)
}

// encode gives the bytes that reply would write.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return b.Bytes(), err
}

func problem(w http.ResponseWriter, code int, err error) {
	p := Problem{Error: err.Error()}
	var diags hcl.Diagnostics
	if errors.As(err, &diags) {
		p.Diagnostics = schema.ToDiagnostics(diags)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(p)
}

// decode reads a JSON body of at most limit bytes strictly; an empty body leaves v as
// it is.
func decode(w http.ResponseWriter, r *http.Request, v any, limit int64) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		problem(w, http.StatusBadRequest, fmt.Errorf("request body: %w", err))
		return false
	}
	return true
}
