package engine

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// stuck has a provider's Prepare not end before let is called.
func stuck(h *house, name string) (let func()) {
	gate := make(chan struct{})
	h.fakes[name].set(func(f *fake) {
		f.onPrepare = func(context.Context, provider.Input) error {
			<-gate
			return nil
		}
	})
	return func() { close(gate) }
}

// A daemon ends although a provider never comes back; what comes back in the end is
// aborted before the provider is asked again.
func TestEndsWithoutPrepare(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.leave = 10 * time.Millisecond })
	one := h.repo.commit(site("one"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, nil) }()
	h.reached(one)
	let := stuck(h, "dhcp")
	h.repo.commit(site("two"))
	h.journal.await(t, "prepare dhcp 2", 1)
	cancel()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "dhcp: it has not come back") {
			t.Errorf("error: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it does not end")
	}
	over := h.hung["dhcp"].over
	let()
	<-over
	if lines := strings.Join(h.journal.take(), "\n"); !strings.Contains(lines, "abort dhcp 2") {
		t.Errorf("not aborted yet, and asked again:\n%s", lines)
	}
}

// Serving again what could not be served ends after a while.
func TestMendIsBounded(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.leave, c.mendTime = time.Millisecond, time.Millisecond })
	h.reachedOnce(site("one"))
	h.stop()
	h.open()
	let := stuck(h, "dhcp")
	h.broken = h.current()
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.mendNow()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("mend does not end")
	}
	let()
	h.prepares.Wait()
	<-done
	if h.broken == nil {
		t.Error("nothing was served, and it counts as mended")
	}
}

// A suspended host is pinned again once its generation can be read again.
func TestPinIsTriedAgain(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	outcome(t)(h.Suspend(t.Context(), SuspendOrder{Hosts: []string{"ws01"}}))
	h.stop()
	h.open()
	path := filepath.Join(h.dir, "generations", "0000000001.json")
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := h.remember(); err != nil {
		t.Fatal(err)
	}
	h.pin()
	if h.Pinned(macWS01) != 0 || h.unpinned == nil {
		t.Fatalf("pinned to %d, %v", h.Pinned(macWS01), h.unpinned)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	h.retire(t.Context())
	if h.Pinned(macWS01) != 1 || h.unpinned != nil {
		t.Errorf("pinned to %d, %v", h.Pinned(macWS01), h.unpinned)
	}
}

// What is lost is made anew by the engine itself: newer commits and orders come first.
func TestRebuildGivesWay(t *testing.T) {
	j := job{trigger: store.TriggerDrift, reply: make(chan Outcome, 1)}
	if j.ordered() {
		t.Error("a rebuild counts as an order")
	}
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	waits := hang(h, "image", "one")
	reply := make(chan Outcome, 1)
	h.drifts.rebuild <- rebuild{why: "test", reply: reply}
	<-waits
	before, _ := h.Status()
	h.Poke() // the tip is served: that is no reason to give up
	h.wait("poll", func(s Status) bool { return s.Polls > before.Polls })
	select {
	case out := <-reply:
		t.Errorf("given up for nothing: %+v", out.Failure)
	default:
	}
	two := h.repo.commit(site("two"))
	out := <-reply
	if out.Failure == nil || out.Failure.Reason != ReasonCancelled {
		t.Errorf("%+v", out)
	}
	h.reached(two)
}
