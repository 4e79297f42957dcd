package engine

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

const (
	approvePolicy = "policy {\n  approve = \"required\"\n}\n"
	nightPolicy   = "policy {\n  window {\n    from     = \"22:00\"\n    to       = \"23:00\"\n    timezone = \"Europe/Berlin\"\n  }\n}\n"
)

// waits waits until a commit waits for something.
func (h *house) waits(rev string) *Waiting {
	h.t.Helper()
	return h.wait("a wait of "+rev, func(s Status) bool {
		return s.Waiting != nil && s.Waiting.Revision == rev && s.Phase == PhaseWaiting
	}).Waiting
}

func TestCommitWaitsForApproval(t *testing.T) {
	h := newHouse(t, nil)
	one := h.repo.commit(rack("one", 2, approvePolicy))
	h.run()
	// Nothing is served yet: the commit's own policy counts.
	if w := h.waits(one); w.For != WaitApproval || w.Command != "dlreconcile apply --rev "+short(one) || w.Range.String() != "policy.hcl:1,1" {
		t.Errorf("%+v", w)
	}
	if s, _ := h.Status(); s.Generation != 0 || s.Failure != nil || condition(t, s, "Synced").Reason != "Waiting" {
		t.Errorf("%+v", s)
	}
	uid := uint32(1000)
	outcome(t)(h.Apply(t.Context(), Order{By: store.Actor{Via: store.ViaSocket, UID: &uid}}))
	s := h.reached(one)
	if s.Waiting != nil || h.served() != "one" || *h.current().By.UID != 1000 {
		t.Errorf("%+v, %+v", s, h.current().By)
	}

	// The policy that is served counts, not the one of the commit; and it is not
	// planned anew at each poll.
	two := h.repo.commit(rack("two", 2, ""))
	h.waits(two)
	lines := len(h.audit())
	if s = h.polls(3); s.Waiting == nil || s.Waiting.Revision != two || h.served() != "one" || len(h.audit()) != lines {
		t.Errorf("%+v", s)
	}
	// A newer commit takes its place, one that is wrong too.
	three := h.repo.commit(rack("three", 2, ""))
	h.waits(three)
	h.repo.commit(map[string]string{"site.hcl": "nonsense {}"})
	if s = h.wait("failure", func(s Status) bool { return s.Failure != nil && s.Phase == PhaseIdle }); s.Waiting != nil || h.served() != "one" {
		t.Errorf("%+v", s)
	}
	h.repo.move(three)
	h.waits(three)
	// It waits over a restart, and what is served needs no approval.
	h.restart()
	h.waits(three)
	if h.served() != "one" {
		t.Error("what was served is not served on")
	}
	// The branch moves back: there is nothing to wait for.
	h.repo.move(one)
	if s = h.wait("the served commit", func(s Status) bool { return s.Tip == one && s.Phase == PhaseIdle }); s.Waiting != nil {
		t.Errorf("%+v", s.Waiting)
	}
	h.repo.move(three)
	h.waits(three)
	outcome(t)(h.Apply(t.Context(), Order{Revision: three}))
	if s = h.reached(three); s.Held != nil || h.served() != "three" {
		t.Errorf("%+v", s)
	}
	// Three has no such policy.
	h.reached(h.repo.commit(rack("four", 2, "")))
}

