package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// A trial that nobody confirms goes back, when the time has really passed and not when
// somebody sets the clock; what was tried is quarantined.
func TestTrialGoesBack(t *testing.T) {
	h := newHouse(t, nil)
	one := h.reachedOnce(site("one"))
	two := h.tryNext(site("two"), time.Minute)
	s, _ := h.Status()
	if s.Try == nil || s.Try.Generation != 2 || s.Try.Back != 1 || s.Try.Revision != two || !s.Try.Deadline.Equal(h.clock.now().Add(time.Minute)) || h.served() != "two" {
		t.Fatalf("%+v", s.Try)
	}
	if c := condition(t, s, ConditionSynced); c.Status || c.Reason != "OnTrial" {
		t.Errorf("%+v", c)
	}
	// A newer commit waits: it would take the way back away.
	three := h.repo.commit(site("three"))
	h.wait("the tip", func(s Status) bool { return s.Tip == three })
	h.repo.move(two)
	h.clock.sleep(59 * time.Second)
	h.clock.advance(10 * 365 * 24 * time.Hour) // somebody sets the clock
	if s := h.polls(3); s.Generation != 2 || s.Try == nil {
		t.Fatalf("early: %+v", s)
	}
	h.clock.advance(-20 * 365 * 24 * time.Hour)
	h.clock.sleep(time.Second)
	h.Poke()
	s = h.wait("going back", func(s Status) bool { return s.Generation == 3 && s.Phase == PhaseIdle && s.Failure != nil })
	if s.Revision != one || h.served() != "one" || s.Try != nil || s.Held != nil || s.Failure.Reason != ReasonReverted || s.Failure.Revision != two ||
		s.Tried == nil || s.Tried.Result != TriedReverted || s.Tried.Generation != 2 || condition(t, s, ConditionReady).Status {
		t.Errorf("%+v, tried %+v", s, s.Tried)
	}
	if rec := h.current(); rec.Trigger != store.TriggerRevert || rec.RolledBackTo != 1 {
		t.Errorf("%+v", rec)
	}
	if last := h.audit()[len(h.audit())-1]; last.Trigger != store.TriggerRevert || last.Result != store.AuditApplied || len(last.Changes) != 1 || last.Who.Via != store.ViaDaemon {
		t.Errorf("%+v", last)
	}
	if s := h.polls(3); s.Generation != 3 || s.Failure == nil {
		t.Errorf("it is tried again: %+v", s)
	}
	h.repo.fail(errors.New("away"))
	h.restart()
	if s, _ := h.Status(); s.Generation != 3 || s.Failure == nil || s.Failure.Reason != ReasonReverted || condition(t, s, ConditionReady).Status {
		t.Errorf("%+v", s)
	}
	h.repo.fail(nil)
	h.repo.move(three)
	h.reached(three)
}

// tryNext makes the next commit and has it served on trial, before the loop takes it by
// itself.
func (h *house) tryNext(files map[string]string, d time.Duration) string {
	h.t.Helper()
	h.repo.mu.Lock()
	rev := h.repo.add(files)
	h.repo.tip = rev // nobody is told
	h.repo.mu.Unlock()
	out := outcome(h.t)(h.Apply(h.t.Context(), Order{Try: d}))
	if out.Try == nil || out.Try.Revision != rev {
		h.t.Fatalf("%+v", out)
	}
	return rev
}

func TestTrialIsConfirmed(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	if out, err := h.Confirm(t.Context(), 0, store.Actor{}); err != nil || out.Failure == nil || out.Failure.Reason != ReasonStale {
		t.Errorf("%+v, %v", out, err)
	}
	two := h.tryNext(site("two"), time.Minute)
	if out, _ := h.Confirm(t.Context(), 1, store.Actor{}); out.Failure == nil || !strings.Contains(out.Failure.Message, "generation 2 is on trial") {
		t.Errorf("%+v", out)
	}
	outcome(t)(h.Confirm(t.Context(), 2, store.Actor{}))
	h.clock.sleep(time.Hour)
	s := h.polls(3)
	if s.Generation != 2 || s.Try != nil || s.Tried.Result != TriedConfirmed || len(s.Quarantined) != 0 || h.served() != "two" {
		t.Errorf("%+v", s)
	}
	if out, _ := h.Confirm(t.Context(), 0, store.Actor{}); out.Failure == nil {
		t.Error("confirmed twice")
	}
	h.restart()
	if s := h.reached(two); s.Generation != 2 {
		t.Errorf("%+v", s)
	}
	h.reached(h.repo.commit(site("three")))
}

