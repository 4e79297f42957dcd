package plan

import (
	"slices"

	"github.com/dlreconcile/dlreconcile/schema"
)

// Block kinds that plans know more of than their attributes.
const (
	kindServer     = "server"
	kindImage      = "image"
	kindExport     = "export"
	kindEntry      = "entry"
	kindBootloader = "bootloader"
	kindSubnet     = "subnet"
	kindHost       = "host"
)

// view is a desired state with indexes: who is what, and which machine uses what.
type view struct {
	resources   map[schema.Addr]*schema.Resource
	servers     map[schema.Addr]*schema.Server
	images      map[schema.Addr]*schema.Image
	exports     map[schema.Addr]*schema.Export
	entries     map[schema.Addr]*schema.Entry
	bootloaders map[schema.Addr]*schema.Bootloader
	subnets     map[schema.Addr]*schema.Subnet
	hosts       map[schema.Addr]*schema.Host
	byMAC       map[string]*schema.Host
	bootable    []*schema.Subnet                // those that a machine may turn up on, sorted
	serversOf   map[schema.Addr][]schema.Addr   // by bootloader: whose clients it boots
	uses        map[schema.Addr]map[string]bool // machines by what their boots go through; see usedBy
}

func newView(d *schema.Desired) *view {
	if d == nil {
		d = &schema.Desired{}
	}
	v := &view{
		resources:   map[schema.Addr]*schema.Resource{},
		servers:     index(d.Servers, func(s *schema.Server) schema.Addr { return s.Addr }),
		images:      index(d.Images, func(i *schema.Image) schema.Addr { return i.Addr }),
		exports:     index(d.Exports, func(e *schema.Export) schema.Addr { return e.Addr }),
		entries:     index(d.Entries, func(e *schema.Entry) schema.Addr { return e.Addr }),
		bootloaders: index(d.Bootloaders, func(b *schema.Bootloader) schema.Addr { return b.Addr }),
		subnets:     index(d.Subnets, func(s *schema.Subnet) schema.Addr { return s.Addr }),
		hosts:       index(d.Hosts, func(h *schema.Host) schema.Addr { return h.Addr }),
		byMAC:       map[string]*schema.Host{},
		serversOf:   map[schema.Addr][]schema.Addr{},
		uses:        map[schema.Addr]map[string]bool{},
	}
	for i := range d.Resources {
		v.resources[d.Resources[i].Addr] = &d.Resources[i]
	}
	for _, h := range d.Hosts {
		v.byMAC[h.MAC] = h
	}
	v.bootable = slices.Clone(d.Subnets)
	slices.SortFunc(v.bootable, func(a, b *schema.Subnet) int { return a.Addr.Compare(b.Addr) })
	for _, s := range v.bootable {
		v.boots(s.Boot, s.Server)
	}
	for _, h := range d.Hosts {
		for _, s := range v.subnetsOf(h) {
			v.boots(h.Boot, s.Server)
		}
	}
	return v
}

func index[T any](list []*T, addr func(*T) schema.Addr) map[schema.Addr]*T {
	m := make(map[schema.Addr]*T, len(list))
	for _, x := range list {
		m[addr(x)] = x
	}
	return m
}

func (v *view) boots(loader, server schema.Addr) {
	if !loader.IsZero() && !slices.Contains(v.serversOf[loader], server) {
		v.serversOf[loader] = append(v.serversOf[loader], server)
	}
}

func (v *view) has(a schema.Addr) bool {
	switch a.Kind {
	case kindServer:
		return v.servers[a] != nil
	case kindImage:
		return v.images[a] != nil
	case kindExport:
		return v.exports[a] != nil
	case kindEntry:
		return v.entries[a] != nil
	case kindBootloader:
		return v.bootloaders[a] != nil
	case kindSubnet:
		return v.subnets[a] != nil
	case kindHost:
		return v.hosts[a] != nil
	}
	return false
}

// subnetsOf gives the subnets on which a host may boot: its own, or any when its
// address comes from a pool.
func (v *view) subnetsOf(h *schema.Host) []*schema.Subnet {
	if h.Subnet.IsZero() {
		return v.bootable
	}
	if s := v.subnets[h.Subnet]; s != nil {
		return []*schema.Subnet{s}
	}
	return nil
}

// chain is what one boot goes through. The zero chain is no boot from here.
type chain struct {
	subnet, loader, entry, image, export schema.Addr
}

// chainOf follows the boot of a host, nil for a machine without a host block, on a
// subnet.
func (v *view) chainOf(h *schema.Host, s *schema.Subnet) chain {
	loader := s.Boot
	if h != nil && !h.Boot.IsZero() {
		loader = h.Boot
	}
	b := v.bootloaders[loader]
	if b == nil {
		return chain{}
	}
	c := chain{subnet: s.Addr, loader: loader}
	if h != nil && !h.Entry.IsZero() {
		c.entry = h.Entry
	} else if len(b.Entries) > 0 {
		c.entry = b.Entries[0]
	}
	if e := v.entries[c.entry]; e != nil {
		c.image, c.export = e.Image, e.Root
	}
	return c
}

// chainsOf gives every boot that a machine may do.
func (v *view) chainsOf(m machine) []chain {
	var subnets []*schema.Subnet
	h := v.hosts[m.host]
	switch {
	case h != nil:
		subnets = v.subnetsOf(h)
	case v.subnets[m.subnet] != nil:
		subnets = []*schema.Subnet{v.subnets[m.subnet]}
	case len(v.bootable) == 1:
		subnets = v.bootable
	}
	var list []chain
	for _, s := range subnets {
		if c := v.chainOf(h, s); c != (chain{}) {
			list = append(list, c)
		}
	}
	return list
}

// usedBy fills uses: for each resource the hosts, and the machines without a host
// block that boot or are up, whose default boot goes through it.
func (v *view) usedBy(w *world) {
	use := func(a schema.Addr, name string) {
		if a.IsZero() {
			return
		}
		if v.uses[a] == nil {
			v.uses[a] = map[string]bool{}
		}
		v.uses[a][name] = true
	}
	add := func(m machine) {
		for _, c := range v.chainsOf(m) {
			for _, a := range []schema.Addr{c.subnet, c.loader, c.entry, c.image, c.export} {
				use(a, m.name())
			}
		}
	}
	for a, h := range v.hosts {
		add(machine{host: a, mac: h.MAC})
	}
	for _, m := range w.machines {
		if m.host.IsZero() && m.runs() && v.byMAC[m.mac] == nil {
			add(*m)
		}
	}
}
