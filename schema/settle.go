package schema

import (
	"cmp"
	"slices"
)

// Way is what a machine boots, after its host block, its group and its subnet have
// been laid over each other.
type Way struct {
	Boot  []Addr // bootloaders, in order of preference; empty: none
	Entry Addr   // zero: the bootloader's first entry
	Args  []string
	// Group and Host are those whose blocks had a say; nil when there is none.
	Group *Group
	Host  *Host
}

// WayOf says what a host boots on a subnet: what the host says beats what its group
// says, and that beats the subnet; arguments add up, the group's first. h nil is a
// machine without a host block.
func (d *Desired) WayOf(h *Host, s *Subnet) Way {
	w := Way{Boot: s.Boot}
	if h == nil {
		return w
	}
	w.Host, w.Group = h, d.Group(h.Group)
	if w.Group != nil {
		if len(w.Group.Boot) > 0 {
			w.Boot = w.Group.Boot
		}
		w.Entry, w.Args = w.Group.Entry, slices.Clone(w.Group.Args)
	}
	if len(h.Boot) > 0 {
		w.Boot = h.Boot
	}
	if !h.Entry.IsZero() {
		w.Entry = h.Entry
	}
	w.Args = append(w.Args, h.Args...)
	return w
}

// Open reports whether a machine without a reservation may turn up on a subnet: with
// an address from a pool, or with one that a DHCP server gave it that is not ours.
func (d *Desired) Open(s *Subnet) bool {
	return len(s.Pools) > 0 || !d.Leases(s)
}

// Leases reports whether addresses of a subnet come from here. Where they do not,
// leases are the affair of another DHCP server.
func (d *Desired) Leases(s *Subnet) bool {
	i, ok := slices.BinarySearchFunc(d.Servers, s.Server, func(have *Server, a Addr) int { return have.Addr.Compare(a) })
	return s.Mode != ModeProxy && !(ok && d.Servers[i].DHCP.Disabled)
}

// Group gives the group of that address, or nil.
func (d *Desired) Group(a Addr) *Group {
	if a.IsZero() {
		return nil
	}
	i, ok := slices.BinarySearchFunc(d.Groups, a, func(g *Group, a Addr) int { return g.Addr.Compare(a) })
	if !ok {
		return nil
	}
	return d.Groups[i]
}

// Settings lays the settings of an entry, the machine's group and its host over
// each other: of two with the same path, the more special one counts.
func (w Way) Settings(e *Entry) Settings {
	layers := []Settings{e.Settings}
	if w.Group != nil {
		layers = append(layers, w.Group.Settings)
	}
	if w.Host != nil {
		layers = append(layers, w.Host.Settings)
	}
	var out Settings
	for _, l := range layers {
		out.Mounts = overlay(out.Mounts, l.Mounts, func(m Mount) string { return m.Path })
		out.Files = overlay(out.Files, l.Files, func(f *HostFile) string { return f.Path })
		out.States = overlay(out.States, l.States, func(s State) string { return s.Path })
	}
	return out
}

// overlay merges two lists sorted by path, the second one winning.
func overlay[T any](below, above []T, path func(T) string) []T {
	if len(below) == 0 {
		return above
	}
	out := slices.Clone(below)
	for _, v := range above {
		i, ok := slices.BinarySearchFunc(out, path(v), func(have T, p string) int { return cmp.Compare(path(have), p) })
		if ok {
			out[i] = v
		} else {
			out = slices.Insert(out, i, v)
		}
	}
	return out
}
