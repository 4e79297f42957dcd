package engine

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// A revision that is not the tip holds the tip.
func TestApplyHolds(t *testing.T) {
	h := newHouse(t, nil)
	one, _, three := h.history()
	out := outcome(t)(h.Apply(t.Context(), Order{Revision: one}))
	if out.Generation != 4 || out.Revision != one || out.Held == nil || out.Held.Revision != three || !strings.Contains(out.Held.Reason, "by hand") {
		t.Errorf("%+v", out)
	}
	if rec := h.current(); rec.Trigger != store.TriggerApply || rec.RolledBackTo != 0 {
		t.Errorf("%+v", rec)
	}
	h.held(4, "one", three)

	// The tip by name lifts the hold.
	if out := outcome(t)(h.Apply(t.Context(), Order{Revision: three})); out.Held != nil || h.served() != "three" {
		t.Errorf("serving %q: %+v", h.served(), out)
	}
	h.restart()
	if s := h.polls(2); s.Held != nil || h.served() != "three" {
		t.Errorf("serving %q: %+v", h.served(), s)
	}
}

// A revision that changes nothing but is not the tip holds the tip as well.
func TestApplyOfNoChangeHolds(t *testing.T) {
	h := newHouse(t, nil)
	one := h.reachedOnce(site("one"))
	bad := h.repo.commit(map[string]string{"site.hcl": "server {"})
	h.refused(bad)
	out := outcome(t)(h.Apply(t.Context(), Order{Revision: one}))
	if out.Generation != 1 || out.Held == nil || out.Held.Revision != bad {
		t.Errorf("%+v", out)
	}
	h.held(1, "one", bad)
}

// While the repo is away, what is known of its tip is held.
func TestApplyFromMirrorHolds(t *testing.T) {
	h := newHouse(t, nil)
	one, _, three := h.history()
	h.repo.fail(errors.New("no route to host"))
	h.wait("an error", func(s Status) bool { return s.RepoError != "" })
	outcome(t)(h.Apply(t.Context(), Order{Revision: one}))
	h.repo.fail(nil)
	h.held(4, "one", three)
}

func TestApplyExpectsGeneration(t *testing.T) {
	h := newHouse(t, nil)
	one, two, _ := h.history()
	before := h.state()
	stale := uint64(2)
	out, err := h.Apply(t.Context(), Order{Revision: one, Expect: &stale})
	if err != nil || out.Failure == nil || out.Failure.Reason != ReasonStale || out.Failure.Retry || out.Generation != 3 || out.Plan != nil {
		t.Errorf("%+v, %v", out, err)
	}
	if !strings.Contains(out.Failure.Error(), "generation 2") || !strings.Contains(out.Failure.Error(), "generation 3") {
		t.Error(out.Failure.Message)
	}
	if diff := cmp.Diff(before, h.state()); diff != "" {
		t.Error(diff)
	}
	if s, _ := h.Status(); s.Failure != nil || s.Held != nil {
		t.Errorf("%+v", s)
	}
	right := uint64(3)
	if out := outcome(t)(h.Apply(t.Context(), Order{Revision: two, Expect: &right})); out.Generation != 4 {
		t.Errorf("%+v", out)
	}
	nothing := uint64(0)
	if out, _ := h.Apply(t.Context(), Order{Revision: one, Expect: &nothing}); out.Failure == nil || out.Failure.Reason != ReasonStale {
		t.Errorf("%+v", out)
	}
}

