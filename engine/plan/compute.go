package plan

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/dlreconcile/dlreconcile/schema"
)

// Pseudo-attributes: what a change shows besides the attributes of the block.
const (
	attrRecipe   = "recipe"    // image: what it is made of
	attrArtifact = "artifact"  // image: what is served; unknown before it is built
	attrWireName = "wire_name" // export: the name that clients ask for, which carries the artifact
)

// Masked stands for a sensitive value, on both sides, so that not even a value
// that stopped being sensitive is printed.
const Masked = "(sensitive value)"

// Compute compares what is wanted with what is applied.
//
// A resource is created, deleted, or updated because its own attributes differ. An
// image is also updated when its recipe differs (a file of the repo that it is made
// from) or when the store holds another artifact for its recipe than the one that
// is served. A resource whose own attributes are the same is updated, with reason
// InputChanged, when what is served for it differs:
//
//   - an export, by the artifact of its image, which its wire name carries, and by
//     the address of its server;
//   - an entry, by its image (kernel and initrd) and its export (the kernel line);
//   - a bootloader, by its entries, and by the addresses of the server whose
//     clients it boots: both are in its boot trees;
//   - a subnet, by the address of its server, which is in every DHCP answer.
//
// Hosts, groups and subnets are not listed because the boot tree that they hand out is
// another one, nor hosts because their group is: a rebuilt image would list a thousand hosts. They are named by the
// Impact of the change they follow from, and that change is the outermost one: the
// image, not the export, entry and bootloader between. So one edited host is one
// change, one edited group is one change, and one rebuilt image is one change with an
// impact. A host or a group that changes itself lists what it follows too.
//
// A resource that a moved block gives another address is compared with what it was
// under the old one, and reason Moved stands before any other; what refers to it by
// its new address is as it was. An export's old name stays with the machines that run
// from it.
//
// An export is replaced when what was written to it cannot be kept: see replace.
//
// With in.Targets, the plan is computed in full and then holds what concerns these
// only; Policy, Denied and Waits still speak of all of it.
//
// Warnings need no change: they speak of what is wanted and of what was seen.
//
// The plan depends on the input's content alone, not on its order, and its lists
// are never nil.
func Compute(in Input) *Plan {
	c := newComparison(in)
	p := &Plan{FormatVersion: FormatVersion, Revision: in.Revision, Changes: []Change{}, Targets: in.Targets}
	if in.Applied != nil {
		p.BaseGeneration = in.Applied.Generation
		p.Variables = in.Applied.Variables
	}
	p.Policy = policyChanges(&c.have.desired.Policy, &c.want.desired.Policy)
	p.Denied, p.Waits = c.denials(), c.waits(len(c.changes)+len(p.Policy)+len(p.Variables) > 0)
	within := c.within(in.Targets)
	for _, a := range c.order {
		if !within(a) {
			continue
		}
		ch := c.changes[a]
		if ch == nil {
			p.Summary.NoOp++
			continue
		}
		p.Summary.count(ch)
		ch.Impact = c.impact(ch)
		p.Changes = append(p.Changes, *ch)
	}
	p.Warnings = c.about(c.warn(in.Kernels), in.Targets, within)
	return p
}

func (s *Summary) count(ch *Change) {
	switch ch.Action {
	case NoOp:
		s.NoOp++
	case Create:
		s.Create++
	case Update:
		s.Update++
	case Replace:
		s.Replace++
	case Delete:
		s.Delete++
	}
	if ch.Reason == Moved {
		s.Move++
	}
}

// comparison is one run of Compute.
type comparison struct {
	want, have *view
	artifacts  artifacts
	seen       *world
	order      []schema.Addr // every address of either side, sorted
	changes    map[schema.Addr]*Change
	own        map[schema.Addr]map[string]bool // attributes of the block that differ, for updates
	served     map[schema.Addr]bool            // what is served for it differs; updates only
	policy     schema.Policy                   // in force
	base       bool                            // something is applied
}

func newComparison(in Input) *comparison {
	c := &comparison{
		want:    newView(in.Want),
		have:    newView(nil),
		changes: map[schema.Addr]*Change{},
		own:     map[schema.Addr]map[string]bool{},
		served:  map[schema.Addr]bool{},
	}
	c.artifacts.built = in.Built
	c.policy = c.want.desired.Policy
	if in.Applied != nil {
		c.base = true
		c.artifacts.applied = in.Applied.Artifacts
		if d := in.Applied.Desired; d != nil {
			c.policy = d.Policy
			moved := renaming(moves(d, in.Want))
			c.have = newView(moved.desired(d))
			c.have.was = map[schema.Addr]schema.Addr{}
			for from, to := range moved {
				c.have.was[to] = from
			}
			in.Observations = moved.observations(in.Observations)
		}
	}
	c.seen = newWorld(in, c)
	c.want.seen, c.have.seen = c.seen, c.seen
	c.order = make([]schema.Addr, 0, max(len(c.want.resources), len(c.have.resources)))
	for a := range c.want.resources {
		c.order = append(c.order, a)
	}
	for a := range c.have.resources {
		if c.want.resources[a] == nil {
			c.order = append(c.order, a)
		}
	}
	slices.SortFunc(c.order, schema.Addr.Compare)
	for _, a := range c.order {
		c.compare(a)
	}
	c.propagate()
	return c
}

