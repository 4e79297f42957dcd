package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// rack is the site with n hosts and a policy, which may be "".
func rack(text string, n int, policy string) map[string]string {
	files := site(text)
	for i := range n {
		files["site.hcl"] += fmt.Sprintf("\nhost \"r%02d\" {\n  mac     = \"52:54:00:00:01:%02x\"\n  address = \"10.0.0.%d\"\n}\n", i, i, 100+i)
	}
	files["policy.hcl"] = policy
	return files
}

func TestGate(t *testing.T) {
	policy := func(change func(*schema.Policy)) schema.Policy {
		p := schema.Policy{Range: schema.Range{File: "site.hcl", Line: 1, Column: 1}}
		change(&p)
		return p
	}
	night := window("22:00", "23:00", "")
	approve := policy(func(p *schema.Policy) { p.Approve = true })
	closed := policy(func(p *schema.Policy) { p.Windows = []schema.Window{night} })
	both := policy(func(p *schema.Policy) { p.Approve, p.Windows = true, []schema.Window{night} })
	lost := policy(func(p *schema.Policy) { p.Windows = []schema.Window{window("22:00", "23:00", "Europe/Atlantis")} })
	commit, apply := store.TriggerCommit, store.TriggerApply
	much := plan.Denial{Rule: plan.RuleMaxDelete, Summary: "Much would go", Detail: "pass it with --override max_delete", Range: schema.Range{File: "site.hcl", Line: 1, Column: 1}}
	for name, c := range map[string]struct {
		policy    schema.Policy
		j         job
		much      bool   // is deleted
		denied    string // in the message
		waits     string
		command   string
		overrides []string // that were needed
	}{
		"nothing written":             {j: job{trigger: commit}},
		"too much":                    {j: job{trigger: commit}, much: true, denied: "site.hcl:1,1: Much would go; pass it"},
		"too much by hand":            {j: job{trigger: apply}, much: true, denied: "--override max_delete"},
		"overridden":                  {j: job{trigger: apply, overrides: []string{"max_delete", "window"}}, much: true, overrides: []string{"max_delete"}},
		"another one overridden":      {j: job{trigger: apply, overrides: []string{"allow_empty"}}, much: true, denied: "Much would go"},
		"rollback":                    {policy: both, j: job{trigger: store.TriggerRollback, generation: 1}, much: true},
		"approval":                    {policy: approve, j: job{trigger: commit}, waits: WaitApproval, command: "dlreconcile apply --rev 0123456789ab"},
		"approved":                    {policy: approve, j: job{trigger: apply}},
		"denied before approval":      {policy: approve, j: job{trigger: commit}, much: true, denied: "Much would go"},
		"closed":                      {policy: closed, j: job{trigger: commit}, waits: WaitWindow, command: "dlreconcile apply --rev 0123456789ab --override window"},
		"closed by hand":              {policy: closed, j: job{trigger: apply}, denied: "the next window opens at 2026-11-01T22:00:00Z"},
		"closed, overridden":          {policy: closed, j: job{trigger: apply, overrides: []string{"window"}}, overrides: []string{"window"}},
		"closed, and too much":        {policy: closed, j: job{trigger: apply}, much: true, denied: "No window for changes is open"},
		"closed, waits for approval":  {policy: both, j: job{trigger: commit}, waits: WaitApproval, command: "dlreconcile apply --rev 0123456789ab --override window"},
		"unknown zone":                {policy: lost, j: job{trigger: commit}, denied: `site.hcl:2,3: Unknown time zone "Europe/Atlantis"`},
		"unknown zone by hand":        {policy: lost, j: job{trigger: apply}, denied: `Unknown time zone`},
		"unknown zone and overridden": {policy: lost, j: job{trigger: apply, overrides: []string{"window"}}, overrides: []string{"window"}},
	} {
		h := newHouse(t, nil)
		c.j.rev.Hash = "0123456789abcdef"
		a := &attempt{Engine: h.Engine, j: c.j, plan: &plan.Plan{}}
		if c.much {
			a.plan.Denied = []plan.Denial{much}
		}
		cur := &applied{record: &store.Record{Number: 1, Files: store.Files{"site.hcl": []byte("policy {\n")}}, desired: &schema.Desired{Policy: c.policy}}
		err := a.gate(cur, &schema.Desired{}, nil)
		var f *Failure
		var w *waitError
		switch {
		case c.denied != "":
			if !errors.As(err, &f) || f.Reason != ReasonDenied || f.Stage != PhaseGating || f.Retry || !strings.Contains(f.Message, c.denied) || len(f.Diagnostics) == 0 {
				t.Errorf("%s: %v, %+v", name, err, f)
			}
		case c.waits != "":
			if !errors.As(err, &w) || w.For != c.waits || w.Command != c.command || w.Revision != c.j.rev.Hash || (w.For == WaitWindow) == w.Until.IsZero() {
				t.Errorf("%s: %v, %+v", name, err, w)
			}
		case err != nil || !cmp.Equal(a.overridden, c.overrides):
			t.Errorf("%s: %v, overridden %v", name, err, a.overridden)
		}
		h.stop()
	}
}