// The plan that is shown is the plan that is applied.
func TestPlanIsTheTruth(t *testing.T) {
	h := newHouse(t, nil)
	one, _, _ := h.history()
	p, err := h.Plan(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	out := outcome(t)(h.Apply(t.Context(), Order{Revision: one, Expect: &p.BaseGeneration}))
	if diff := cmp.Diff(p, out.Plan); diff != "" {
		t.Errorf("(-planned +applied)\n%s", diff)
	}
	if p, err = h.Plan(t.Context(), one); err != nil || len(p.Changes) != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err = h.Plan(t.Context(), ""); err != nil || len(p.Changes) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := h.Plan(t.Context(), "no-such-thing"); err == nil {
		t.Error("no error")
	}
}

// An operator's attempt at a tip that cannot be served is told to him and to the
// status; the loop does not try it once more by itself.
func TestApplyOfABadTip(t *testing.T) {
	h := newHouse(t, nil)
	one := h.reachedOnce(site("one"))
	h.reached(h.repo.commit(site("two")))
	h.fakes["image"].set(func(f *fake) {
		f.onPrepare = func(context.Context, provider.Input) error { return errors.New("no space") }
	})
	worse := h.repo.commit(site("worse"))
	h.refused(worse)
	n := h.fakes["image"].began()
	out, err := h.Apply(t.Context(), Order{})
	if err != nil || out.Failure == nil || out.Failure.Message != "no space" {
		t.Errorf("%+v, %v", out, err)
	}
	if s := h.polls(3); s.Failure == nil || s.Failure.Revision != worse || h.fakes["image"].began() != n+1 {
		t.Errorf("tried %d times: %+v", h.fakes["image"].began()-n, s)
	}
	// Another revision that fails is nobody's business but the caller's.
	if out, _ := h.Apply(t.Context(), Order{Revision: one}); out.Failure == nil {
		t.Error("no failure")
	}
	if s, _ := h.Status(); s.Failure == nil || s.Failure.Revision != worse {
		t.Errorf("%+v", s.Failure)
	}
}

func TestWithoutSource(t *testing.T) {
	h := newHouse(t, nil)
	one, _, _ := h.history()
	h.change = func(c *Config) { c.Source = nil }
	h.restart()
	if h.served() != "three" {
		t.Errorf("serving %q", h.served())
	}
	if _, err := h.Apply(t.Context(), Order{Revision: one}); !errors.Is(err, ErrNoSource) {
		t.Error(err)
	}
	if _, err := h.Plan(t.Context(), one); !errors.Is(err, ErrNoSource) {
		t.Error(err)
	}
	if _, err := h.Build(t.Context(), one, nil); !errors.Is(err, ErrNoSource) {
		t.Error(err)
	}
	if out := outcome(t)(h.Rollback(t.Context(), 0, store.Actor{})); out.Generation != 4 || h.served() != "two" {
		t.Errorf("%+v", out)
	}
	h.Poke()
	outcome(t)(h.Release(t.Context(), "", store.Actor{}))
}

// A client that goes away ends its wait, not the work.
func TestCallerGoesAway(t *testing.T) {
	h := newHouse(t, nil)
	h.history()
	inside, release := make(chan struct{}), make(chan struct{})
	h.fakes["image"].set(func(f *fake) {
		f.onPrepare = func(context.Context, provider.Input) error {
			close(inside)
			<-release
			return nil
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := h.Rollback(ctx, 1, store.Actor{})
		done <- err
	}()
	<-inside
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(release)
	h.wait("the rollback", func(s Status) bool { return s.Generation == 4 && s.Phase == PhaseIdle })
	if h.served() != "one" {
		t.Errorf("serving %q", h.served())
	}
}

// Without a daemon: everything is prepared, recorded and given back, and the next
// start serves it.
func TestApplyOffline(t *testing.T) {
	h := newHouse(t, nil)
	one := h.repo.commit(site("one"))
	var shown *plan.Plan
	var steps []string
	h.fakes["image"].onPrepare = func(_ context.Context, in provider.Input) error {
		in.Report(provider.Progress{Step: "debootstrap"})
		return nil
	}
	out := outcome(t)(h.ApplyOffline(t.Context(), Order{}, func(p *plan.Plan) error { shown = p; return nil }, func(p provider.Progress) { steps = append(steps, p.Step) }))
	if out.Generation != 1 || out.Revision != one || shown == nil || shown != out.Plan || !cmp.Equal(steps, []string{"debootstrap"}) || out.Held != nil {
		t.Errorf("%+v, %v", out, steps)
	}
	want := []string{
		"prepare image 1", "prepare export 1", "prepare bootloader 1", "prepare dhcp 1",
		"abort dhcp 1", "abort bootloader 1", "abort export 1", "abort image 1",
	}
	if diff := cmp.Diff(want, h.journal.take()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if h.served() != "" {
		t.Errorf("serving %q", h.served())
	}
	again := func() {
		h.stop()
		h.open()
	}
	again()
	declined := errors.New("not approved")
	h.repo.commit(site("two"))
	out, err := h.ApplyOffline(t.Context(), Order{}, func(*plan.Plan) error { return declined }, nil)
	if err != nil || out.Failure == nil || out.Failure.Reason != ReasonCancelled || out.Failure.Retry || out.Failure.Stage != PhaseGating || out.Generation != 1 {
		t.Errorf("%+v, %v", out, err)
	}
	again()
	outcome(t)(h.ApplyOffline(t.Context(), Order{}, nil, nil))
	again()
	three := h.repo.commit(site("three"))
	outcome(t)(h.ApplyOffline(t.Context(), Order{}, nil, nil))
	again()

	// Rolled back, twice, each time in a process of its own.
	if out := outcome(t)(h.RollbackOffline(t.Context(), 0, store.Actor{}, nil)); out.Generation != 4 || out.Held == nil || out.Held.Revision != three {
		t.Errorf("%+v", out)
	}
	again()
	if out := outcome(t)(h.RollbackOffline(t.Context(), 0, store.Actor{}, nil)); out.Generation != 5 || out.Held == nil || out.Held.Revision != three {
		t.Errorf("%+v, held %+v", out, out.Held)
	}
	again()
	h.run()
	h.held(5, "one", three)
	h.stop()

	h.open()
	if out := outcome(t)(h.ApplyOffline(t.Context(), Order{Revision: one}, nil, nil)); out.Held == nil || out.Held.Revision != three || len(out.Plan.Changes) != 0 {
		t.Errorf("%+v", out)
	}
	again()
	if out := outcome(t)(h.ApplyOffline(t.Context(), Order{Revision: three}, nil, nil)); out.Held != nil || out.Generation != 6 {
		t.Errorf("%+v", out)
	}
}

func TestApplyOfflineWithoutSource(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Source = nil })
	if _, err := h.ApplyOffline(t.Context(), Order{}, nil, nil); !errors.Is(err, ErrNoSource) {
		t.Error(err)
	}
	if _, err := h.RollbackOffline(t.Context(), 0, store.Actor{}, nil); err == nil {
		t.Error("no error")
	}
}

// Build makes the images and changes nothing else.
func TestBuild(t *testing.T) {
	h := newHouse(t, nil)
	h.repo.commit(fullSite("one"))
	got, err := h.Build(t.Context(), "", nil)
	if err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if diff := cmp.Diff([]string{"prepare image 0", "abort image 0"}, h.journal.take()); diff != "" {
		t.Error(diff)
	}
	if _, ok, _ := h.store.Current(); ok {
		t.Error("something was recorded")
	}
}

// An image of which a part would be left out is not built: its recipe would promise it.
func TestBuildRefusesWhatIsNotServed(t *testing.T) {
	h := newHouse(t, nil)
	h.repo.commit(map[string]string{"site.hcl": "image \"a\" {\n  pacstrap {}\n  filesystem \"squashfs\" {}\n}\n"})
	_, err := h.Build(t.Context(), "", nil)
	var diags hcl.Diagnostics
	if !errors.As(err, &diags) || diags[0].Subject.Start.Line != 2 || !strings.Contains(diags[0].Summary, "pacstrap") {
		t.Errorf("%v", err)
	}
	if did := h.journal.take(); len(did) != 0 {
		t.Error(did)
	}
}
