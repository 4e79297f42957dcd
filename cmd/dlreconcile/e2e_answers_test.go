package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/explain"
	"github.com/dlreconcile/dlreconcile/engine/plan"
)

// plan runs a command that prints a plan as JSON.
func (s *site) plan(args ...string) *plan.Plan {
	s.t.Helper()
	var p plan.Plan
	if err := json.Unmarshal([]byte(s.must(args...)), &p); err != nil {
		s.t.Fatal(err)
	}
	return &p
}

// appliedChanges gives what the newest generation's record says was changed.
func (s *site) appliedChanges() []string {
	s.t.Helper()
	var o engine.Observed
	if err := s.client.Get(s.ctx, "/v1/observed", nil, &o); err != nil {
		s.t.Fatal(err)
	}
	if o.Record == nil || o.Record.Plan == nil {
		s.t.Fatal("the record of the newest generation has no plan")
	}
	return changes(o.Record.Plan)
}

// explained asks the daemon what a machine gets.
func (s *site) explained(machine, class string) explain.Result {
	s.t.Helper()
	q := url.Values{"machine": {machine}}
	if class != "" {
		q.Set("class", class)
	}
	var r explain.Result
	if err := s.client.Get(s.ctx, "/v1/explain", q, &r); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// answers is every answer that every host would get, as one text.
func (s *site) answers() string {
	s.t.Helper()
	var b strings.Builder
	for _, m := range []byte{machineA, machineB, machineC, machineD} {
		for _, class := range []string{"", "iPXE"} {
			text, err := json.MarshalIndent(s.explained(macOf(m).String(), class), "", " ")
			if err != nil {
				s.t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s %q\n%s\n", macOf(m), class, text)
		}
	}
	return b.String()
}

// leases gives the address of every machine with a lease, by MAC.
func (s *site) leases() map[string]string {
	s.t.Helper()
	var o engine.Observed
	if err := s.client.Get(s.ctx, "/v1/observed", nil, &o); err != nil {
		s.t.Fatal(err)
	}
	m := map[string]string{}
	for _, ob := range o.Observations {
		if ob.Kind == plan.SawLease {
			m[ob.MAC] = ob.Address
		}
	}
	return m
}

// polls waits until the daemon has looked at its repo n more times.
func (s *site) polls(n uint64) {
	s.t.Helper()
	st, err := s.client.Status(s.ctx, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	want := st.Polls + n
	s.waitStatus(fmt.Sprintf("%d polls", n), func(st engine.Status) bool { return st.Polls >= want })
}

// showTimeline prints the timeline of a machine's newest boot.
func (s *site) showTimeline(last byte) {
	s.t.Helper()
	n, ok := s.node(macOf(last))
	if !ok || len(n.Boots) == 0 {
		s.t.Fatalf("no timeline of %s", macOf(last))
	}
	var b strings.Builder
	t := n.Boots[len(n.Boots)-1]
	if err := t.Text(&b); err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("boot of %s\n%s", macOf(last), b.String())
	if !t.Complete {
		s.t.Errorf("the timeline of %s does not reach userland", macOf(last))
	}
	seen := map[string]bool{}
	for _, st := range t.Stages {
		seen[st.Name] = true
	}
	for _, want := range []string{"dhcp", "script", "kernel", "initrd", "attach", "root", "userland"} {
		if !seen[want] {
			s.t.Errorf("the timeline of %s has no stage %q", macOf(last), want)
		}
	}
}