// A start while a trial is armed goes back before anything is served, whatever time
// has passed; also when the process was killed.
func TestTrialEndsWithTheDaemon(t *testing.T) {
	h := newHouse(t, nil)
	one := h.reachedOnce(site("one"))
	two := h.tryNext(site("two"), time.Hour)
	h.repo.fail(errors.New("away"))
	h.stop()
	h.journal.take()
	h.open()
	h.fakes["dhcp"].set(func(f *fake) {
		f.onCommit = func(gen uint64) {
			if gen == 2 && f.current == 2 {
				t.Error("what was on trial is served again")
			}
		}
	})
	h.run()
	s, _ := h.Status()
	if s.Generation != 3 || s.Revision != one || h.served() != "one" || s.Try != nil || s.Failure == nil || s.Failure.Reason != ReasonReverted || s.Tried.Result != TriedReverted {
		t.Errorf("serving %q: %+v", h.served(), s)
	}
	// Machines that began to boot on it find it.
	if h.servedBy(2) != "two" {
		t.Errorf("generation 2 serves %q", h.servedBy(2))
	}
	if rec := h.current(); rec.Trigger != store.TriggerRevert || rec.RolledBackTo != 1 || rec.Number != 3 {
		t.Errorf("%+v", rec)
	}
	lines := h.audit()
	if last := lines[len(lines)-1]; last.Generation != 3 || last.Trigger != store.TriggerRevert || last.Result != store.AuditApplied {
		t.Errorf("%+v", last)
	}
	h.repo.fail(nil)
	h.wait("the repo", func(s Status) bool { return s.RepoError == "" })
	if s := h.polls(2); s.Generation != 3 || s.Tip != two || s.Failure == nil {
		t.Errorf("%+v", s)
	}
	h.restart()
	if s := h.polls(2); s.Generation != 3 || s.Tried != nil {
		t.Errorf("a second start: %+v", s)
	}
	outcome(t)(h.Release(t.Context(), "", store.Actor{}))
	h.reached(two)
}

// What stands in for a generation that cannot be served is never one that was on trial.
func TestTrialStandsInForNothing(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("zero"))
	h.reached(h.repo.commit(site("one")))
	h.tryNext(site("two"), time.Hour)
	h.repo.fail(errors.New("away"))
	h.stop()
	h.open()
	h.fakes["dhcp"].set(func(f *fake) {
		f.onPrepare = func(_ context.Context, in provider.Input) error {
			if in.Want.Subnets[0].DomainName == "one" {
				return errors.New("port in use")
			}
			return nil
		}
	})
	h.run()
	if h.served() != "zero" {
		t.Errorf("serving %q", h.served())
	}
}

