package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dlreconcile/dlreconcile/schema"
)

// warn finds what would be applied and not work for somebody: machines that were
// seen to be of a client architecture that none of their boot loaders can boot, boot
// loaders that start signed kernels only and get another, and hosts that nothing
// boots although something says that they do, and what no provider serves yet.
func (c *comparison) warn(kernels map[string]Kernel) []Warning {
	w := &warnings{comparison: c, kernels: kernels, byKey: map[string]*Warning{}}
	for _, m := range c.seen.machines {
		if m.arch != nil {
			w.architecture(*m)
		}
	}
	for _, s := range c.want.bootable {
		w.unsigned(nil, s)
	}
	for _, h := range c.want.hosts {
		for _, s := range c.want.subnetsOf(h) {
			w.unsigned(h, s)
		}
		w.nothing(h)
	}
	w.sealed()
	for _, u := range c.want.desired.Unserved() {
		one := w.add(u.Range, u.Summary, u.Detail, "")
		one.Refused = true
		one.Machines = append(one.Machines, c.want.usedBy(u.Addr)...)
	}
	return w.done()
}

type warnings struct {
	*comparison
	kernels map[string]Kernel // by recipe
	byKey   map[string]*Warning
}

// add adds a machine to a warning; "" is nobody in particular.
func (w *warnings) add(at schema.Range, summary, detail, machine string) *Warning {
	key := strings.Join([]string{at.String(), summary, detail}, "\x00")
	have := w.byKey[key]
	if have == nil {
		have = &Warning{Summary: summary, Detail: detail, Machines: []string{}, Range: at}
		w.byKey[key] = have
	}
	if machine != "" {
		have.Machines = append(have.Machines, machine)
	}
	return have
}

func (w *warnings) done() []Warning {
	list := make([]Warning, 0, len(w.byKey))
	for _, one := range w.byKey {
		slices.Sort(one.Machines)
		one.Machines = slices.Compact(one.Machines)
		list = append(list, *one)
	}
	slices.SortFunc(list, func(a, b Warning) int {
		return cmp.Or(
			cmp.Compare(a.Range.File, b.Range.File), cmp.Compare(a.Range.Line, b.Range.Line), cmp.Compare(a.Range.Column, b.Range.Column),
			cmp.Compare(a.Summary, b.Summary), cmp.Compare(a.Detail, b.Detail),
		)
	})
	return list
}

// bootAt gives the place that says which boot loaders a machine has.
func bootAt(way schema.Way, s *schema.Subnet) schema.Range {
	switch {
	case way.Host != nil && len(way.Host.Boot) > 0:
		return way.Host.At("boot")
	case way.Group != nil && len(way.Group.Boot) > 0:
		return way.Group.At("boot")
	}
	return s.At("boot")
}

// architecture warns of a machine that none of its boot loaders can boot, on none of
// the subnets where it may be.
func (w *warnings) architecture(m machine) {
	h, subnets := w.want.subnetsFor(m)
	if here := w.want.subnetAt(m.ip, m.subnet); here != nil && len(subnets) > 1 {
		subnets = []*schema.Subnet{here} // where it was seen
	}
	arch := schema.ClientArchOf(*m.arch)
	for _, s := range subnets {
		way := w.want.desired.WayOf(h, s)
		if len(way.Boot) == 0 || s.BootFileName[arch.Number] != "" && slices.Equal(way.Boot, s.Boot) {
			continue
		}
		var whys []string
		for chain := range w.want.chainsOn(h, s) {
			why := w.cannot(chain, arch)
			if why == "" {
				whys = nil
				break
			}
			whys = append(whys, why)
		}
		if len(whys) == 0 {
			continue
		}
		w.add(bootAt(way, s), fmt.Sprintf("No boot loader for client architecture %d (%s)", arch.Number, arch.Name),
			"That is what these machines said when they were last seen, and they would not boot: "+strings.Join(whys, "; ")+".", m.name())
	}
}

