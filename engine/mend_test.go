package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// mendNow mends as the loop does, which does not run, and waits for that.
func (h *house) mendNow() {
	st := newLoopState(h.elapsed())
	defer st.stopTimers()
	if h.mend(h.t.Context(), st); st.running != nil {
		h.mended(h.t.Context(), st, <-st.mended)
	}
}

// While a recorded generation is tried again the loop listens: orders are taken, and a
// newer commit does not wait for it. It is never served half.
func TestLoopListensWhileMending(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.tick = 10 * time.Millisecond })
	h.history()
	h.repo.fail(errors.New("away"))
	h.stop()
	h.open()
	mending := make(chan struct{}, 1)
	h.fakes["dhcp"].set(func(f *fake) {
		first := true
		f.onPrepare = func(ctx context.Context, in provider.Input) error {
			switch {
			case in.Retained || in.Generation != 3:
				return nil
			case first:
				first = false
				return errors.New("port in use")
			}
			select {
			case mending <- struct{}{}:
			default:
			}
			<-ctx.Done()
			return ctx.Err()
		}
	})
	h.run()
	await := func() {
		t.Helper()
		select {
		case <-mending:
		case <-time.After(20 * time.Second):
			t.Fatal("it is not tried again")
		}
	}
	await()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if out, err := h.Suspend(ctx, SuspendOrder{Reason: "night"}); err != nil || out.Failure != nil {
		t.Fatalf("suspend: %+v, %v", out, err)
	}
	if out, err := h.Resume(ctx, nil, store.Actor{}); err != nil || out.Failure != nil {
		t.Fatalf("resume: %+v, %v", out, err)
	}
	if s, _ := h.Status(); s.Generation != 2 || h.served() != "two" {
		t.Errorf("serving %q: %+v", h.served(), s)
	}
	await() // again, and this time a commit comes
	h.repo.fail(nil)
	four := h.repo.commit(site("four"))
	if s := h.reached(four); h.served() != "four" || s.Generation != 4 {
		t.Errorf("serving %q: %+v", h.served(), s)
	}
}

// aside is a loop that does not run, in the middle of j, with one served.
func (h *house) aside(one string, j *job) *loopState {
	h.t.Helper()
	h.stop()
	h.open()
	if err := h.start(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	if s, _ := h.Status(); s.Synced != one {
		h.t.Fatalf("%+v", s)
	}
	st := newLoopState(h.elapsed())
	h.t.Cleanup(st.stopTimers)
	st.unsure, st.running, st.cancel = false, j, func(error) {}
	return st
}

// A commit that waits for the end of what concerns only what is served is given up when
// the ref goes back to what is served.
func TestRefGoesBackWhileACommitWaits(t *testing.T) {
	h := newHouse(t, nil)
	one := h.reachedOnce(site("one"))
	h.repo.mu.Lock()
	two := h.repo.add(site("two"))
	h.repo.mu.Unlock()
	for name, j := range map[string]*job{"mend": {mends: &store.Record{Number: 1}}, "rebuild": {trigger: store.TriggerDrift, rev: revision(one)}} {
		st := h.aside(one, j)
		h.tip(t.Context(), st, look{tip: revision(two)})
		if st.next == nil || st.next.rev.Hash != two {
			t.Fatalf("%s: %+v", name, st.next)
		}
		h.tip(t.Context(), st, look{tip: revision(one)})
		if st.next != nil {
			t.Errorf("%s: %s is applied, which the ref does not have", name, st.next.rev.Hash)
		}
	}
}

// Other settings let a refused commit out also while a recorded generation is tried again.
func TestSettingsChangeWhileMending(t *testing.T) {
	h := newHouse(t, nil)
	one := h.reachedOnce(site("one"))
	bad := h.repo.commit(broken)
	h.refused(bad)
	st := h.aside(one, &job{mends: &store.Record{Number: 1}})
	h.cfg.Settings = func() []byte { return []byte("other keys") }
	h.tip(t.Context(), st, look{tip: revision(bad)})
	if st.next == nil || st.next.rev.Hash != bad {
		t.Errorf("it stays refused: %+v", st.next)
	}
}

// A panic while a recorded generation is readied, by whatever it comes, costs only that
// generation: at the start, and when it is tried again.
func TestPanicWhileMending(t *testing.T) {
	h := newHouse(t, nil)
	h.history()
	h.stop()
	h.open()
	h.fakes["image"].set(func(f *fake) {
		f.onOutputs = func() {
			f.mu.Lock()
			n := len(f.inputs)
			in := f.inputs[n-1]
			f.mu.Unlock()
			if in.Generation == 3 {
				panic("nil map")
			}
		}
	})
	if err := h.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h.Generation() != 2 || h.broken == nil {
		t.Fatalf("serving %d, broken: %v", h.Generation(), h.broken)
	}
	h.mendNow()
	if err := h.unserved[3]; h.broken == nil || err == nil || !strings.Contains(err.Error(), "nil map") {
		t.Errorf("%v", err)
	}
	h.fakes["image"].set(func(f *fake) { f.onOutputs = nil })
	if h.mendNow(); h.broken != nil || h.Generation() != 3 {
		t.Errorf("serving %d, broken: %v", h.Generation(), h.broken)
	}
}