// The place in the policy comes with its line, of the files that it is in.
func TestDenialShowsTheLine(t *testing.T) {
	h := newHouse(t, nil)
	denied := plan.Denial{Rule: plan.RuleMaxDelete, Range: schema.Range{File: "policy.hcl", Line: 2, Column: 3}}
	a := &attempt{Engine: h.Engine, j: job{trigger: store.TriggerApply}, plan: &plan.Plan{Denied: []plan.Denial{denied}}}
	cur := &applied{record: &store.Record{Files: store.Files{"policy.hcl": []byte("policy {\n  max_delete = 0\n}\n")}}, desired: &schema.Desired{}}
	var f *Failure
	if err := a.gate(cur, &schema.Desired{}, nil); !errors.As(err, &f) || f.Diagnostics[0].Source != "  max_delete = 0" {
		t.Errorf("%v, %+v", err, f)
	}
}

func TestDue(t *testing.T) {
	at := time.Date(2026, 11, 1, 22, 0, 0, 0, time.UTC)
	var none *Waiting
	w := &Waiting{For: WaitWindow, Until: at}
	if none.due(at) || w.due(at.Add(-1)) || !w.due(at) || (&Waiting{For: WaitApproval, Until: at}).due(at) || (&Waiting{For: WaitWindow}).due(at) {
		t.Error("what is due is not told from what is not")
	}
}

// A commit that deletes a third of what is served deletes nothing.
func TestDeletionIsDenied(t *testing.T) {
	h := newHouse(t, nil)
	one := h.repo.commit(rack("one", 15, ""))
	h.run()
	h.reached(one)
	two := h.repo.commit(rack("two", 9, ""))
	s := h.refused(two)
	if s.Failure.Reason != ReasonDenied || s.Failure.Retry || h.served() != "one" || s.Generation != 1 || s.Synced != one {
		t.Errorf("%+v", s)
	}
	before := len(h.audit())
	if s = h.polls(3); s.Failure == nil || len(h.audit()) != before {
		t.Error("it is tried again by itself")
	}
	// An operator is told the same, and it stays the tip's failure.
	out, err := h.Apply(t.Context(), Order{})
	if err != nil || out.Failure == nil || out.Failure.Message != s.Failure.Message {
		t.Errorf("%+v, %v; want %s", out.Failure, err, s.Failure.Message)
	}
	if s, _ = h.Status(); s.Failure == nil || s.Failure.Reason != ReasonDenied {
		t.Errorf("%+v", s.Failure)
	}
	// A restart serves what was served, and denies it again.
	h.restart()
	if s = h.refused(two); h.served() != "one" || s.Failure.Reason != ReasonDenied {
		t.Errorf("%+v", s)
	}
	// A release has it looked at again, and lets nothing through.
	outcome(t)(h.Release(t.Context(), "", store.Actor{}))
	if s = h.refused(two); h.served() != "one" {
		t.Errorf("%+v", s)
	}
	out = outcome(t)(h.Apply(t.Context(), Order{Overrides: []string{"max_delete", "window"}}))
	if out.Generation != 2 || h.served() != "two" {
		t.Errorf("%+v", out)
	}
	lines := h.audit()
	last := lines[len(lines)-1]
	if rec := h.current(); !cmp.Equal(rec.Overrides, []string{"max_delete"}) || !cmp.Equal(last.Overrides, rec.Overrides) || len(last.Changes) != 7 || last.Who.Via != store.ViaDaemon {
		t.Errorf("%+v, %+v", rec.Overrides, last)
	}
	if s, _ = h.Status(); s.Failure != nil || s.Synced != two {
		t.Errorf("%+v", s)
	}
	// Going back deletes nothing here, but would pass in any case.
	three := h.repo.commit(rack("three", 16, ""))
	h.reached(three)
	outcome(t)(h.Rollback(t.Context(), 2, store.Actor{}))
	if h.served() != "two" {
		t.Error("a rollback is denied")
	}
}

// A newer commit takes the place of a denied one.
func TestDeniedCommitGivesWay(t *testing.T) {
	h := newHouse(t, nil)
	one := h.repo.commit(rack("one", 15, ""))
	h.run()
	h.reached(one)
	h.refused(h.repo.commit(rack("two", 1, "")))
	three := h.repo.commit(rack("three", 14, ""))
	if s := h.reached(three); s.Failure != nil || h.served() != "three" {
		t.Errorf("%+v", s)
	}
}
