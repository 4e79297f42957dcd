package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// SuspendOrder is what an operator wants left as it is.
type SuspendOrder struct {
	// Hosts names hosts of the generation that is served: by address, name, key or
	// hardware address. Their next boots stay on that generation. None: everything
	// stays, and commits wait.
	Hosts  []string
	Reason string
	// Expect, when not nil, is the generation that must be served at present.
	Expect *uint64
	By     store.Actor
}

// mostReason bounds the reason of a suspension, in bytes.
const mostReason = 1 << 10

// Suspend leaves things as they are until Resume, over restarts too. What is suspended
// already stays on the generation that it is on; its reason is the new one.
func (e *Engine) Suspend(ctx context.Context, o SuspendOrder) (Outcome, error) {
	if len(o.Reason) > mostReason {
		return Outcome{}, fmt.Errorf("a reason of %d bytes: want %d at most", len(o.Reason), mostReason)
	}
	cur := e.current()
	if len(o.Hosts) > 0 && cur == nil {
		return Outcome{}, fmt.Errorf("nothing is served yet that %s could stay on", strings.Join(o.Hosts, ", "))
	}
	one := store.Suspension{Reason: oneLine(o.Reason), By: o.By, Since: e.now().UTC()}
	var hosts []string
	for _, name := range o.Hosts {
		h, err := findHost(cur.desired.Hosts, name)
		if err != nil {
			return Outcome{}, err
		}
		hosts = append(hosts, h.Addr.String())
	}
	audited := order{trigger: store.TriggerSuspend, by: o.By, message: one.Reason, hosts: hosts}
	return e.send(ctx, command{do: func(st *loopState) Outcome {
		if len(o.Hosts) > 0 {
			out := e.suspended(o.Expect, func(m *store.Memory) {
				m.SuspendedHosts = clone(m.SuspendedHosts)
				for _, h := range hosts {
					mine := one
					if mine.Generation = e.Generation(); m.SuspendedHosts[h].Generation != 0 {
						mine.Generation = m.SuspendedHosts[h].Generation
					}
					m.SuspendedHosts[h] = mine
				}
			})
			e.auditOrder(audited, out)
			return out
		}
		out := e.suspended(o.Expect, func(m *store.Memory) { m.Suspended = &one })
		e.auditOrder(audited, out)
		if out.Failure == nil {
			// What a commit brought under way is not wanted now.
			if st.next != nil && !st.next.ordered() {
				st.next = nil
			}
			if st.running != nil && !st.running.ordered() {
				st.cancel(errSuspend)
			}
		}
		return out
	}})
}

// Resume ends what Suspend began: for the hosts that are named, else for everything
// else. What is not suspended is an error, which says what is.
func (e *Engine) Resume(ctx context.Context, hosts []string, by store.Actor) (Outcome, error) {
	return e.ResumeFrom(ctx, nil, hosts, by)
}

// ResumeFrom is Resume for what somebody decided on a generation; see RollbackFrom.
func (e *Engine) ResumeFrom(ctx context.Context, expect *uint64, hosts []string, by store.Actor) (Outcome, error) {
	s, _ := e.Status()
	stale := expect != nil && *expect != s.Generation // which is what is told then
	if len(hosts) == 0 && s.Suspended == nil && !stale {
		return Outcome{}, notSuspended(s.SuspendedHosts)
	}
	var gone []string
	for _, name := range hosts {
		key, err := findSuspended(s.SuspendedHosts, name)
		if err != nil {
			return Outcome{}, err
		}
		gone = append(gone, key)
	}
	return e.send(ctx, command{do: func(*loopState) Outcome {
		out := e.suspended(expect, func(m *store.Memory) {
			if len(hosts) == 0 {
				m.Suspended = nil
			}
			m.SuspendedHosts = clone(m.SuspendedHosts)
			for _, h := range gone {
				delete(m.SuspendedHosts, h)
			}
		})
		e.auditOrder(order{trigger: store.TriggerResume, by: by, hosts: gone}, out)
		return out
	}})
}

// suspended brings a change of what is suspended about; see decided.
func (e *Engine) suspended(expect *uint64, change func(*store.Memory)) Outcome {
	return e.decided(expect, func() Outcome {
		err := e.memorize(change)
		e.pin()
		out := e.unchangedOutcome()
		if err != nil {
			out.Failure = failure("", PhaseIdle, err, e.now())
		}
		return out
	})
}

// awake says why a revision is not applied while everything is suspended; nil when it
// is not. Going back to a generation is an operator's way out, and passes.
func (a *attempt) awake() error {
	s, _ := a.Status()
	if s.Suspended == nil || a.j.generation != 0 {
		return nil
	}
	f := &Failure{Revision: a.j.rev.Hash, Stage: PhaseGating, Reason: ReasonDenied, Cause: CauseSuspended, At: a.now(), Message: fmt.Sprintf(
		"everything is suspended since %s, by %s%s: `dlreconcile resume` ends that, and the newest commit is applied then", since(s.Suspended.Since), byWhom(s.Suspended.By), because(s.Suspended.Reason))}
	if a.j.reply == nil && !a.j.offline {
		f.Reason, f.Cause = ReasonCancelled, "" // it is tried when that ends
	}
	return f
}

