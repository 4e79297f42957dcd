package engine

import (
	"sync"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/store"
)

// pausePublishing has the DHCP server's part of a generation wait when everything is
// recorded and it is about to be published.
func pausePublishing(h *house, gen uint64) (reached <-chan struct{}, let func()) {
	at, gate := make(chan struct{}), make(chan struct{})
	h.fakes["dhcp"].set(func(f *fake) {
		f.onCommit = func(n uint64) {
			if n == gen {
				close(at)
				<-gate
			}
		}
	})
	let = sync.OnceFunc(func() { close(gate) })
	h.t.Cleanup(let)
	return at, let
}

// An order that comes when a generation is recorded and not yet published is not undone
// by what the attempt remembered.
func TestOrdersWhilePublishing(t *testing.T) {
	t.Run("suspend", func(t *testing.T) {
		h := newHouse(t, nil)
		h.reachedOnce(site("one"))
		at, let := pausePublishing(h, 2)
		two := h.repo.commit(site("two"))
		<-at
		outcome(t)(h.Suspend(t.Context(), SuspendOrder{Reason: "late"}))
		let()
		if s := h.reached(two); s.Suspended == nil {
			t.Errorf("the suspension is gone: %+v", s)
		}
		h.repo.commit(site("three"))
		if s := h.polls(2); s.Generation != 2 || s.Suspended == nil {
			t.Errorf("%+v", s)
		}
	})
	t.Run("suspend host", func(t *testing.T) {
		h := newHouse(t, func(c *Config) { c.Keep = 1 })
		h.reachedOnce(site("one"))
		at, let := pausePublishing(h, 2)
		two := h.repo.commit(site("two"))
		<-at
		outcome(t)(h.Suspend(t.Context(), SuspendOrder{Hosts: []string{"ws01"}}))
		let()
		if s := h.reached(two); s.SuspendedHosts["host.ws01"].Generation != 1 {
			t.Errorf("%+v", s.SuspendedHosts)
		}
		h.reached(h.repo.commit(site("three")))
		if h.servedBy(1) != "one" || h.Pinned(macWS01) != 1 {
			t.Errorf("generation 1 answers %q, pinned to %d", h.servedBy(1), h.Pinned(macWS01))
		}
	})
	t.Run("confirm", func(t *testing.T) {
		h := newHouse(t, nil)
		h.reachedOnce(site("one"))
		h.tryNext(site("two"), time.Minute)
		at, let := pausePublishing(h, 3)
		h.repo.mu.Lock()
		three := h.repo.add(site("three"))
		h.repo.tip = three
		h.repo.mu.Unlock()
		done := make(chan Outcome, 1)
		go func() {
			out, _ := h.Apply(t.Context(), Order{Try: time.Minute})
			done <- out
		}()
		<-at
		if out, err := h.Confirm(t.Context(), 2, store.Actor{}); err != nil || out.Failure == nil || out.Failure.Reason != ReasonStale {
			t.Errorf("%+v, %v", out, err)
		}
		let()
		if out := <-done; out.Failure != nil || out.Try == nil || out.Try.Generation != 3 {
			t.Errorf("%+v", out)
		}
		s, _ := h.Status()
		if s.Try == nil || s.Try.Generation != 3 || s.Tried == nil || s.Tried.Generation != 2 || s.Tried.Result != TriedReplaced {
			t.Errorf("try %+v, tried %+v", s.Try, s.Tried)
		}
		h.clock.sleep(time.Minute)
		h.Poke()
		h.wait("going back", func(s Status) bool { return s.Generation == 4 && s.Phase == PhaseIdle })
		if h.served() != "one" {
			t.Errorf("serving %q", h.served())
		}
	})
	t.Run("release", func(t *testing.T) {
		h := newHouse(t, nil)
		one := h.reachedOnce(site("one"))
		two := h.repo.commit(site("two"))
		h.reached(two)
		at, let := pausePublishing(h, 3)
		done := make(chan Outcome, 1)
		go func() {
			out, _ := h.Apply(t.Context(), Order{Revision: one})
			done <- out
		}()
		<-at
		outcome(t)(h.Release(t.Context(), "", store.Actor{}))
		let()
		if out := <-done; out.Failure != nil || out.Held != nil {
			t.Errorf("%+v", out)
		}
		if s := h.reached(two); s.Held != nil || h.served() != "two" {
			t.Errorf("%+v", s)
		}
	})
}

// A refused commit keeps the daemon from being ready, suspended or not.
func TestNotReadyWhileSuspended(t *testing.T) {
	h := newHouse(t, nil)
	one := h.reachedOnce(site("one"))
	bad := h.repo.commit(map[string]string{"site.hcl": "nonsense {"})
	h.refused(bad)
	h.repo.move(one)
	h.wait("the good one", func(s Status) bool { return s.Tip == one && s.Failure == nil })
	outcome(t)(h.Suspend(t.Context(), SuspendOrder{}))
	h.repo.move(bad)
	h.wait("the bad one", func(s Status) bool { return s.Tip == bad })
	s := h.polls(1)
	if c := condition(t, s, ConditionReady); c.Status || c.Reason != "Refused" {
		t.Errorf("%+v", c)
	}
	if s.Suspended == nil || s.Generation != 1 {
		t.Errorf("%+v", s)
	}
}
