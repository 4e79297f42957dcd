package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/schema"
)

// withHosts makes a site of so many hosts, which has 6 resources more.
func withHosts(n int) func(*site) {
	return func(s *site) {
		s.hosts = nil
		for i := range n {
			s.hosts = append(s.hosts, hostSpec{fmt.Sprintf("ws%03d", i), fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&255), "", nil})
		}
	}
}

func rules(p *Plan) []string {
	list := []string{}
	for _, d := range p.Denied {
		list = append(list, string(d.Rule))
	}
	for _, w := range p.Waits {
		list = append(list, string(w.Rule))
	}
	return list
}

func TestMaxDelete(t *testing.T) {
	at := schema.Range{File: "policy.hcl", Line: 2, Column: 3}
	limit := func(count, percent int) *schema.MaxDelete {
		return &schema.MaxDelete{Range: at, Count: count, Percent: percent}
	}
	for _, tc := range []struct {
		served, left int // hosts
		max          *schema.MaxDelete
		denied       bool
	}{
		{94, 89, nil, false},             // 5 of 100
		{94, 84, nil, false},             // 10 of 100
		{94, 83, nil, true},              // 11 of 100
		{4, 0, nil, false},               // 4 of 10: few
		{14, 8, nil, true},               // 6 of 20
		{194, 174, nil, false},           // 20 of 200
		{94, 90, limit(3, -1), true},     // 4 of 100
		{94, 91, limit(3, -1), false},    // 3 of 100
		{94, 93, limit(0, -1), true},     // none at all
		{94, 94, limit(0, -1), false},    //
		{94, 45, limit(-1, 50), false},   // 49 of 100
		{94, 43, limit(-1, 50), true},    // 51 of 100
		{94, 0, limit(-1, 100), false},   // all of the hosts
		{394, 0, limit(1000, -1), false}, // more than there is
	} {
		have := newSite(withHosts(tc.served))
		have.Policy = schema.Policy{MaxDelete: tc.max}
		want := newSite(withHosts(tc.left))
		// The commit cannot let itself through, nor lock itself out.
		want.Policy = schema.Policy{MaxDelete: limit(1000, -1)}
		if !tc.denied {
			want.Policy.MaxDelete = limit(0, -1)
		}
		p := Compute(Input{Want: want, Applied: &Applied{Generation: 1, Desired: have}})
		if got := len(p.Denied) > 0; got != tc.denied {
			t.Errorf("%+v: denied %+v", tc, p.Denied)
		}
		if tc.denied && tc.max != nil && p.Denied[0].Range != at {
			t.Errorf("%+v: told at %s", tc, p.Denied[0].Range)
		}
	}
}

// A commit that gave every host another mac passed as no deletion at all.
func TestMaxDeleteCountsMachines(t *testing.T) {
	other := func(n int) func(*site) {
		return func(s *site) {
			for i := range n {
				s.hosts[i].mac = "52:54:00:01" + s.hosts[i].mac[11:]
			}
		}
	}
	for _, tc := range []struct {
		name   string
		edit   func(*site)
		denied string
	}{
		{"five", other(5), ""},
		{"six of thirty", other(6), "6 of 30 resources would be deleted, replaced, or another machine"},
		{"all, but they only swap", func(s *site) {
			for i := 0; i < len(s.hosts); i += 2 {
				s.hosts[i].mac, s.hosts[i+1].mac = s.hosts[i+1].mac, s.hosts[i].mac
			}
		}, ""},
		{"other addresses and arguments", func(s *site) {
			for i := range s.hosts {
				s.hosts[i].address, s.hosts[i].args = fmt.Sprintf("10.0.0.%d", 50+i), []string{"quiet"}
			}
		}, ""},
		{"three, and three deleted", func(s *site) {
			other(3)(s)
			s.hosts = s.hosts[:len(s.hosts)-3]
		}, "6 of 30 resources would be deleted, replaced, or another machine"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := newSite(withHosts(24), tc.edit)
			p := Compute(Input{Want: want, Applied: &Applied{Generation: 1, Desired: newSite(withHosts(24))}})
			got := ""
			for _, d := range p.Denied {
				got += d.Summary
			}
			if got != tc.denied {
				t.Errorf("denied: %q, want %q", got, tc.denied)
			}
		})
	}
}

func TestDenialsSayWhatToDo(t *testing.T) {
	have := newSite(withHosts(94))
	p := Compute(Input{Want: newSite(withHosts(83)), Applied: &Applied{Generation: 1, Desired: have}})
	const want = `Denied: 11 of 100 resources would be deleted or replaced
  That is 11 %, and the policy in force lets at most 10 %, or 5 resources, through. If it is meant, apply with --override max_delete, or let a commit before this one say policy { max_delete = … }: the policy that is served decides.

Plan: 0 to create, 0 to update, 0 to replace, 11 to delete.
`
	if got := rendered(t, p); !strings.HasSuffix(got, want) {
		t.Errorf("text:\n%s", got)
	}
}