// cannot says why a client architecture does not get through a boot; "" when
// nothing is known to keep it from that.
func (w *warnings) cannot(c chain, arch schema.ClientArch) string {
	if arch.Platform == "" || !madeFor(c.loader, arch.Number) {
		return c.loader.String() + " is not made for it"
	}
	if kernel := w.archOf(w.want.images[c.image]); kernel != "" && !arch.Platform.Boots(kernel) {
		return fmt.Sprintf("%s is for %s", c.image, kernel)
	}
	server := w.want.servers[w.want.subnets[c.subnet].Server]
	switch {
	case server == nil:
	case arch.HTTP && c.loader.Type == schema.PXELINUX:
		return c.loader.String() + " cannot be loaded over HTTP"
	case arch.HTTP && server.HTTP.Disabled:
		return "HTTP is switched off on " + server.Addr.String()
	case !arch.HTTP && server.TFTP.Disabled:
		return "TFTP is switched off on " + server.Addr.String()
	}
	return ""
}

// archOf gives the Debian architecture of an image's kernel; "" when only a build can
// tell.
func (w *warnings) archOf(im *schema.Image) string {
	if im == nil {
		return ""
	}
	if k, ok := w.kernels[im.Recipe]; ok {
		return k.Arch
	}
	return im.Architecture()
}

// unsigned warns of kernels that a boot loader for Secure Boot does not start. h nil
// is a machine without a host block.
func (w *warnings) unsigned(h *schema.Host, s *schema.Subnet) {
	for c := range w.want.chainsOn(h, s) {
		b, im := w.want.bootloaders[c.loader], w.want.images[c.image]
		if !b.SecureBoot || im == nil {
			continue
		}
		if k, built := w.kernels[im.Recipe]; !built || k.Signed {
			continue
		}
		name := ""
		if h != nil {
			name = h.Addr.String()
			if seen := w.seen.byMAC[h.MAC]; seen != nil && seen.arch != nil && schema.ClientArchOf(*seen.arch).Platform == schema.PlatformBIOS {
				continue // it has no Secure Boot
			}
		}
		w.add(b.At("secure_boot"), fmt.Sprintf("The kernel of %s is not signed", c.image),
			fmt.Sprintf("%s has secure_boot = true, so machines with Secure Boot start signed kernels only, and apply refuses it. Install a signed kernel, such as Debian's linux-image-amd64, or take secure_boot away.", c.loader), name).Refused = true
	}
}

// nothing warns of a host that nothing boots, on none of the subnets where it may be,
// although somebody says what.
func (w *warnings) nothing(h *schema.Host) {
	var tell []func()
	for _, s := range w.want.subnetsOf(h) {
		warn, boots := w.nothingOn(h, s)
		if boots {
			return
		}
		if warn != nil {
			tell = append(tell, warn)
		}
	}
	for _, warn := range tell {
		warn()
	}
}

// nothingOn reports whether something boots a host on a subnet, and gives what warns
// of it when not; nil when nobody says that anything should.
func (w *warnings) nothingOn(h *schema.Host, s *schema.Subnet) (warn func(), boots bool) {
	way := w.want.desired.WayOf(h, s)
	warning := func(at schema.Range, summary, detail string) func() {
		return func() { w.add(at, summary, detail, h.Addr.String()) }
	}
	if len(way.Boot) == 0 {
		const summary = "No boot loader for hosts that name an entry"
		switch {
		case way.Entry.IsZero():
			return nil, false
		case h.Entry.IsZero():
			return warning(way.Group.At("entry"), summary,
				fmt.Sprintf("%s names %s for these hosts, and neither they, nor the group, nor %s name a boot loader: they get an address only. Write boot = … in one of them.", way.Group.Addr, way.Entry, s.Addr)), false
		}
		return warning(h.At("entry"), summary,
			fmt.Sprintf("The host names %s, and neither it, nor its group, nor %s names a boot loader: it gets an address only. Write boot = … in one of them.", way.Entry, s.Addr)), false
	}
	var whys []string
	for c := range w.want.chainsOn(h, s) {
		kernel := w.archOf(w.want.images[c.image])
		switch {
		case c.entry.IsZero():
			whys = append(whys, c.loader.String()+" has no entries")
		case kernel != "" && !slices.ContainsFunc(schema.LoaderPlatforms(c.loader.Type), func(p schema.Platform) bool { return p.Boots(kernel) }):
			whys = append(whys, fmt.Sprintf("%s is for %s, and %s is not", c.image, kernel, c.loader))
		default:
			return nil, true
		}
	}
	if len(whys) == 0 {
		return nil, false
	}
	return warning(bootAt(way, s), "No boot loader has anything for these hosts", strings.Join(whys, "; ")+"."), false
}
