package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Plans are made one at a time, whoever asks and however often: who comes when many wait
// is told so at once, and who goes away gives up his turn.
func TestPlansTakeTurns(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	var at, most atomic.Int32
	began, goOn := make(chan struct{}, 100), make(chan struct{})
	d.repo.mu.Lock()
	d.repo.onTree = func(ctx context.Context) error {
		defer at.Add(-1)
		if n := at.Add(1); n > most.Load() {
			most.Store(n)
		}
		began <- struct{}{}
		select {
		case <-goOn:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d.repo.mu.Unlock()

	away, leave := context.WithCancel(t.Context())
	var asked sync.WaitGroup
	asked.Go(func() { _ = d.Get(away, "/v1/plan", nil, new(json.RawMessage)) })
	<-began
	var made atomic.Int32
	for range mostWaiting {
		asked.Go(func() {
			if err := d.Get(t.Context(), "/v1/plan", nil, new(json.RawMessage)); err != nil {
				t.Error(err)
				return
			}
			made.Add(1)
		})
	}
	for waits := 0; waits < mostWaiting; { // nothing tells of one that begins to wait
		d.server.plans.mu.Lock()
		waits = d.server.plans.waiting
		d.server.plans.mu.Unlock()
		<-time.After(time.Millisecond)
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		resp := d.raw(t.Context(), method, "/v1/plan", "")
		var p Problem
		if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || resp.StatusCode != http.StatusServiceUnavailable ||
			resp.Header.Get("Retry-After") != "10" || !strings.Contains(p.Error, "one at a time: try again") {
			t.Errorf("%s: %s %v %+v, %v", method, resp.Status, resp.Header, p, err)
		}
	}
	leave() // the first has begun, and does not go on
	<-began
	close(goOn)
	asked.Wait()
	if most.Load() != 1 || made.Load() != mostWaiting {
		t.Errorf("%d were made, %d at once", made.Load(), most.Load())
	}
}

// Who may only look keeps no operator from planning, and nobody waits for ever.
func TestViewersTakeTheirOwnTurns(t *testing.T) {
	s := &Server{}
	as := func(role Role) *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/v1/plan", nil)
		return r.WithContext(withCaller(r.Context(), caller{role: role}))
	}
	viewer := s.planning(httptest.NewRecorder(), as(RoleViewer))
	operator := s.planning(httptest.NewRecorder(), as(RoleOperator))
	if viewer == nil || operator == nil {
		t.Fatal("a turn is not given")
	}
	if s.viewersPlans.enter(t.Context(), time.Millisecond) != nil || s.plans.enter(t.Context(), time.Millisecond) != nil {
		t.Error("two have the turn")
	}
	viewer()
	if leave := s.planning(httptest.NewRecorder(), as(RoleViewer)); leave == nil {
		t.Error("a turn that was given back is not given again")
	}
}

// slowReader is a client that does not read until it is let.
type slowReader struct {
	*httptest.ResponseRecorder
	began, let chan struct{}
}

func (w slowReader) Write(b []byte) (int, error) {
	close(w.began)
	<-w.let
	return w.ResponseRecorder.Write(b)
}

// Who does not read the plan that he asked for keeps nobody else from planning.
func TestPlanThatNobodyReads(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	for name, ask := range map[string]func(http.ResponseWriter, *http.Request){"plan": d.server.plan, "save": d.server.savePlan} {
		t.Run(name, func(t *testing.T) {
			w := slowReader{httptest.NewRecorder(), make(chan struct{}), make(chan struct{})}
			r := httptest.NewRequest(http.MethodPost, "/v1/plan", strings.NewReader("{}"))
			var asked sync.WaitGroup
			asked.Go(func() { ask(w, r.WithContext(withCaller(r.Context(), caller{role: RoleOperator}))) })
			<-w.began
			if leave := d.server.plans.enter(t.Context(), 10*time.Second); leave == nil {
				t.Error("the turn is kept while the answer is written")
			} else {
				leave()
			}
			close(w.let)
			asked.Wait()
			if w.Code != http.StatusOK || !json.Valid(w.Body.Bytes()) || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}