// Going back that fails is tried again, and said; and can still be confirmed.
func TestTrialCannotGoBack(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	two := h.tryNext(site("two"), time.Minute)
	full := func(on bool) {
		h.fakes["image"].set(func(f *fake) {
			f.onPrepare = nil
			if on {
				f.onPrepare = func(context.Context, provider.Input) error { return errors.New("no descriptors") }
			}
		})
	}
	full(true)
	h.clock.sleep(time.Minute)
	h.Poke()
	s := h.wait("the failure", func(s Status) bool { return s.Failure != nil && s.Failure.Retry && s.Phase == PhaseIdle })
	if s.Generation != 2 || s.Try == nil || s.Failure.NextTry.IsZero() || len(s.Quarantined) != 0 || condition(t, s, ConditionReady).Status {
		t.Errorf("%+v", s)
	}
	n := h.fakes["image"].began()
	if h.polls(3); h.fakes["image"].began() != n {
		t.Error("tried at every poll")
	}
	full(false)
	h.clock.sleep(time.Hour)
	h.Poke()
	h.wait("going back", func(s Status) bool { return s.Generation == 3 && s.Failure != nil && s.Failure.Revision == two })
	if h.served() != "one" {
		t.Errorf("serving %q", h.served())
	}

	h.clock.sleep(time.Second)
	three := h.tryNext(site("three"), time.Minute)
	full(true)
	h.clock.sleep(time.Minute)
	h.Poke()
	h.wait("the failure", func(s Status) bool { return s.Failure != nil && s.Failure.Retry })
	outcome(t)(h.Confirm(t.Context(), 0, store.Actor{}))
	full(false)
	if s := h.reached(three); s.Generation != 4 || s.Failure != nil {
		t.Errorf("%+v", s)
	}
}

// Another order settles a trial; a second trial goes back to before the first.
func TestTrialIsReplaced(t *testing.T) {
	h := newHouse(t, nil)
	one := h.reachedOnce(site("one"))
	h.tryNext(site("two"), time.Minute)
	out := outcome(t)(h.Apply(t.Context(), Order{Revision: one}))
	if s, _ := h.Status(); s.Try != nil || s.Tried.Result != TriedReplaced || s.Generation != 3 || out.Held == nil {
		t.Errorf("%+v", s)
	}
	h.clock.sleep(time.Hour)
	if s := h.polls(2); s.Generation != 3 || len(s.Quarantined) != 0 {
		t.Errorf("%+v", s)
	}

	three := h.tryNext(site("three"), time.Minute)
	outcome(t)(h.Rollback(t.Context(), 0, store.Actor{}))
	h.clock.sleep(time.Hour)
	s := h.polls(2)
	if s.Try != nil || s.Held == nil || s.Held.Revision != three || len(s.Quarantined) != 0 {
		t.Errorf("%+v", s)
	}
	base := s.Generation

	h.tryNext(site("four"), time.Minute)
	h.clock.sleep(30 * time.Second)
	h.tryMore(time.Minute)
	h.clock.sleep(45 * time.Second)
	if s := h.polls(2); s.Try == nil || s.Try.Back != base || s.Generation != base+1 {
		t.Errorf("longer: %+v", s.Try)
	}
	h.repo.mu.Lock()
	five := h.repo.add(site("five"))
	h.repo.mu.Unlock()
	outcome(t)(h.Apply(t.Context(), Order{Revision: five, Try: time.Minute}))
	h.clock.sleep(time.Minute)
	h.Poke()
	s = h.wait("going back", func(s Status) bool { return s.Try == nil && s.Phase == PhaseIdle })
	at := slices.IndexFunc(h.store.List(), func(g store.Header) bool { return g.Number == base+3 && g.RolledBackTo != 0 })
	// The tip, which was on trial and was never refused, may have been applied since.
	if s.Generation < base+3 || at < 0 || s.Generation == base+3 && h.served() != h.servedBy(base) {
		t.Errorf("%+v", s)
	}
}

// tryMore gives a trial more time.
func (h *house) tryMore(d time.Duration) {
	h.t.Helper()
	outcome(h.t)(h.Apply(h.t.Context(), Order{Try: d}))
}

// A hold that was in force before a trial is in force after it.
func TestTrialGivesTheHoldBack(t *testing.T) {
	h := newHouse(t, nil)
	one, two, three := h.history()
	outcome(t)(h.Rollback(t.Context(), 0, store.Actor{}))
	if s, _ := h.Status(); s.Held == nil || s.Revision != two {
		t.Fatalf("%+v", s)
	}
	for _, restart := range []bool{false, true} {
		out := outcome(t)(h.Apply(t.Context(), Order{Revision: one, Try: time.Minute}))
		if out.Held == nil || out.Try == nil {
			t.Errorf("%+v", out)
		}
		if restart {
			h.restart()
		} else {
			h.clock.sleep(time.Minute)
			h.Poke()
		}
		s := h.wait("going back", func(s Status) bool { return s.Try == nil && s.Phase == PhaseIdle && s.Revision == two })
		if s.Held == nil || s.Held.Revision != three || s.Failure != nil || h.served() != "two" || len(s.Quarantined) != 1 {
			t.Errorf("restart %v: %+v", restart, s)
		}
		if s := h.polls(2); s.Revision != two || s.Held == nil {
			t.Errorf("restart %v: %+v", restart, s)
		}
	}
}

