package engine

import (
	"context"
	"errors"
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
