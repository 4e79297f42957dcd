package export

import (
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/providers/export/cow"
)

// Overlays that outlive boots: of keep = "host", one per machine and export, and the
// working copy of a read-write export, of which there is one. Their keys name the boot
// that made them, so that one which is made after another was discarded is another
// overlay, and a boot that had the former never gets the latter; the boot that has it
// now is a note.

// Where such overlays are, in keys.
const (
	keptInstance = "host-" // and the boot that made it
	workingCopy  = "rw"    // instead of a machine
)

// keptKey says which overlay a client gets that may outlive its boot; what lay over
// another artifact is retired when it is taken. The caller holds p.mu.
func (p *Provider) keptKey(t target, boot cow.Key, session string) (w writable, err error) {
	key := cow.Key{Machine: boot.Machine, Instance: keptInstance + boot.Instance, Export: boot.Export}
	if t.keeps == keepsCopy {
		key.Machine = workingCopy
	}
	var live *cow.Record
	over, discarded := false, false
	for _, r := range p.overlays.Of(key.Machine, key.Export) {
		if recorded(r).keeps != t.keeps {
			continue
		}
		had := boot.Instance != staticInstance && hadFormerly(r, boot.Instance)
		switch {
		case r.Retired:
			discarded = discarded || had || bootOf(r) == boot.Instance && boot.Instance != staticInstance
		case had:
			over = true
		case live == nil || r.Created.After(live.Created):
			live = &r
		}
	}
	switch {
	case discarded:
		return w, denied("what that boot of the machine had written was discarded: it has to be booted again")
	case over:
		return w, denied("that boot of the machine is over: it was booted again since, and its overlay is the newer boot's")
	}
	if live == nil { // or it is not made yet
		w.key = key
		if named(boot.Instance) {
			w.before = p.connsOf(key)
		}
		return w, nil
	}
	before := p.connsOf(live.Key)
	owner, base := bootOf(*live), cow.Base{Digest: t.Root.Digest, Size: t.Root.Size}
	switch {
	case owner == boot.Instance && live.Base == base:
		if !named(boot.Instance) {
			before = nil // they are served together
		}
		return writable{key: live.Key, before: before}, nil
	case owner == boot.Instance && boot.Instance != staticInstance:
		return w, denied("the overlay of this boot lies over another artifact")
	case named(owner) && !named(boot.Instance) && len(before) > 0:
		return w, denied("the machine has this disk attached in a boot of its own, and a second writer would destroy it")
	case named(owner) && !named(boot.Instance) && (session == "" || session == live.Note[noteSession]):
		return w, denied("the disk is that of boot %s of the machine, which is not attached, and may come back to it: a second writer would destroy it. A client that names no boot gets it once the machine is seen booting from here; or switch the machine off and give `dlreconcile image reset`, which discards the disk",
			strings.TrimPrefix(owner, namedInstance))
	case live.Base == base:
		return writable{live.Key, before, func() {
			p.overlays.Note(live.Key, noteBoot, boot.Instance)
			p.overlays.Note(live.Key, noteSession, session)
			if t.keeps == keepsCopy {
				p.overlays.Note(live.Key, noteMachine, boot.Machine)
			}
			p.succeed(*live)
		}}, nil
	}
	return writable{key, before, func() {
		p.overlays.Retire(live.Key)
		p.pokeSweeper()
	}}, nil
}

// connsOf gives the connections to an overlay. The caller holds p.mu.
func (p *Provider) connsOf(key cow.Key) []*attachment {
	var list []*attachment
	for a := range p.conns {
		if a.key == key {
			list = append(list, a)
		}
	}
	return list
}

// goneAfter is for how long an overlay of one boot waits for its machine without a
// connection: nbdroot has the kernel give up a device after 30 days.
const goneAfter = 31 * 24 * time.Hour

// discardUnwanted retires overlays that nobody can come back to: those that outlive
// boots, of exports that no generation has any more, or keeps in another way; and those
// of boots that were given up. Where a generation of live has no table, as it cannot be
// served now, nobody knows what it wants, and only the latter are. The caller holds p.mu.
func (p *Provider) discardUnwanted(live map[uint64]bool) {
	wanted := map[string]map[keeps]bool{}
	pub := p.pub.Load()
	known := pub.Current != 0
	for gen := range live {
		known = known && (!live[gen] || pub.ByGen[gen] != nil)
	}
	for _, t := range pub.ByGen {
		for family, s := range t.byFamily {
			if wanted[family] == nil {
				wanted[family] = map[keeps]bool{}
			}
			wanted[family][keepsOf(s.Decl)] = true
		}
	}
	for _, r := range p.overlays.List() {
		if r.Unreadable != nil || len(p.connsOf(r.Key)) > 0 {
			continue
		}
		if r.Retired {
			if p.now().Sub(seen(r)) > 2*goneAfter && r.Note[noteRefused] != refusedReset { // else it goes when it is reset once more
				p.overlays.Forget(r.Key)
				p.pokeSweeper()
			}
			continue
		}
		switch k := recorded(r).keeps; k {
		case keepsHost, keepsCopy:
			if known && !wanted[r.Export][k] {
				p.overlays.Retire(r.Key)
				p.pokeSweeper()
			}
		default:
			if p.now().Sub(p.lastSeen(r)) > goneAfter {
				p.overlays.Retire(r.Key)
				p.pokeSweeper()
			}
		}
	}
}

// lastSeen says when an overlay may have had a connection last, which is not before
// this process began: its machine may not have had the time to come back.
func (p *Provider) lastSeen(r cow.Record) time.Time {
	if at := seen(r); at.After(p.started) {
		return at
	}
	return p.started
}

// seen says when an overlay had a connection last, as far as was written down.
func seen(r cow.Record) time.Time {
	at, err := time.Parse(time.RFC3339, r.Note[noteSeen])
	if err != nil {
		return r.Created
	}
	return at
}