func TestCommitWaitsForAWindow(t *testing.T) {
	h := newHouse(t, nil)
	// In Berlin it is 13:00.
	one := h.repo.commit(rack("one", 15, nightPolicy))
	h.run()
	w := h.waits(one)
	if w.For != WaitWindow || !w.Until.Equal(time.Date(2026, 11, 1, 21, 0, 0, 0, time.UTC)) || w.Command != "dlreconcile apply --rev "+short(one)+" --override window" || w.Range.String() != "policy.hcl:2,3" {
		t.Errorf("%+v", w)
	}
	// An operator outside of it is denied, and it waits on.
	out, err := h.Apply(t.Context(), Order{})
	if err != nil || out.Failure == nil || out.Failure.Reason != ReasonDenied || !strings.Contains(out.Failure.Message, "opens at 2026-11-01T22:00:00+01:00") || out.Failure.Diagnostics[0].Source != "  window {" {
		t.Errorf("%+v, %v", out.Failure, err)
	}
	if s, _ := h.Status(); s.Failure != nil || s.Waiting == nil || s.Phase != PhaseWaiting {
		t.Errorf("%+v", s)
	}
	outcome(t)(h.Apply(t.Context(), Order{Overrides: []string{"window"}}))
	h.reached(one)
	if rec := h.current(); !cmp.Equal(rec.Overrides, []string{"window"}) {
		t.Errorf("%v", rec.Overrides)
	}

	two := h.repo.commit(rack("two", 15, nightPolicy))
	h.waits(two)
	h.clock.advance(9*time.Hour - time.Second)
	if h.polls(2); h.served() != "one" {
		t.Error("it is applied before the window opens")
	}
	three := h.repo.commit(rack("three", 15, nightPolicy))
	h.waits(three)
	h.clock.advance(time.Second)
	h.Poke()
	if s := h.reached(three); s.Waiting != nil || h.served() != "three" {
		t.Errorf("%+v", s)
	}
	// Within it all goes by itself, and an operator overrides nothing.
	h.reached(h.repo.commit(rack("four", 15, nightPolicy)))
	five := h.repo.commit(rack("five", 15, nightPolicy))
	h.reached(five)
	// At its end it closes.
	h.clock.advance(time.Hour)
	six := h.repo.commit(rack("six", 15, nightPolicy))
	if w := h.waits(six); !w.Until.Equal(time.Date(2026, 11, 2, 21, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", w)
	}
	// Too much deleted is denied at once, whatever the time: nobody has to wait for
	// night to learn it.
	seven := h.repo.commit(rack("seven", 1, nightPolicy))
	if s := h.refused(seven); s.Failure.Reason != ReasonDenied || s.Waiting != nil {
		t.Errorf("%+v", s)
	}
	out, err = h.Apply(t.Context(), Order{Overrides: []string{"window"}})
	if err != nil || out.Failure == nil || !strings.Contains(out.Failure.Message, "max_delete") || strings.Contains(out.Failure.Message, "window for changes") {
		t.Errorf("%+v, %v", out.Failure, err)
	}
	out, err = h.Apply(t.Context(), Order{})
	if err != nil || out.Failure == nil || len(out.Failure.Diagnostics) != 2 {
		t.Errorf("%+v, %v", out.Failure, err)
	}
	outcome(t)(h.Rollback(t.Context(), 0, store.Actor{}))
	if h.served() != "four" {
		t.Errorf("%s is served", h.served())
	}
}

// The loop wakes by itself when the window opens: with a clock that stands just
// before it, and a timer that fires.
func TestWindowWakesTheLoop(t *testing.T) {
	h := newHouse(t, nil)
	h.clock.advance(9*time.Hour - 50*time.Millisecond)
	one := h.repo.commit(rack("one", 1, nightPolicy))
	h.run()
	h.waits(one)
	h.clock.advance(50 * time.Millisecond)
	h.reached(one)
}

// A commit that changes nothing but the policy is served, or no policy could ever
// be changed by itself.
func TestPolicyAloneMakesAGeneration(t *testing.T) {
	h := newHouse(t, nil)
	one := h.repo.commit(rack("one", 1, ""))
	h.run()
	h.reached(one)
	two := h.repo.commit(rack("one", 1, approvePolicy))
	if s := h.reached(two); s.Generation != 2 || s.Revision != two {
		t.Errorf("%+v", s)
	}
	if last := h.audit()[1]; last.Result != store.AuditApplied || len(last.Changes) != 0 || !last.PolicyChanged || last.Generation != 2 {
		t.Errorf("%+v", last)
	}
	three := h.repo.commit(rack("one", 1, "# nothing is said\n"))
	h.waits(three)
	outcome(t)(h.Apply(t.Context(), Order{}))
	if s := h.reached(three); s.Generation != 3 {
		t.Errorf("%+v", s)
	}
	// Words and places are no change.
	four := h.repo.commit(rack("one", 1, "\n# other words\n"))
	if s := h.reached(four); s.Generation != 3 {
		t.Errorf("%+v", s)
	}
}

func TestUnknownZoneIsRefusedBeforeItIsServed(t *testing.T) {
	h := newHouse(t, nil)
	one := h.repo.commit(rack("one", 1, ""))
	h.run()
	h.reached(one)
	two := h.repo.commit(rack("two", 1, strings.ReplaceAll(nightPolicy, "Berlin", "Berln")))
	s := h.refused(two)
	if s.Failure.Reason != ReasonInvalid || s.Failure.Diagnostics[0].Range.String() != "policy.hcl:2,3" || !strings.Contains(s.Failure.Message, `Unknown time zone "Europe/Berln"`) {
		t.Errorf("%+v", s.Failure)
	}
}

// A commit from which everything is gone deletes nothing, in whatever way it is gone.
func TestEverythingGone(t *testing.T) {
	gone := &goneSource{repo: newRepo()}
	h := newHouse(t, func(c *Config) { c.Source = gone })
	h.repo = gone.repo
	one := h.repo.commit(rack("one", 1, ""))
	h.run()
	h.reached(one)
	for name, files := range map[string]map[string]string{"no files": {}, "files that declare nothing": {"site.hcl": "# nothing\n"}, "other files": {"README": "moved"}} {
		s := h.refused(h.repo.commit(files))
		if s.Failure.Reason != ReasonDenied || !strings.Contains(s.Failure.Message, "allow_empty") || h.served() != "one" || s.Generation != 1 {
			t.Errorf("%s: %+v", name, s.Failure)
		}
	}
	folder := h.repo.commit(map[string]string{"gone": ""})
	s := h.refused(folder)
	if s.Failure.Reason != ReasonDenied || !strings.Contains(s.Failure.Message, "the folder is not there") || h.served() != "one" {
		t.Errorf("%+v", s.Failure)
	}
	out := outcome(t)(h.Apply(t.Context(), Order{Overrides: []string{"allow_empty"}}))
	if out.Generation != 2 || h.served() != "" || len(h.Desired().Resources) != 0 {
		t.Errorf("%+v", out)
	}
}

// goneSource is a repo of which one commit, the one with a file "gone", has lost the
// folder that is followed.
type goneSource struct{ *repo }

func (g *goneSource) Tree(ctx context.Context, rev source.Revision) (fs.FS, error) {
	tree, err := g.repo.Tree(ctx, rev)
	if err != nil {
		return nil, err
	}
	if _, err := fs.Stat(tree, "gone"); err == nil {
		return nil, fmt.Errorf("the folder is not there: %w", source.ErrNoPath)
	}
	return tree, nil
}
