package plan

import (
	"iter"
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
	kindGroup      = "group"
	kindHost       = "host"
)

// view is a desired state with indexes: who is what, and which machine uses what.
type view struct {
	desired     *schema.Desired
	resources   map[schema.Addr]*schema.Resource
	servers     map[schema.Addr]*schema.Server
	images      map[schema.Addr]*schema.Image
	exports     map[schema.Addr]*schema.Export
	entries     map[schema.Addr]*schema.Entry
	bootloaders map[schema.Addr]*schema.Bootloader
	subnets     map[schema.Addr]*schema.Subnet
	groups      map[schema.Addr]*schema.Group
	hosts       map[schema.Addr]*schema.Host
	byMAC       map[string]*schema.Host
	bootable    []*schema.Subnet              // all of them, sorted
	open        []*schema.Subnet              // those of them where a machine without a reservation may turn up
	serversOf   map[schema.Addr][]schema.Addr // by bootloader: whose clients it boots
	seen        *world                        // what was observed of machines; nil until newComparison has it
	users       map[schema.Addr][]string      // machines by what their boots go through, perhaps more than once; nil until usedBy is asked
	called      map[string]*schema.Export     // exports by what clients call them; see exportCalled
	byAddress   map[string]*schema.Host       // hosts by their own address; see reserved
	was         map[schema.Addr]schema.Addr   // what was moved: by its new address, which the view has, the old one
}

func newView(d *schema.Desired) *view {
	if d == nil {
		d = &schema.Desired{}
	}
	v := &view{
		desired:     d,
		resources:   make(map[schema.Addr]*schema.Resource, len(d.Resources)),
		servers:     index(d.Servers, func(s *schema.Server) schema.Addr { return s.Addr }),
		images:      index(d.Images, func(i *schema.Image) schema.Addr { return i.Addr }),
		exports:     index(d.Exports, func(e *schema.Export) schema.Addr { return e.Addr }),
		entries:     index(d.Entries, func(e *schema.Entry) schema.Addr { return e.Addr }),
		bootloaders: index(d.Bootloaders, func(b *schema.Bootloader) schema.Addr { return b.Addr }),
		subnets:     index(d.Subnets, func(s *schema.Subnet) schema.Addr { return s.Addr }),
		groups:      index(d.Groups, func(g *schema.Group) schema.Addr { return g.Addr }),
		hosts:       index(d.Hosts, func(h *schema.Host) schema.Addr { return h.Addr }),
		byMAC:       make(map[string]*schema.Host, len(d.Hosts)),
		serversOf:   map[schema.Addr][]schema.Addr{},
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
		if d.Open(s) {
			v.open = append(v.open, s)
		}
		for _, b := range s.Boot {
			v.boots(b, s.Server)
		}
	}
	for _, h := range d.Hosts {
		for _, s := range v.subnetsOf(h) {
			for _, b := range d.WayOf(h, s).Boot {
				v.boots(b, s.Server)
			}
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

// family is what clients call an export, who know nothing of moves.
func (v *view) family(ex *schema.Export) string {
	if old, ok := v.was[ex.Addr]; ok {
		return old.Wire()
	}
	return ex.WireFamily()
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
	case kindGroup:
		return v.groups[a] != nil
	case kindHost:
		return v.hosts[a] != nil
	}
	return false
}

// subnetsOf gives the subnets on which a host may boot: its own, or, when it has no
// reservation, any where it can get an address.
func (v *view) subnetsOf(h *schema.Host) []*schema.Subnet {
	if h.Subnet.IsZero() {
		return v.open
	}
	if s := v.subnets[h.Subnet]; s != nil {
		return []*schema.Subnet{s}
	}
	return nil
}

// chain is what one boot goes through.
type chain struct {
	subnet, loader, entry, image, export schema.Addr
}

// chainsOn follows the boots of a host, nil for a machine without a host block, on a
// subnet: one for each of its boot loaders, in order of preference.
func (v *view) chainsOn(h *schema.Host, s *schema.Subnet) iter.Seq[chain] {
	way := v.desired.WayOf(h, s)
	return func(yield func(chain) bool) {
		for _, loader := range way.Boot {
			b := v.bootloaders[loader]
			if b == nil {
				continue
			}
			c := chain{subnet: s.Addr, loader: loader, entry: way.Entry}
			if c.entry.IsZero() && len(b.Entries) > 0 {
				c.entry = b.Entries[0]
			}
			if e := v.entries[c.entry]; e != nil {
				c.image, c.export = e.Image, e.Root
			}
			if !yield(c) {
				return
			}
		}
	}
}

// subnetsFor gives the subnets on which a machine may boot; h is its host block, nil
// when it has none.
func (v *view) subnetsFor(m machine) (h *schema.Host, subnets []*schema.Subnet) {
	switch h = v.hosts[m.host]; {
	case h != nil:
		return h, v.subnetsOf(h)
	case v.subnetAt(m.ip, m.subnet) != nil:
		return nil, []*schema.Subnet{v.subnetAt(m.ip, m.subnet)}
	case len(v.bootable) == 1:
		return nil, v.bootable
	}
	return nil, nil
}

// chainsOf gives every boot that a machine may do, on each subnet in order of
// preference: where its client architecture is known, those of the loaders which are
// made for it, else, or when none is, those of all. The first that is made for it need
// not be the one that counts, for whether its programs are there is not known here.
func (v *view) chainsOf(m machine) []chain { return v.appendChainsOf(nil, m) }

func (v *view) appendChainsOf(list []chain, m machine) []chain {
	h, subnets := v.subnetsFor(m)
	for _, s := range subnets {
		n := len(list)
		list = slices.AppendSeq(list, v.chainsOn(h, s))
		if m.arch == nil {
			continue
		}
		made := func(c chain) bool { return madeFor(c.loader, *m.arch) }
		if slices.ContainsFunc(list[n:], made) {
			list = append(list[:n], slices.DeleteFunc(list[n:], func(c chain) bool { return !made(c) })...)
		}
	}
	return list
}

// madeFor reports whether a type of boot loader has programs for a client
// architecture.
func madeFor(loader schema.Addr, arch uint16) bool {
	return slices.Contains(schema.LoaderPlatforms(loader.Type), schema.ClientArchOf(arch).Platform)
}

// usedBy gives the hosts whose default boot goes through a resource, and the machines
// without a host block that boot or are up, some perhaps more than once, in no order. It
// walks every boot when it is first asked; a plan of a few hosts never does.
func (v *view) usedBy(a schema.Addr) []string {
	if v.users == nil {
		v.users = map[schema.Addr][]string{}
		v.walkBoots()
	}
	return v.users[a]
}

// walkBoots fills users.
func (v *view) walkBoots() {
	var chains []chain
	add := func(m machine) {
		name := m.name()
		chains = v.appendChainsOf(chains[:0], m)
		for _, c := range chains {
			for _, a := range [...]schema.Addr{c.subnet, c.loader, c.entry, c.image, c.export} {
				if list := v.users[a]; !a.IsZero() && (len(list) == 0 || list[len(list)-1] != name) {
					v.users[a] = append(list, name)
				}
			}
		}
	}
	for a, h := range v.hosts {
		m := machine{host: a, mac: h.MAC}
		if seen := v.seen.byMAC[h.MAC]; seen != nil {
			m.arch = seen.arch
		}
		add(m)
	}
	for _, m := range v.seen.machines {
		if m.host.IsZero() && m.runs() && v.byMAC[m.mac] == nil {
			add(*m)
		}
	}
}