// A trial wants a way back, and something to try.
func TestTrialIsRefused(t *testing.T) {
	h := newHouse(t, nil)
	h.repo.fail(errors.New("away"))
	h.run()
	h.repo.mu.Lock()
	h.repo.err = nil
	one := h.repo.add(site("one"))
	h.repo.tip = one
	h.repo.mu.Unlock()
	if out, err := h.Apply(t.Context(), Order{Revision: one, Try: time.Minute}); err != nil || out.Failure == nil || out.Failure.Reason != ReasonStale || h.Generation() != 0 {
		t.Errorf("%+v, %v", out, err)
	}
	outcome(t)(h.Apply(t.Context(), Order{}))
	if out := outcome(t)(h.Apply(t.Context(), Order{Try: time.Minute})); out.Try != nil {
		t.Errorf("%+v", out)
	}
	for _, d := range []time.Duration{time.Millisecond, -time.Second, 48 * time.Hour} {
		if _, err := h.Apply(t.Context(), Order{Try: d}); err == nil {
			t.Errorf("%v: no error", d)
		}
	}
	h.stop()
	h.open()
	if _, err := h.ApplyOffline(t.Context(), Order{Try: time.Minute}, nil, nil); err == nil {
		t.Error("nobody would go back")
	}
}

// Going back does not wait for what an operator wanted meanwhile and takes long.
func TestTrialEndsDuringAnotherOrder(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	h.tryNext(site("two"), time.Minute)
	waits := hang(h, "image", "three")
	h.repo.mu.Lock()
	three := h.repo.add(site("three"))
	h.repo.mu.Unlock()
	done := make(chan Outcome, 1)
	go func() {
		out, _ := h.Apply(context.Background(), Order{Revision: three})
		done <- out
	}()
	<-waits
	h.clock.sleep(time.Minute)
	h.Poke()
	if out := <-done; out.Failure == nil || out.Failure.Reason != ReasonCancelled || !strings.Contains(out.Failure.Message, "trial") {
		t.Errorf("%+v", out)
	}
	h.wait("going back", func(s Status) bool { return s.Try == nil && s.Generation == 3 })
	if h.served() != "one" {
		t.Errorf("serving %q", h.served())
	}
}

// A rollback without a number passes over what was tried and not kept.
func TestRollbackPassesOverATrial(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	h.tryNext(site("two"), time.Minute)
	h.clock.sleep(time.Minute)
	h.Poke()
	h.wait("going back", func(s Status) bool { return s.Try == nil && s.Generation == 3 && s.Phase == PhaseIdle })
	h.reached(h.repo.commit(site("three")))
	outcome(t)(h.Rollback(t.Context(), 0, store.Actor{}))
	if h.served() != "one" {
		t.Errorf("serving %q", h.served())
	}
	// By its number it can be had.
	outcome(t)(h.Rollback(t.Context(), 2, store.Actor{}))
	if s := h.polls(2); h.served() != "two" || len(s.Quarantined) != 0 {
		t.Errorf("serving %q: %+v", h.served(), s.Quarantined)
	}
}

// The machine slept: the timers stood still, and the looks that were missed are made up.
func TestSleepIsNoticed(t *testing.T) {
	st := newLoopState(time.Hour)
	defer st.stopTimers()
	if st.slept(time.Hour+retireEvery) || !st.slept(10*time.Hour) || st.slept(10*time.Hour+2*retireEvery) {
		t.Error("a tick is no sleep, and ten hours are")
	}
	if a := store.BootTime(); a <= 0 || store.BootTime() < a {
		t.Errorf("%v", a)
	}
}
