package plan

import (
	"cmp"
	"slices"
)

// Details that several impacts share.
const (
	untilReboot    = "until it reboots"
	nextRenewal    = "at its next renewal"
	nextConnection = "at its next connection"
	nextWrite      = "at its next write"
	overlayAtBoot  = "its overlay, when it boots next"
	byMAC          = "its lease and its overlays, which go by its hardware address"
	untilLeaseEnd  = "until its lease ends"
	otherLeaseEnds = "when its lease of the other server ends"
	oldLeaseEnds   = "when its lease of the old one ends" // renewals keep an address
)

// impact says what a change means for which machines. What follows from another
// change has its impact there.
func (c *comparison) impact(ch *Change) []Impact {
	i := &impacts{list: []Impact{}}
	if ch.Reason == InputChanged && len(ch.Inputs) > 0 && ch.Action != Replace {
		return i.list
	}
	switch ch.Address.Kind {
	case kindServer:
		c.serverImpact(i, ch)
	case kindImage:
		c.imageImpact(i, ch)
	case kindExport:
		c.exportImpact(i, ch)
	case kindEntry, kindBootloader:
		c.bootImpact(i, ch)
	case kindSubnet:
		c.subnetImpact(i, ch)
	case kindGroup:
		c.groupImpact(i, ch)
	case kindHost:
		c.hostImpact(i, ch)
	}
	c.seen.stay(i)
	return i.done()
}

// impacts collects the impacts of one change; those that say the same become one.
type impacts struct{ list []Impact }

func (i *impacts) add(e Effect, artifact, detail string, machines ...string) {
	if len(machines) == 0 {
		return
	}
	i.tell(e, artifact, detail, machines...)
}

// tell adds an impact even when nobody is known whom it concerns.
func (i *impacts) tell(e Effect, artifact, detail string, machines ...string) {
	for n := range i.list {
		if have := &i.list[n]; have.Effect == e && have.Artifact == artifact && have.Detail == detail {
			have.Machines = append(have.Machines, machines...)
			return
		}
	}
	i.list = append(i.list, Impact{Effect: e, Machines: append([]string{}, machines...), Artifact: artifact, Detail: detail})
}

// effects is the order in which they are told.
var effects = [...]Effect{EffectLive, EffectNextBoot, EffectKeeps, EffectDiscards, EffectInterrupts}

func (i *impacts) done() []Impact {
	for n := range i.list {
		m := i.list[n].Machines
		slices.Sort(m)
		i.list[n].Machines = slices.Compact(m)
	}
	slices.SortFunc(i.list, func(a, b Impact) int {
		return cmp.Or(
			cmp.Compare(slices.Index(effects[:], a.Effect), slices.Index(effects[:], b.Effect)),
			cmp.Compare(a.Artifact, b.Artifact),
			cmp.Compare(a.Detail, b.Detail),
		)
	})
	return i.list
}

// names gives the machines of a set; done sorts them.
func names(set map[string]bool) []string {
	list := make([]string, 0, len(set))
	for n := range set {
		list = append(list, n)
	}
	return list
}

// keeps tells which of the machines that run something keep it: those of which
// match is true and whose artifact is not the one given. after is "" when only a
// build can tell what it will be.
func (c *comparison) keeps(i *impacts, after string, match func(*machine) bool) {
	for _, m := range c.seen.machines {
		if m.runs() && m.artifact != "" && m.artifact != after && match(m) {
			i.add(EffectKeeps, m.artifact, untilReboot, m.name())
		}
	}
}

// imageImpact: whoever boots it gets the new artifact at its next boot; whoever
// runs an older one keeps it, with its overlay, until then.
func (c *comparison) imageImpact(i *impacts, ch *Change) {
	a := ch.Address
	if (ch.Action == Update || ch.Action == NoOp) && !c.served[a] {
		return // the same bytes
	}
	if ch.Action != Delete {
		i.add(EffectNextBoot, "", "", c.want.usedBy(a)...)
	}
	after := c.artifacts.after(c.want.images[a])
	c.keeps(i, after, func(m *machine) bool { return m.image == a })
}

// bootImpact: an entry or a bootloader reaches its machines at their next boot. A
// deleted one has none: who boots something else now is told where that is said.
func (c *comparison) bootImpact(i *impacts, ch *Change) {
	switch ch.Action {
	case Create:
		i.add(EffectNextBoot, "", "", c.want.usedBy(ch.Address)...)
	case Update:
		list := slices.Clone(c.want.usedBy(ch.Address))
		if onlySettings(c.own[ch.Address]) {
			list = slices.DeleteFunc(list, func(n string) bool { return c.hidesSettings(n, ch.Address) })
		}
		c.bootsOther(i, list)
	}
}

// bootsOther tells of machines whose next boot is another one, and of those among
// them that run, unless the image that they will get is a change of its own.
func (c *comparison) bootsOther(i *impacts, machines []string) {
	i.add(EffectNextBoot, "", "", machines...)
	set := map[string]bool{}
	for _, n := range machines {
		set[n] = true
	}
	for _, m := range c.seen.machines {
		if !set[m.name()] || !m.runs() || m.artifact == "" {
			continue
		}
		chains := c.want.chainsOf(*m)
		if len(chains) == 0 {
			i.add(EffectKeeps, m.artifact, untilReboot, m.name())
			continue
		}
		image := chains[0].image
		if m.image == image && c.served[image] {
			continue // the image's impact tells it
		}
		if c.artifacts.after(c.want.images[image]) != m.artifact {
			i.add(EffectKeeps, m.artifact, untilReboot, m.name())
		}
	}
}