// CauseSuspended is the cause of a denial because everything is suspended.
const CauseSuspended = "suspended"

// byWhom names who gave an order.
func byWhom(a store.Actor) string {
	switch {
	case a.Name != "":
		return strconv.Quote(a.Name)
	case a.UID != nil:
		return fmt.Sprintf("user %d", *a.UID)
	}
	return "the daemon itself"
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

// findHost finds a host by what an operator calls it.
func findHost(hosts []*schema.Host, name string) (*schema.Host, error) {
	var found []*schema.Host
	for _, h := range hosts {
		if hostIs(h.Addr, name) || strings.EqualFold(h.MAC, name) {
			found = append(found, h)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("no host %q is served: name it as in `dlreconcile nodes`, or by its hardware address", name)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%q is more than one host: %s and %s; name one by its address", name, found[0].Addr, found[1].Addr)
}

// notSuspended says that there is no suspension of everything to end, and which others
// there are.
func notSuspended(hosts map[string]store.Suspension) error {
	if len(hosts) == 0 {
		return errors.New("nothing is suspended: the newest commit is followed")
	}
	var names []string
	for _, key := range slices.Sorted(maps.Keys(hosts)) {
		if a, err := schema.ParseAddr(key); err == nil {
			key = cmp.Or(a.Key, a.Name)
		}
		names = append(names, key)
	}
	list := strings.Join(names, " ")
	if len(names) > 8 {
		list = strings.Join(names[:8], " ") + " …"
	}
	return fmt.Errorf("nothing was suspended as a whole; single hosts still are: `dlreconcile resume %s`", list)
}

// findSuspended finds a suspended host. It may be gone from what is served.
func findSuspended(hosts map[string]store.Suspension, name string) (string, error) {
	var found []string
	for _, key := range slices.Sorted(maps.Keys(hosts)) {
		if a, err := schema.ParseAddr(key); key == name || err == nil && hostIs(a, name) {
			found = append(found, key)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("host %q is not suspended: `dlreconcile status` lists those that are", name)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%q is more than one suspended host: %s; name one by its address", name, strings.Join(found, ", "))
}

func hostIs(a schema.Addr, name string) bool {
	return a.String() == name || a.Key == name && name != "" || a.Key == "" && a.Name == name
}

func clone(m map[string]store.Suspension) map[string]store.Suspension {
	if m = maps.Clone(m); m == nil {
		m = map[string]store.Suspension{}
	}
	return m
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// Pinned gives the generation that a machine's next boots stay on; 0: on whichever is
// served then. It waits for nothing.
func (e *Engine) Pinned(mac provider.MAC) uint64 {
	if pins := e.pins.Load(); pins != nil {
		return (*pins)[mac]
	}
	return 0
}

// pin works out whose boots stay where. A generation that cannot be served is no place
// to stay: its machines boot what all others do, and the status says why. One that could
// not be read is tried again by retire.
func (e *Engine) pin() {
	s, _ := e.Status()
	e.unpinned = nil
	pins := map[provider.MAC]uint64{}
	byNumber := map[uint64]*applied{}
	for key, one := range s.SuspendedHosts {
		if e.unserved[one.Generation] != nil {
			continue
		}
		old := byNumber[one.Generation]
		if old == nil {
			rec, err := e.cfg.Store.Get(one.Generation)
			if err == nil {
				old, err = e.read(rec)
			}
			if err != nil {
				e.unpinned = fmt.Errorf("suspended hosts boot the generation that is served, as generation %d cannot be read: %w", one.Generation, err)
				continue
			}
			byNumber[one.Generation] = old
		}
		for _, h := range old.desired.Hosts {
			if h.Addr.String() != key {
				continue
			}
			if mac, err := provider.ParseMAC(h.MAC); err == nil {
				pins[mac] = one.Generation
			}
			if h.Address.Is4() { // where another server gives it out
				pins[provider.AddressMAC(h.Address)] = one.Generation
			}
		}
	}
	e.pins.Store(&pins)
}

// spare adds the generations that an order needs: those of suspended hosts, and the
// way back from a trial.
func (e *Engine) spare(live map[uint64]bool) {
	s, _ := e.Status()
	for _, one := range s.SuspendedHosts {
		live[one.Generation] = true
	}
	if s.Try != nil {
		live[s.Try.Back] = true
	}
}

// suspensions tells plans who stays where.
func suspensions(hosts map[string]store.Suspension) []plan.Observation {
	var list []plan.Observation
	for _, key := range slices.Sorted(maps.Keys(hosts)) {
		if a, err := schema.ParseAddr(key); err == nil {
			list = append(list, plan.Observation{Kind: plan.SawSuspended, Host: a, Generation: hosts[key].Generation})
		}
	}
	return list
}
