package engine

import (
	"context"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// While everything is suspended commits wait, orders but for going back are refused,
// and a restart changes nothing about that.
func TestSuspend(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	h.reached(h.repo.commit(site("two")))
	uid := uint32(7)
	outcome(t)(h.Suspend(t.Context(), SuspendOrder{Reason: " an\n audit ", By: store.Actor{Via: store.ViaSocket, UID: &uid}}))
	three := h.repo.commit(site("three"))
	s := h.wait("the tip", func(s Status) bool { return s.Tip == three })
	if s = h.polls(2); s.Suspended == nil || s.Suspended.Reason != "an audit" || *s.Suspended.By.UID != 7 || s.Generation != 2 || s.Failure != nil {
		t.Errorf("%+v", s)
	}
	if c := condition(t, s, ConditionSynced); c.Status || c.Reason != "Suspended" || c.Message != "an audit" {
		t.Errorf("%+v", c)
	}
	for _, o := range []Order{{}, {Revision: three}} {
		out, err := h.Apply(t.Context(), o)
		if err != nil || out.Failure == nil || out.Failure.Reason != ReasonDenied || !strings.Contains(out.Failure.Message, "(an audit)") || !strings.Contains(out.Failure.Message, "resume") {
			t.Errorf("%+v, %v", out, err)
		}
	}
	h.restart()
	if s := h.polls(2); s.Suspended == nil || s.Generation != 2 || h.served() != "two" || s.Failure != nil || len(s.Quarantined) != 0 {
		t.Errorf("%+v", s)
	}
	outcome(t)(h.Rollback(t.Context(), 0, store.Actor{}))
	if s := h.polls(1); h.served() != "one" || s.Suspended == nil {
		t.Errorf("%+v", s)
	}
	outcome(t)(h.Release(t.Context(), "", store.Actor{}))
	if s := h.polls(1); s.Generation != 3 {
		t.Errorf("released, and suspended still: %+v", s)
	}
	outcome(t)(h.Resume(t.Context(), nil, store.Actor{}))
	if s := h.reached(three); s.Suspended != nil || h.served() != "three" {
		t.Errorf("%+v", s)
	}
	if _, err := h.Resume(t.Context(), nil, store.Actor{}); err == nil || err.Error() != "nothing is suspended: the newest commit is followed" {
		t.Errorf("with nothing suspended: %v", err)
	}
	h.stop()
	h.open()
	h.repo.commit(site("four"))
	if err := h.memorize(func(m *store.Memory) { m.Suspended = &store.Suspension{} }); err != nil {
		t.Fatal(err)
	}
	if out, err := h.ApplyOffline(t.Context(), Order{}, nil, nil); err != nil || out.Failure == nil || out.Failure.Reason != ReasonDenied {
		t.Errorf("without a daemon: %+v, %v", out, err)
	}
}

// What a commit brought under way is given up when everything is suspended.
func TestSuspendCancels(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	waits := hang(h, "image", "two")
	two := h.repo.commit(site("two"))
	<-waits
	outcome(t)(h.Suspend(t.Context(), SuspendOrder{}))
	if s := h.wait("the end of it", func(s Status) bool { return s.Attempt == "" }); s.Failure != nil || s.Generation != 1 {
		t.Errorf("%+v", s)
	}
	h.fakes["image"].set(func(f *fake) { f.onPrepare = nil })
	if s := h.polls(2); s.Generation != 1 {
		t.Errorf("%+v", s)
	}
	outcome(t)(h.Resume(t.Context(), nil, store.Actor{}))
	h.reached(two)
}

var macWS01 = provider.MAC{0x52, 0x54, 0, 0, 0, 1}

// The boots of a suspended host stay on their generation: it is live, kept on disk,
// served after a restart, and told to plans. Everybody else goes on.
func TestSuspendedHost(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Keep = 1 })
	h.reachedOnce(site("one"))
	for _, name := range []string{"nobody", "host.ws02", ""} {
		if _, err := h.Suspend(t.Context(), SuspendOrder{Hosts: []string{name}}); err == nil {
			t.Errorf("%q: no error", name)
		}
	}
	for _, name := range []string{"ws01", "host.ws01", "52:54:00:00:00:01"} {
		outcome(t)(h.Suspend(t.Context(), SuspendOrder{Hosts: []string{name}, Reason: "it renders"}))
	}
	for _, text := range []string{"two", "three"} {
		h.reached(h.repo.commit(site(text)))
	}
	if n := h.Pinned(macWS01); n != 1 || h.Pinned(provider.MAC{1}) != 0 {
		t.Errorf("pinned to %d", n)
	}
	// It stays where it is when somebody says so again.
	outcome(t)(h.Suspend(t.Context(), SuspendOrder{Hosts: []string{"ws01"}}))
	s, _ := h.Status()
	if one := s.SuspendedHosts["host.ws01"]; len(s.SuspendedHosts) != 1 || one.Generation != 1 || one.Reason != "" || s.Suspended != nil {
		t.Errorf("%+v", s.SuspendedHosts)
	}
	o, err := h.Observed(t.Context())
	if err != nil || len(o.Observations) != 1 || o.Observations[0].Kind != plan.SawSuspended || o.Observations[0].Generation != 1 || o.Observations[0].Host.String() != "host.ws01" {
		t.Errorf("%+v, %v", o.Observations, err)
	}
	// Long after, with the host gone from what is served.
	h.clock.sleep(h.cfg.Settle + collectEvery)
	gone := site("four")
	gone["site.hcl"] = gone["site.hcl"][:strings.Index(gone["site.hcl"], "host ")]
	h.reached(h.repo.commit(gone))
	h.polls(1)
	live := h.fakes["dhcp"].live
	if last := live[len(live)-1]; !last[1] || last[2] {
		t.Errorf("live: %v", last)
	}
	h.restart()
	if h.Pinned(macWS01) != 1 || h.servedBy(1) != "one" || h.served() != "four" {
		t.Errorf("pinned to %d, which serves %q", h.Pinned(macWS01), h.servedBy(1))
	}
	if _, err := h.Resume(t.Context(), nil, store.Actor{}); err == nil || err.Error() != "nothing was suspended as a whole; single hosts still are: `dlreconcile resume ws01`" {
		t.Errorf("with a host suspended: %v", err)
	}
	if _, err := h.Resume(t.Context(), []string{"ws02"}, store.Actor{}); err == nil {
		t.Error("no error")
	}
	outcome(t)(h.Resume(t.Context(), []string{"ws01"}, store.Actor{}))
	if s, _ := h.Status(); len(s.SuspendedHosts) != 0 || h.Pinned(macWS01) != 0 {
		t.Errorf("%+v", s.SuspendedHosts)
	}
}

