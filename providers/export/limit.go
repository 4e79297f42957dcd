package export

import (
	"cmp"
	"fmt"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/schema"
)

// limitOverlays gives every overlay that is attached the limit that counts now. The
// caller holds p.mu.
func (p *Provider) limitOverlays() {
	pub := p.pub.Load()
	for a := range p.conns {
		a.most = limitNow(pub, a.target)
		if a.overlay != nil {
			a.overlay.SetLimit(a.most)
		}
	}
}

// amount spells what an overlay holds, which is held against another: a few MiB to the KiB.
func amount(n int64) string {
	if n < 10<<20 && n%(1<<20) != 0 {
		return fmt.Sprintf("%d KiB", (n+1023)>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// filled is what somebody is told of: that a disk is nearly full, or that it is.
type filled struct {
	cow.Key
	full bool
}

// filling is told by the overlays. A machine can have its disk full and emptier again as
// fast as it writes, so it is told of each as often as of who is refused an export; what it
// leaves out gives false.
func (p *Provider) filling(f cow.Fill) bool {
	if !p.fills.Take(filled{f.Key, f.Full}) {
		return false
	}
	ev := provider.Event{Kind: provider.EventFilling, Name: f.Note[noteName], Artifact: f.Base.Digest, Bytes: f.Used}
	switch {
	case f.Full && f.Limit == 0:
		ev.Kind = provider.EventFull
		ev.Err = "the file system of the state directory is full, but for what is kept in reserve: the machine's writes fail"
	case f.Full:
		ev.Kind = provider.EventFull
		ev.Err = fmt.Sprintf("the overlay may hold %s: the machine's writes to anything else fail", amount(f.Limit))
	default:
		ev.Err = fmt.Sprintf("the overlay holds %s of the %s that it may", amount(f.Used), amount(f.Limit))
	}
	t := recorded(f.Record)
	ev.Generation, ev.Image = t.Generation, t.Image
	ev.MAC, ev.Addr = machineOf(f.Record)
	ev.Host, _ = schema.ParseAddr(f.Note[noteHost]) // written by notes
	if f.Full {
		log := p.log.With("machine", cmp.Or(machineText(ev.MAC, ev.Addr), holder(f.Record)), "export", ev.Name, "holds", f.Used)
		if !ev.Host.IsZero() {
			log = log.With("host", ev.Host.String())
		}
		if f.Limit > 0 {
			log = log.With("limit", f.Limit)
		}
		log.Warn("what a machine writes is refused: its disk is full", "why", ev.Err)
	}
	p.event(ev)
	return true
}

// Limited gives the overlays that have a limit, as Overlays does: the others are not
// measured.
func (p *Provider) Limited() []provider.Overlay {
	var out []provider.Overlay
	for _, f := range p.listed(provider.OverlayQuery{}) {
		if f.Limit > 0 {
			f.Bytes = p.overlays.Bytes(f.key)
			out = append(out, f.Overlay)
		}
	}
	return out
}
