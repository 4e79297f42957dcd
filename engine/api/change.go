package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/engine"
)

func (s *Server) apply(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength < 0 || r.ContentLength > maxShared { // below 0: it does not say
		if !s.large.TryLock() {
			// Read to its end, or the client finds a closed socket before it looks for an
			// answer.
			_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxApply))
			problem(w, http.StatusServiceUnavailable, errors.New("another large plan is being applied: try again when it is done"))
			return
		}
		defer s.large.Unlock()
	}
	var req ApplyRequest
	if !decode(w, r, &req, maxApply) {
		return
	}
	if err := engine.CheckOverrides(req.Overrides); err != nil {
		problem(w, http.StatusBadRequest, err)
		return
	}
	if len(req.Overrides) > 0 && !s.allowed(w, r, RoleAdmin, "passing rules of the policy ("+strings.Join(req.Overrides, ", ")+")") {
		return
	}
	var try time.Duration
	if req.Try != "" {
		var err error
		if try, err = time.ParseDuration(req.Try); err == nil {
			err = engine.CheckTry(try)
			if try == 0 {
				err = errors.New("try: a trial of no time would never be one")
			}
		}
		if err != nil {
			problem(w, http.StatusBadRequest, fmt.Errorf("try: %w", err))
			return
		}
	}
	if req.Saved != nil && (req.Revision != "" || req.Generation != nil) {
		problem(w, http.StatusBadRequest, errors.New("a saved plan says its revision and generation itself: leave them out"))
		return
	}
	if req.Saved == nil && req.Generation == nil {
		req.Generation = decidedOn(r) // when its turn comes too, and not only now
	}
	s.stream(w, r, func(ctx context.Context) (engine.Outcome, error) {
		return s.Engine.Apply(ctx, engine.Order{
			Revision: req.Revision, Tip: req.Tip, Expect: req.Generation, Saved: req.Saved, Overrides: req.Overrides, Try: try, By: actor(ctx),
		})
	})
}

func (s *Server) rollback(w http.ResponseWriter, r *http.Request) {
	var req RollbackRequest
	if !decode(w, r, &req, maxBody) {
		return
	}
	s.stream(w, r, func(ctx context.Context) (engine.Outcome, error) {
		return s.Engine.RollbackFrom(ctx, decidedOn(r), req.Generation, actor(ctx))
	})
}

func (s *Server) release(w http.ResponseWriter, r *http.Request) {
	var req ReleaseRequest
	if !decode(w, r, &req, maxBody) {
		return
	}
	s.stream(w, r, func(ctx context.Context) (engine.Outcome, error) {
		return s.Engine.ReleaseFrom(ctx, decidedOn(r), req.Revision, actor(ctx))
	})
}

func (s *Server) confirm(w http.ResponseWriter, r *http.Request) {
	var req ConfirmRequest
	if !decode(w, r, &req, maxBody) {
		return
	}
	s.stream(w, r, func(ctx context.Context) (engine.Outcome, error) {
		return s.Engine.ConfirmFrom(ctx, decidedOn(r), req.Generation, actor(ctx))
	})
}

func (s *Server) suspend(w http.ResponseWriter, r *http.Request) {
	var req SuspendRequest
	if !decode(w, r, &req, maxBody) {
		return
	}
	s.stream(w, r, func(ctx context.Context) (engine.Outcome, error) {
		return s.Engine.Suspend(ctx, engine.SuspendOrder{Hosts: req.Hosts, Reason: req.Reason, Expect: decidedOn(r), By: actor(ctx)})
	})
}

func (s *Server) resume(w http.ResponseWriter, r *http.Request) {
	var req ResumeRequest
	if !decode(w, r, &req, maxBody) {
		return
	}
	s.stream(w, r, func(ctx context.Context) (engine.Outcome, error) {
		return s.Engine.ResumeFrom(ctx, decidedOn(r), req.Hosts, actor(ctx))
	})
}

// poll makes the daemon look at its repo now; it does not wait.
func (s *Server) poll(w http.ResponseWriter, _ *http.Request) {
	s.Engine.Poke()
	w.WriteHeader(http.StatusAccepted)
}

// stream runs do and writes a Line for each status until it is over, and then a
// Line with what came of it. A client that goes away ends its wait, not the work.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, do func(context.Context) (engine.Outcome, error)) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(w)
	flusher, _ := w.(http.Flusher)
	write := func(l Line) {
		_ = enc.Encode(l)
		if flusher != nil {
			flusher.Flush()
		}
	}
	type result struct {
		out engine.Outcome
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := do(r.Context())
		done <- result{out, err}
	}()
	for {
		st, changed := s.Engine.Status()
		write(Line{Status: &st})
		select {
		case res := <-done:
			l := Line{Outcome: &res.out}
			if res.err != nil {
				l = Line{Error: res.err.Error()}
			}
			write(l)
			return
		case <-changed:
		}
	}
}
