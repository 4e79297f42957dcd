package schema

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
)

// checkMachines checks what machines do: what they boot, with which arguments, and
// what they do to their root.
func (l *loader) checkMachines() {
	w := l.ways()
	w.checkReach()
	w.checkReadWrite()
	w.checkSettings()
	w.checkKernelLines()
}

// blocks lists settings as they were written.
func (s Settings) blocks() []placed {
	var out []placed
	for _, m := range s.Mounts {
		out = append(out, placed{"mount", m.Path, m.Range.HCL()})
	}
	for _, f := range s.Files {
		out = append(out, placed{"file", f.Path, f.Range.HCL()})
	}
	for _, t := range s.States {
		out = append(out, placed{"state", t.Path, t.Range.HCL()})
	}
	return out
}

// attr is the name of the block in Meta.Attrs.
func (p placed) attr() string { return p.kind + "[" + strconv.Quote(p.path) + "]" }

// firstSettled gives the attribute name of the first block that a program in the
// initramfs would have to carry out; "" when there is none. Options of the root are
// a word of the kernel line, which every initramfs knows.
func (s Settings) firstSettled() string {
	all := slices.DeleteFunc(s.blocks(), func(p placed) bool { return p.kind == "mount" && p.path == "/" })
	if len(all) == 0 {
		return ""
	}
	return slices.MinFunc(all, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.at.Start.Line, b.at.Start.Line), cmp.Compare(a.at.Start.Column, b.at.Start.Column))
	}).attr()
}

// checkSettings refuses settings that nothing would apply, and those of an entry, a
// group and a host that cannot both be.
func (w *ways) checkSettings() {
	told := map[Addr]bool{}
	tell := func(a Addr, s Settings, e *Entry, who string) {
		if attr := s.firstSettled(); attr != "" && !told[declared(a)] {
			told[declared(a)] = true
			w.wrong(a, attr, fmt.Sprintf("Nothing in %s would do this", e.Image), fmt.Sprintf(
				`%s boots %s, and that image has initramfs "none": it brings its own, and nothing of ours that mounts, writes files or keeps state when the root is there. Take the block away, or let the image have an initramfs made.`, who, e.Addr))
		}
	}
	for _, e := range w.out.Entries {
		if w.bare(e) {
			tell(e.Addr, e.Settings, e, "A machine")
		}
		w.checkRootType(e)
	}
	for _, g := range w.out.Groups {
		boots := w.roams(g.Entry)
		if len(g.Boot) > 0 {
			boots = w.offers(g.Boot, g.Entry)
		}
		if e := boots.bare; e != nil && !g.Entry.IsZero() {
			tell(g.Addr, g.Settings, e, "A host of this group")
		}
	}
	type layers struct{ entry, group, host Addr }
	seen := map[layers]bool{}
	type menus struct { // the same for many hosts, and long
		menu        *offer
		group, host Addr
	}
	seenMenu := map[menus]bool{}
	for _, h := range w.out.Hosts {
		way, known := w.way(h)
		if !known {
			continue
		}
		boots := w.boots(h, way)
		if e := boots.bare; e != nil {
			tell(h.Addr, h.Settings, e, h.Addr.String())
			if g := way.Group; g != nil {
				tell(g.Addr, g.Settings, e, h.Addr.String())
			}
		}
		var list []*Entry
		if boots.named != nil {
			list = append(list, boots.named)
		}
		if key := (menus{boots.menu, declared(h.Group), declared(h.Addr)}); boots.menu != nil && !seenMenu[key] {
			seenMenu[key] = true
			list = append(list, boots.menu.sure...)
		}
		for _, e := range list { // one of a block stands for all; see offer
			key := layers{declared(e.Addr), declared(h.Group), declared(h.Addr)}
			if !seen[key] {
				seen[key] = true
				w.checkLayers(e, way)
			}
		}
	}
}

// checkRootType checks what an entry says of the type of its root.
func (w *ways) checkRootType(e *Entry) {
	img := w.images[e.Image]
	for _, m := range e.Mounts {
		switch {
		case m.Path != "/" || m.Type == "":
		case e.Root.Type == NFS:
			if m.Type != "nfs" && m.Type != "nfs4" {
				w.wrong(e.Addr, `mount["/"].type`, fmt.Sprintf("The root of %s is NFS", e.Addr), fmt.Sprintf("It is %s, whatever the file system that %s is kept in. Take the line away.", e.Root, e.Image))
			}
		case img != nil && m.Type != img.Filesystem.Type:
			w.wrong(e.Addr, `mount["/"].type`, fmt.Sprintf("The root of %s is a %s", e.Addr, img.Filesystem.Type), fmt.Sprintf("That is what %s says, and a mount of \"/\" does not change it. Take the line away.", img.Addr))
		}
	}
}

// checkLayers refuses settings of a machine that come from different blocks and
// cannot both be. Those of one block were checked when it was collected.
func (w *ways) checkLayers(e *Entry, way Way) {
	owners := map[string]Addr{} // the most special one
	own := func(a Addr, s Settings) {
		for _, p := range s.blocks() {
			owners[p.attr()] = a
		}
	}
	own(e.Addr, e.Settings)
	if way.Group != nil {
		own(way.Group.Addr, way.Group.Settings)
	}
	own(way.Host.Addr, way.Host.Settings)
	for _, c := range clashes(way.Settings(e).blocks()) {
		a, b := owners[c.one.attr()], owners[c.other.attr()]
		if a != b {
			w.wrong(a, c.one.attr(), c.summary, fmt.Sprintf("On %s it meets %s of %s (%s). %s", way.Host.Addr, c.other, b, rangeOf(c.other.at), c.why))
		}
	}
}
