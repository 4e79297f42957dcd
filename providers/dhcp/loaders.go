package dhcp

import (
	"fmt"
	"slices"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
	"github.com/dlreconcile/dlreconcile/schema"
)

// loaders says what machines boot, from what the boot loaders before have built. It is
// immutable.
type loaders struct {
	want    *schema.Desired
	built   map[schema.Addr]provider.Output
	proxied map[schema.Addr]bool // subnets whose addresses another server gives out
	// targets holds what each tree offers. Many machines share a tree.
	targets map[*provider.Tree][]dhcp4.Target
}

// newLoaders takes over from earlier generations, by tree, what these have too.
func newLoaders(in provider.Input, earlier []*table) *loaders {
	l := &loaders{want: in.Want, built: in.Built, proxied: map[schema.Addr]bool{}, targets: map[*provider.Tree][]dhcp4.Target{}}
	for _, s := range in.Want.Subnets {
		l.proxied[s.Addr] = s.Mode == schema.ModeProxy
	}
	for _, out := range in.Built {
		for _, tree := range out.Trees {
			if _, known := l.targets[tree]; known || tree == nil {
				continue
			}
			if have := formerTargets(tree, earlier); have != nil {
				l.targets[tree] = have
				continue
			}
			list := make([]dhcp4.Target, 0, len(tree.Targets))
			for _, t := range tree.Targets {
				list = append(list, dhcp4.Target{Arch: t.Arch, Class: t.Class, HTTP: t.HTTP, File: t.File, Prefix: t.Prefix, Config: t.Config})
			}
			l.targets[tree] = slices.Clip(list)
		}
	}
	return l
}

func formerTargets(tree *provider.Tree, earlier []*table) []dhcp4.Target {
	for _, t := range earlier {
		if have := t.loaders.targets[tree]; have != nil {
			return have
		}
	}
	return nil
}

// of says what a host boots on a subnet; h nil is every machine without a
// block. What a host or its group says beats what its subnet says about everybody,
// file names included. Of several boot loaders, the first that has a program for
// the client counts.
func (l *loaders) of(s *schema.Subnet, h *schema.Host) dhcp4.Boot {
	way := l.want.WayOf(h, s)
	b := dhcp4.Boot{ArchName: archName}
	if slices.Equal(way.Boot, s.Boot) {
		b.Files = s.BootFileName
	}
	for _, loader := range way.Boot {
		tree := l.tree(loader, s, h)
		if tree == nil {
			who := "machines without a host block"
			if h != nil {
				who = h.Addr.String()
			}
			b.Missing = fmt.Sprintf("%s has no boot tree for %s on %s", loader, who, s.Addr)
			continue
		}
		if b.Targets == nil {
			b.Targets = l.targets[tree] // shared; clipped, so that more are appended to a copy
			continue
		}
		b.Targets = append(b.Targets, l.targets[tree]...)
	}
	return b
}

// tree gives what a boot loader has for a host on a subnet, or nil. Away from home a
// host boots what is its own all the same, unless that was made for a subnet where
// addresses come from elsewhere than here: how files are named depends on it.
func (l *loaders) tree(loader schema.Addr, s *schema.Subnet, h *schema.Host) *provider.Tree {
	trees := l.built[loader].Trees
	if h == nil {
		return trees[provider.TreeKey{Subnet: s.Addr}]
	}
	if tree := trees[provider.TreeKey{Host: h.Addr, Subnet: s.Addr}]; tree != nil || l.proxied[s.Addr] != l.proxied[h.Subnet] {
		return tree
	}
	return trees[provider.TreeKey{Host: h.Addr, Subnet: h.Subnet}]
}

func archName(number uint16) string { return schema.ClientArchOf(number).Name }
