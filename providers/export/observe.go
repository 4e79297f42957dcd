package export

import (
	"cmp"
	"context"
	"slices"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Observe implements provider.Provider: every open connection, and every overlay
// that a machine may come back to, those left out that cannot be read; see Unread. Of
// a copy that somebody made it says over what it lies, so that it stays of use to him.
// What they hold is what cow.Store.Space says: a commit and each look at the metrics waits
// for it. When ctx ends, that is the error.
func (p *Provider) Observe(ctx context.Context) ([]plan.Observation, error) {
	var out []plan.Observation
	p.mu.Lock()
	for a := range p.conns {
		if a.local {
			continue // it concerns no machine
		}
		o := plan.Observation{
			Kind: plan.SawConnection, Host: a.client.Host, Address: a.remote.Addr().String(), Subnet: a.client.Subnet,
			Generation: a.Generation, Image: a.Image, Export: a.Name, Artifact: a.Root.Digest,
		}
		if _, nameless := a.client.MAC.Address(); !nameless && !a.client.MAC.IsZero() {
			o.MAC = a.client.MAC.String()
		}
		out = append(out, o)
	}
	p.mu.Unlock()
	for _, r := range p.overlays.List() {
		if r.Retired || r.Unreadable != nil && r.Base.Digest == "" {
			continue
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		t := recorded(r)
		o := plan.Observation{
			Kind: plan.SawOverlay, Generation: t.Generation, Image: t.Image,
			Export: t.Name, Artifact: t.Root.Digest, Bytes: p.overlays.Space(r.Key),
		}
		if r.Unreadable != nil {
			o.Export = r.Key.String() // nobody's export
		}
		o.Host, _ = schema.ParseAddr(r.Note[noteHost]) // written by notes
		mac, addr := machineOf(r)
		if !mac.IsZero() {
			o.MAC = mac.String()
		}
		if addr.IsValid() {
			o.Address = addr.String()
		}
		out = append(out, o)
	}
	// Several connections of one client look the same, and are reported once.
	slices.SortFunc(out, compare)
	return slices.CompactFunc(out, func(a, b plan.Observation) bool { return a == b }), nil
}

func compare(a, b plan.Observation) int {
	return cmp.Or(
		cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.MAC, b.MAC), cmp.Compare(a.Address, b.Address),
		cmp.Compare(a.Export, b.Export), cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.Bytes, b.Bytes),
		a.Host.Compare(b.Host), a.Image.Compare(b.Image), a.Subnet.Compare(b.Subnet),
	)
}
