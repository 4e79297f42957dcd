package schema

import (
	"slices"
	"strings"
)

// ways answers, for the checks of machines, what a machine boots, as far as the
// configuration shows: a host without an address may turn up on any subnet, and
// which of several bootloaders counts is up to its firmware. What could not be
// decoded is left out of the indexes, and makes what depends on it unknown: its own
// mistakes are enough.
type ways struct {
	*loader
	servers map[Addr]*Server
	images  map[Addr]*Image
	entries map[Addr]*Entry
	loaders map[Addr]*Bootloader
	subnets map[Addr]*Subnet

	// Of a host that may turn up on any subnet:
	known      bool                   // otherwise nothing of this is
	everywhere []*Server              // one of these answers it
	anyBoot    []Addr                 // one of these bootloaders boots it
	mute       map[*Bootloader]string // see silentEverywhere

	menus map[menuKey]*offer // see offered; nil: not known
}

// choice is what a machine may boot: the default, and what a menu offers beside it.
// The zero choice is not known.
type choice struct {
	named *Entry // the entry that it names; nil: none that is known
	menu  *offer // what is offered as well; nil: not known
	bare  *Entry // when nothing of ours is in the initramfs whatever it is: one of them
}

// menuKey is what an offer depends on, and not more, so that it is worked out once and
// not for each machine.
type menuKey struct {
	boot  string // the bootloaders
	named bool   // the machine names an entry
}

// offer is what bootloaders offer, but for the entry that a machine names.
type offer struct {
	sure  []*Entry // whichever of them counts; one for each block
	bare  bool     // nothing of ours is in the initramfs of any
	first *Entry   // the default; nil when the machine names one
}

func (l *loader) ways() *ways {
	w := &ways{
		loader:  l,
		servers: byAddr(l.out.Servers, func(s *Server) Addr { return s.Addr }),
		images:  byAddr(l.out.Images, func(i *Image) Addr { return i.Addr }),
		entries: byAddr(l.out.Entries, func(e *Entry) Addr { return e.Addr }),
		loaders: byAddr(l.out.Bootloaders, func(b *Bootloader) Addr { return b.Addr }),
		subnets: byAddr(l.out.Subnets, func(s *Subnet) Addr { return s.Addr }),
		mute:    map[*Bootloader]string{},
		menus:   map[menuKey]*offer{},
	}
	if !l.complete("server") || !l.complete("subnet") {
		return w
	}
	seen := map[Addr]bool{}
	for _, s := range l.out.Subnets {
		if !seen[s.Server] {
			seen[s.Server] = true
			w.everywhere = append(w.everywhere, w.servers[s.Server])
		}
		for _, b := range s.Boot {
			if !seen[b] {
				seen[b] = true
				w.anyBoot = append(w.anyBoot, b)
			}
		}
	}
	w.known = true
	return w
}

// way is what a host says, and its group: what its subnet says is left out. It gives
// false when the group is not known.
func (w *ways) way(h *Host) (Way, bool) {
	way := w.out.WayOf(h, &Subnet{})
	return way, h.Group.IsZero() || way.Group != nil
}

// offers gives what a machine may boot that has one of these bootloaders; entry is
// the one that it names, or zero.
func (w *ways) offers(boot []Addr, entry Addr) choice {
	c := choice{named: w.entries[entry]}
	if !entry.IsZero() && c.named == nil {
		return choice{}
	}
	c.menu = w.offered(boot, !entry.IsZero())
	switch {
	case c.menu == nil || !c.menu.bare:
	case c.named == nil:
		c.bare = c.menu.first
	case w.bare(c.named):
		c.bare = c.named
	}
	return c
}

// offered gives what these bootloaders offer to a machine, beside the entry that it
// names, if it does; nil when that is not known.
func (w *ways) offered(boot []Addr, named bool) *offer {
	key := menuKey{strings.Join(addrTexts(boot), " "), named}
	o, done := w.menus[key]
	if !done {
		o = w.offer(boot, named)
		w.menus[key] = o
	}
	return o
}

func (w *ways) offer(boot []Addr, named bool) *offer {
	o := &offer{bare: true}
	for i, a := range boot {
		b := w.loaders[a]
		if b == nil {
			return nil
		}
		var list []Addr // what it shows
		switch {
		case b.Timeout > 0:
			list = b.Entries
		case !named:
			list = b.Entries[:1]
		}
		// Paths are labels, and so the same in every instance of a block: one stands for all.
		blocks := map[Addr]bool{}
		var entries []*Entry
		for _, a := range list {
			e := w.entries[a]
			if e == nil {
				return nil
			}
			o.bare = o.bare && w.bare(e)
			if block := declared(a); !blocks[block] {
				blocks[block] = true
				entries = append(entries, e)
			}
		}
		if i > 0 {
			o.sure = slices.DeleteFunc(o.sure, func(e *Entry) bool { return !blocks[declared(e.Addr)] })
			continue
		}
		o.sure = entries
		if !named {
			o.first = entries[0]
		}
	}
	return o
}

// menu gives what a bootloader offers to a machine that names an entry, or none: the
// default first, and the others only where it waits for somebody to choose.
func menu(b *Bootloader, entry Addr) []Addr {
	list := b.Entries
	if !entry.IsZero() {
		list = []Addr{entry}
		for _, a := range b.Entries {
			if a != entry {
				list = append(list, a)
			}
		}
	}
	if b.Timeout == 0 {
		return list[:1]
	}
	return list
}

// bare reports whether nothing of ours is in the initramfs of an entry.
func (w *ways) bare(e *Entry) bool {
	img := w.images[e.Image]
	return img != nil && img.Initramfs.Generator == OwnInitramfs
}

// roams gives what a machine may boot that may turn up on any subnet.
func (w *ways) roams(entry Addr) choice {
	c := w.offers(w.anyBoot, entry)
	if !w.known {
		c.bare = nil
	}
	return c
}

// boots gives what a host may boot.
func (w *ways) boots(h *Host, way Way) choice {
	switch {
	case len(way.Boot) > 0:
		return w.offers(way.Boot, way.Entry)
	case !h.Address.IsValid():
		return w.roams(way.Entry)
	}
	if s := w.subnets[h.Subnet]; s != nil {
		return w.offers(s.Boot, way.Entry)
	}
	return choice{named: w.entries[way.Entry]}
}

// declared is the address of the block that an instance was made from.
func declared(a Addr) Addr {
	a.Key = ""
	return a
}