// compare finds what happens to one resource by itself.
func (c *comparison) compare(a schema.Addr) {
	want, have := c.want.resources[a], c.have.resources[a]
	if c.same(have, want) {
		return
	}
	ch := &Change{
		Address: a, Inputs: []schema.Addr{}, AfterUnknown: []string{}, Impact: []Impact{},
		Before: map[string]json.RawMessage{}, After: map[string]json.RawMessage{},
	}
	switch {
	case have == nil:
		ch.Action, ch.Reason, ch.Range = Create, Created, want.Range
		for _, at := range want.Attrs {
			ch.After[at.Name] = value(at, schema.Attr{})
		}
		c.pseudo(ch)
	case want == nil:
		ch.Action, ch.Reason, ch.Range = Delete, Removed, have.Range
		for _, at := range have.Attrs {
			ch.Before[at.Name] = value(at, schema.Attr{})
		}
		c.pseudo(ch)
	default:
		ch.Action, ch.Reason, ch.Range = Update, SpecChanged, want.Range
		c.own[a] = diff(ch, have, want)
		pseudo := c.pseudo(ch)
		from, moved := c.have.was[a]
		if moved {
			c.move(ch, from, pseudo)
		}
		switch {
		case len(c.own[a]) > 0:
			switch a.Kind {
			case kindImage: // it may change and still be the same bytes
				c.served[a] = !c.sameArtifact(a, a)
			case kindExport: // who may attach is asked when somebody does
				c.served[a] = !onlyAccess(c.own[a])
			default:
				c.served[a] = true
			}
		case moved:
			switch a.Kind {
			case kindImage:
				c.served[a] = !c.sameArtifact(a, a)
			case kindExport, kindEntry: // the kernel line, and the folder of the boot tree, have their names
				c.served[a] = from.Wire() != a.Wire()
			}
		case pseudo && a.Kind == kindImage:
			ch.Reason = c.whyImage(a)
			c.served[a] = !c.sameArtifact(a, a)
		default:
			// An export's wire name follows from its image: see propagate.
			return
		}
	}
	c.changes[a] = ch
}

// same reports, at little cost, that nothing can have happened to a resource, which is
// so for nearly all hosts of a fleet. Images and exports have more than attributes.
func (c *comparison) same(have, want *schema.Resource) bool {
	if have == nil || want == nil || want.Addr.Kind == kindImage || want.Addr.Kind == kindExport {
		return false
	}
	if _, moved := c.have.was[want.Addr]; moved {
		return false
	}
	return slices.EqualFunc(have.Attrs, want.Attrs, func(a, b schema.Attr) bool { return a.Name == b.Name && a.Value == b.Value })
}

// onlyAccess reports whether no more than who may use an export differs.
func onlyAccess(own map[string]bool) bool {
	for name := range own {
		if name != "allow" && name != "clients" && name != "tls" {
			return false
		}
	}
	return true
}

// move notes that a resource had another address.
func (c *comparison) move(ch *Change, from schema.Addr, pseudo bool) {
	ch.From, ch.Reason = from, Moved
	if len(c.own[ch.Address]) == 0 && !pseudo {
		ch.Action = NoOp
	}
}

// diff fills in the attributes that differ, and returns their names up to the
// first dot or bracket.
func diff(ch *Change, have, want *schema.Resource) map[string]bool {
	differs := map[string]bool{}
	before := map[string]schema.Attr{}
	for _, at := range have.Attrs {
		before[at.Name] = at
	}
	for _, at := range want.Attrs {
		was, ok := before[at.Name]
		delete(before, at.Name)
		if ok && was.Value == at.Value {
			continue
		}
		if ok {
			ch.Before[at.Name] = value(was, at)
		}
		ch.After[at.Name] = value(at, was)
		differs[base(at.Name)] = true
	}
	for name, was := range before {
		ch.Before[name] = value(was, schema.Attr{})
		differs[base(name)] = true
	}
	return differs
}

// value is the printed value of at; other is the same attribute on the other side.
func value(at, other schema.Attr) json.RawMessage {
	if at.Sensitive || other.Sensitive {
		return quote(Masked)
	}
	if !json.Valid([]byte(at.Value)) {
		return quote(at.Value) // not what Attr promises; do not spoil the document
	}
	return json.RawMessage(at.Value)
}

func quote(s string) json.RawMessage { return json.RawMessage(compact(s)) }

// compact spells a value as schema.Attr has it.
func compact[T string | []string](v T) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return `""` // strings always encode
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// base gives an attribute's name up to the first dot or bracket.
func base(name string) string {
	for i := range len(name) {
		if name[i] == '.' || name[i] == '[' {
			return name[:i]
		}
	}
	return name
}
