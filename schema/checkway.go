package schema

import "slices"

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
	roaming    map[Addr]choice        // by the entry that it names; see roams
	mute       map[*Bootloader]string // see silentEverywhere
}

// choice is what a machine may boot: the default, and what a menu offers beside it.
// The zero choice is not known.
type choice struct {
	sure []*Entry // offered whatever its bootloader is
	bare *Entry   // when nothing of ours is in the initramfs whatever it is: one of them
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
		roaming: map[Addr]choice{},
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
	var named choice // what is known without the bootloaders
	if e := w.entries[entry]; e != nil {
		named.sure = []*Entry{e}
	}
	c, bare := named, true
	if len(boot) == 0 && named.sure != nil && w.bare(named.sure[0]) {
		c.bare = named.sure[0]
	}
	for i, a := range boot {
		b := w.loaders[a]
		if b == nil {
			return named
		}
		list := []*Entry{}
		for _, a := range menu(b, entry) {
			e := w.entries[a]
			if e == nil {
				return named
			}
			list = append(list, e)
			bare = bare && w.bare(e)
		}
		if i == 0 {
			c.sure, c.bare = list, list[0]
			continue
		}
		c.sure = slices.DeleteFunc(c.sure, func(e *Entry) bool { return !slices.Contains(list, e) })
	}
	if !bare {
		c.bare = nil
	}
	return c
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
	c, known := w.roaming[entry]
	if !known {
		c = w.offers(w.anyBoot, entry)
		if !w.known {
			c.bare = nil
		}
		w.roaming[entry] = c
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
	return choice{sure: w.offers(nil, way.Entry).sure}
}

// declared is the address of the block that an instance was made from.
func declared(a Addr) Addr {
	a.Key = ""
	return a
}