// A generation that cannot be served is no place to stay: the machine boots what all
// others do, and the status says what is wrong.
func TestSuspendedHostWithoutItsGeneration(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	outcome(t)(h.Suspend(t.Context(), SuspendOrder{Hosts: []string{"ws01"}}))
	h.reached(h.repo.commit(site("two")))
	h.stop()
	h.open()
	h.fakes["image"].set(func(f *fake) {
		f.onPrepare = func(_ context.Context, in provider.Input) error {
			if in.Generation == 1 {
				return context.DeadlineExceeded
			}
			return nil
		}
	})
	h.run()
	if s, _ := h.Status(); h.Pinned(macWS01) != 0 || !strings.Contains(s.ServeError, "generation 1") || s.SuspendedHosts["host.ws01"].Generation != 1 {
		t.Errorf("pinned to %d: %+v", h.Pinned(macWS01), s)
	}
}

// Nothing is served that a host could stay on.
func TestSuspendBeforeAnythingIsServed(t *testing.T) {
	h := newHouse(t, nil)
	h.run()
	if _, err := h.Suspend(t.Context(), SuspendOrder{Hosts: []string{"ws01"}}); err == nil {
		t.Error("no error")
	}
	if _, err := h.Suspend(t.Context(), SuspendOrder{Reason: strings.Repeat("x", 2000)}); err == nil {
		t.Error("no error")
	}
	outcome(t)(h.Suspend(t.Context(), SuspendOrder{}))
	one := h.repo.commit(site("one"))
	if s := h.polls(2); s.Generation != 0 || s.Tip != one {
		t.Errorf("%+v", s)
	}
	outcome(t)(h.Resume(t.Context(), nil, store.Actor{}))
	h.reached(one)
}
