package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// turnstile lets one request through at a time. The zero value is ready.
type turnstile struct {
	mu      sync.Mutex // guards the fields below
	busy    chan struct{}
	waiting int
}

const (
	// mostWaiting requests wait for their turn; more are turned away.
	mostWaiting = 8
	// turnWait is how long one waits. Most plans take less than a second; one that must
	// fetch first may take minutes, and then it is better to say so.
	turnWait = 10 * time.Second
)

// enter waits for the turn, until ctx ends or patience is over; leave gives it back. It
// is nil for who is turned away.
func (t *turnstile) enter(ctx context.Context, patience time.Duration) (leave func()) {
	t.mu.Lock()
	if t.busy == nil {
		t.busy = make(chan struct{}, 1)
	}
	busy := t.busy
	if len(busy) > 0 && t.waiting >= mostWaiting {
		t.mu.Unlock()
		return nil
	}
	t.waiting++
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.waiting--
	}()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case busy <- struct{}{}:
		return func() { <-busy }
	case <-limit.C:
	case <-ctx.Done():
	}
	return nil
}

// planning waits for the turn to make a plan, which may fetch all branches and hold a
// whole configuration, and answers when it does not come. Who may only look takes turns
// with others like him, so that he keeps no operator from planning.
func (s *Server) planning(w http.ResponseWriter, r *http.Request) (leave func()) {
	turns := &s.plans
	if callerOf(r.Context()).role == RoleViewer {
		turns = &s.viewersPlans
	}
	leave = turns.enter(r.Context(), turnWait)
	if leave == nil {
		w.Header().Set("Retry-After", strconv.Itoa(int(turnWait/time.Second)))
		problem(w, http.StatusServiceUnavailable, errors.New("other plans are being made, and they are made one at a time: try again in a while; one of a revision that is not fetched yet takes as long as the fetch"))
	}
	return leave
}

// inTurn makes a plan when its turn comes, and answers with its JSON. The turn is over
// before the answer is written: who reads it may take as long as he likes.
func (s *Server) inTurn(w http.ResponseWriter, r *http.Request, plan func() ([]byte, error)) {
	leave := s.planning(w, r)
	if leave == nil {
		return
	}
	b, err := func() ([]byte, error) {
		defer leave()
		return plan()
	}()
	if err != nil {
		problem(w, http.StatusUnprocessableEntity, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // an error here is the client's going away
}