func TestAllowEmpty(t *testing.T) {
	allow := schema.Policy{AllowEmpty: true}
	for name, tc := range map[string]struct {
		have         *schema.Desired
		served, says schema.Policy
		want         []string
	}{
		"everything goes":                        {newSite(), schema.Policy{}, allow, []string{"max_delete", "allow_empty"}},
		"everything may go, but not so many":     {newSite(), allow, schema.Policy{}, []string{"max_delete"}},
		"nothing is served":                      {nil, schema.Policy{}, schema.Policy{}, []string{"allow_empty"}},
		"nothing is served, and that is allowed": {nil, schema.Policy{}, allow, []string{}},
		"nothing was there before":               {&schema.Desired{}, schema.Policy{}, schema.Policy{}, []string{}},
	} {
		in := Input{Want: &schema.Desired{Policy: tc.says}}
		if tc.have != nil {
			tc.have.Policy = tc.served
			in.Applied = &Applied{Generation: 1, Desired: tc.have}
		}
		p := Compute(in)
		if d := cmp.Diff(tc.want, rules(p)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestReplacementsCountAsDeletions(t *testing.T) {
	have := newSite(func(s *site) { s.mode, s.keep = schema.CopyOnWrite, schema.KeepHost })
	have.Policy.MaxDelete = &schema.MaxDelete{Count: 0, Percent: -1}
	want := newSite(func(s *site) { s.mode, s.keep, s.recipe = schema.CopyOnWrite, schema.KeepHost, recipe2 })
	p := Compute(Input{Want: want, Applied: &Applied{Generation: 1, Desired: have, Artifacts: map[string]string{recipe1: artifact1}}})
	if d := cmp.Diff([]string{"max_delete"}, rules(p)); d != "" {
		t.Errorf("rules (-want +got):\n%s", d)
	}
}

func TestWaits(t *testing.T) {
	have := newSite()
	have.Policy = schema.Policy{Approve: true, Windows: []schema.Window{
		{Days: []time.Weekday{time.Monday, time.Friday}, From: 22 * time.Hour, To: 6*time.Hour + 30*time.Minute, Zone: "Europe/Berlin"},
		{Days: []time.Weekday{0, 1, 2, 3, 4, 5, 6}, From: time.Hour, To: 2 * time.Hour, Zone: "UTC"},
	}}
	applied := &Applied{Generation: 1, Desired: have}
	p := Compute(Input{Want: newSite(func(s *site) { s.dns = "10.0.0.2" }), Applied: applied})
	var got []string
	for _, w := range p.Waits {
		got = append(got, w.Summary)
	}
	want := []string{"the approval of an operator: `dlreconcile apply`", "a window: mon, fri 22:00-06:30 Europe/Berlin; or 01:00-02:00 UTC"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("waits (-want +got):\n%s", d)
	}
	if p := Compute(Input{Want: have, Applied: applied}); len(p.Waits) != 0 {
		t.Errorf("without changes it waits for %+v", p.Waits)
	}
}

func TestPolicyChanges(t *testing.T) {
	have, want := newSite(), newSite()
	have.Policy = schema.Policy{Range: schema.Range{File: "p.hcl", Line: 1, Column: 1}, MaxDelete: &schema.MaxDelete{Count: -1, Percent: 10}, Approve: true}
	want.Policy = schema.Policy{Range: schema.Range{File: "q.hcl", Line: 2, Column: 1}, MaxDelete: &schema.MaxDelete{Count: 500, Percent: -1}, AllowEmpty: true}
	p := Compute(Input{Want: want, Applied: &Applied{Generation: 3, Desired: have}})
	const wantText = `~ policy     q.hcl:2,1
  + allow_empty  true
  - approve      required
  ~ max_delete   10% -> 500
    decides from the next commit on

Waits for: the approval of an operator: ` + "`dlreconcile apply`" + `     p.hcl:1,1

Plan: 0 to create, 0 to update, 0 to replace, 0 to delete.
`
	if d := cmp.Diff(wantText, rendered(t, p)); d != "" {
		t.Errorf("text (-want +got):\n%s", d)
	}
	if !p.Pending() || len(p.Changes) != 0 {
		t.Error("the policy is not pending")
	}
	// Where it stands does not matter.
	have.Policy = want.Policy
	have.Policy.Range.Line = 7
	if p := Compute(Input{Want: want, Applied: &Applied{Generation: 3, Desired: have}}); p.Pending() {
		t.Errorf("a policy that moved is pending: %+v", p.Policy)
	}
}
