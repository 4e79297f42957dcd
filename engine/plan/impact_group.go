package plan

import (
	"slices"

	"github.com/dlreconcile/dlreconcile/schema"
)

// groupImpact: what a group says reaches those of its hosts that do not say it
// themselves, at their next boot. Hosts that enter or leave it are changes of their
// own.
func (c *comparison) groupImpact(i *impacts, ch *Change) {
	if ch.Action == Delete {
		return
	}
	var list []string
	for addr, h := range c.want.hosts {
		was := c.have.hosts[addr]
		if h.Group == ch.Address && was != nil && was.Group == ch.Address && !c.sameBoot(was, h) {
			list = append(list, addr.String())
		}
	}
	c.bootsOther(i, list)
}

// sameBoot reports whether two versions of a host boot the same way, and do the same
// to their root, as far as the host and its group say.
func (c *comparison) sameBoot(was, is *schema.Host) bool {
	before, after := c.have.desired.WayOf(was, &schema.Subnet{}), c.want.desired.WayOf(is, &schema.Subnet{})
	if !c.sameChains(was, is) || !slices.Equal(before.Args, after.Args) {
		return false
	}
	same := func(e *schema.Entry) bool { return sameSettings(before.Settings(e), after.Settings(e)) }
	boots := false
	for _, chain := range c.want.chainsOf(machine{host: is.Addr}) {
		if e := c.want.entries[chain.entry]; e != nil {
			boots = true
			if !same(e) {
				return false
			}
		}
	}
	return boots || same(&schema.Entry{})
}

// sameChains reports whether two versions of a host go through the same boots,
// whatever subnets they begin on.
func (c *comparison) sameChains(was, is *schema.Host) bool {
	before, after := c.have.waysOf(was), c.want.waysOf(is)
	lacks := func(list [][]chain) func([]chain) bool {
		return func(one []chain) bool {
			return !slices.ContainsFunc(list, func(other []chain) bool { return slices.Equal(one, other) })
		}
	}
	return !slices.ContainsFunc(before, lacks(after)) && !slices.ContainsFunc(after, lacks(before))
}

// waysOf gives the boots of a host on each subnet where it may be, without the subnet.
// Those that are alike are there once.
func (v *view) waysOf(h *schema.Host) [][]chain {
	var list [][]chain
	for _, s := range v.subnetsOf(h) {
		chains := slices.Collect(v.chainsOn(h, s))
		for n := range chains {
			chains[n].subnet = schema.Addr{}
		}
		if !slices.ContainsFunc(list, func(have []chain) bool { return slices.Equal(have, chains) }) {
			list = append(list, chains)
		}
	}
	return list
}

// onlySettings reports whether attributes that differ are all those of settings.
func onlySettings(own map[string]bool) bool {
	for name := range own {
		if name != "mount" && name != "file" && name != "state" {
			return false
		}
	}
	return len(own) > 0
}

// hidesSettings reports whether the settings of an entry that differ are hidden on a
// machine by those of its group and its host.
func (c *comparison) hidesSettings(name string, entry schema.Addr) bool {
	var h *schema.Host // stays nil for a machine without a host block
	if a, err := schema.ParseAddr(name); err == nil {
		h = c.want.hosts[a]
	}
	way := c.want.desired.WayOf(h, &schema.Subnet{})
	was, is := c.have.entries[entry], c.want.entries[entry]
	return was != nil && is != nil && sameSettings(way.Settings(was), way.Settings(is))
}

// sameSettings compares what machines see of settings, wherever they were written.
func sameSettings(a, b schema.Settings) bool {
	return slices.EqualFunc(a.Mounts, b.Mounts, func(a, b schema.Mount) bool {
		return a.Path == b.Path && a.Type == b.Type && a.Device == b.Device && slices.Equal(a.Options, b.Options)
	}) && slices.EqualFunc(a.Files, b.Files, func(a, b *schema.HostFile) bool {
		x, y := *a, *b
		x.Range, y.Range, x.Sensitive, y.Sensitive = schema.Range{}, schema.Range{}, false, false
		return x == y
	}) && slices.EqualFunc(a.States, b.States, func(a, b schema.State) bool {
		return a.Path == b.Path && a.Per == b.Per
	})
}
