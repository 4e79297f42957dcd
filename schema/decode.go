package schema

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// decodeAll decodes every instance of every block, kind by kind. What was decoded
// without a mistake is in l.out and l.made.
func (l *loader) decodeAll() {
	for _, kind := range resourceKinds {
		for _, m := range l.all {
			for _, b := range m.order {
				if b.addr.Kind == kind {
					m.instances(b, m.decoder(kind))
				}
			}
		}
	}
	o := &l.out
	slices.SortFunc(o.Servers, func(a, b *Server) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(o.Images, func(a, b *Image) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(o.Exports, func(a, b *Export) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(o.Entries, func(a, b *Entry) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(o.Bootloaders, func(a, b *Bootloader) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(o.Subnets, func(a, b *Subnet) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(o.Groups, func(a, b *Group) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(o.Hosts, func(a, b *Host) int { return a.Addr.Compare(b.Addr) })
}

// decoder gives what decodes an instance of a kind.
func (l *loader) decoder(kind string) func(*item) {
	switch kind {
	case "server":
		return l.server
	case "image":
		return l.image
	case "export":
		return l.export
	case "entry":
		return l.entry
	case "bootloader":
		return l.bootloader
	case "subnet":
		return l.subnet
	case "group":
		return l.group
	}
	return l.host
}

// summarize fills in what follows from the rest.
func (l *loader) summarize() {
	l.out.Files = l.tree.used()
	for _, m := range l.made {
		if m.resource != nil {
			l.out.Resources = append(l.out.Resources, *m.resource)
			continue
		}
		l.out.Resources = append(l.out.Resources, m.summary())
	}
	slices.SortFunc(l.out.Resources, func(a, b Resource) int { return a.Addr.Compare(b.Addr) })
}

// summary gives an instance as plans compare it.
func (m *made) summary() Resource {
	r := Resource{Addr: m.addr, Range: rangeOf(m.block.at), Attrs: m.attrs}
	slices.SortFunc(r.Attrs, func(a, b Attr) int { return strings.Compare(a.Name, b.Name) })
	for a := range m.noted.addrs {
		if a != m.addr {
			r.References = append(r.References, a)
		}
	}
	slices.SortFunc(r.References, Addr.Compare)
	return r
}

// complete reports whether every block of a kind was decoded, those in modules too.
func (l *loader) complete(kind string) bool {
	for _, m := range l.all {
		for _, b := range m.order {
			if (b.addr.Kind == kind || b.addr.Kind == "module") && (b.failures > 0 || b.keys != nil && b.keys.failed) {
				return false
			}
		}
	}
	return !l.stopped
}

// where gives the place of an attribute of a decoded resource, or of its block.
func (l *loader) where(a Addr, attr string) hcl.Range {
	m := l.made[a.String()]
	if m == nil {
		return hcl.Range{}
	}
	if r, ok := m.block.ranges[attr]; ok {
		return r
	}
	return m.block.at
}

// wrong reports a mistake of a decoded resource that shows only beside others.
func (l *loader) wrong(a Addr, attr, summary, detail string) {
	if m := l.made[a.String()]; m != nil {
		detail += m.which(summary)
	}
	l.report(mistake(l.where(a, attr), summary, detail))
}
