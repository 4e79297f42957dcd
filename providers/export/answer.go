package export

import (
	"fmt"
	"net/netip"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/nbd"
	"github.com/dlreconcile/dlreconcile/providers/internal/published"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Answer implements provider.Provider.
func (p *Provider) Answer(q provider.Query) []provider.Answer {
	pub := p.pub.Load()
	if t, ok := pub.Of(q.Generation); ok {
		return t.answer(pub, q)
	}
	return nil
}

// answer says which root a machine gets: the one that its kernel line names, or, as
// long as that is not known, the one of the entry that it boots when nobody chooses. A
// machine that boots nothing, or nothing with a root of ours, has no answer. pub is
// the state whose current generation decides about access.
func (t *table) answer(pub *published.Tables[*table], q provider.Query) []provider.Answer {
	subnet := t.subnetOf(q)
	s := t.byName[q.Root]
	if q.Root == "" {
		if entry := t.entryOf(q.Host, subnet); entry != nil {
			s = t.byAddr[entry.Root]
		}
	}
	if s == nil {
		return nil
	}
	a := provider.Answer{
		Kind: provider.AnswerRoot, Provider: "export", Protocol: wireProtocol,
		Name: s.Name, Server: s.Server.String(),
		Size: s.Artifact.Root.Size, Digest: s.Artifact.Root.Digest,
		Mode: string(s.Mode), Range: s.Decl.Range,
	}
	c := provider.Client{MAC: q.MAC, Host: q.Host}
	if subnet != nil {
		c.Subnet = subnet.Addr
	}
	if err := access(pub, s, t, c, from{addr: q.Address}); err != nil {
		a.Fail = err.Error()
	}
	return []provider.Answer{a}
}

// subnetOf gives the subnet that a machine is on, or nil.
func (t *table) subnetOf(q provider.Query) *schema.Subnet {
	addr := q.Address
	named := q.Subnet
	if h := t.hosts[q.Host]; h != nil {
		if named.IsZero() {
			named = h.Subnet
		}
		if !addr.IsValid() {
			addr = h.Address
		}
	}
	if !named.IsZero() {
		return t.subnets[named]
	}
	for _, s := range t.want.Subnets {
		if addr.IsValid() && s.CIDR.Contains(addr) {
			return s
		}
	}
	if !addr.IsValid() && len(t.want.Subnets) == 1 {
		return t.want.Subnets[0]
	}
	return nil
}

// entryOf gives what a machine boots: its own entry or its group's, else the first of
// the bootloader that is preferred for it.
func (t *table) entryOf(host schema.Addr, subnet *schema.Subnet) *schema.Entry {
	if subnet == nil {
		subnet = &schema.Subnet{}
	}
	way := t.want.WayOf(t.hosts[host], subnet)
	want := way.Entry
	if want.IsZero() && len(way.Boot) > 0 {
		boot := t.bootloaders[way.Boot[0]]
		if boot == nil || len(boot.Entries) == 0 {
			return nil
		}
		want = boot.Entries[0]
	}
	return t.entries[want]
}

// allowed says why a client may not attach to an export; nil means that it may.
// An export without a list is for every known client. Who may not have it is not told
// either that it needs TLS.
func allowed(s *served, t *table, c provider.Client, at from) error {
	if len(s.allow) > 0 {
		if host, subnet := t.who(c, at.addr); !s.allow[subnet] && !s.allow[host] {
			return denied("%s does not list this machine or its subnet under allow", s.Decl.Addr)
		}
	}
	if s.Decl.TLS == schema.TLSRequired && !at.secured {
		return &denial{fmt.Sprintf("%s is served over TLS only (%s), and the connection is in the clear", s.Decl.Addr, s.Decl.At("tls")), nbd.ErrTLSRequired}
	}
	return nil
}

// who gives the host block and the subnet of a client as the table has them: by its
// hardware address, and by the address that it comes from. What c says of them is what
// was so when its address was acknowledged, and may have been edited or moved since; it
// counts where the table knows nothing better.
func (t *table) who(c provider.Client, addr netip.Addr) (host, subnet schema.Addr) {
	host, subnet = c.Host, c.Subnet
	if !c.MAC.IsZero() {
		host = t.byMAC[c.MAC.String()]
	}
	for _, n := range t.want.Subnets {
		if addr.IsValid() && n.CIDR.Contains(addr) {
			return host, n.Addr
		}
	}
	return host, subnet
}

// index finds the blocks of a desired state by their addresses.
type index struct {
	hosts       map[schema.Addr]*schema.Host
	byMAC       map[string]schema.Addr // hosts by schema.Host.MAC
	subnets     map[schema.Addr]*schema.Subnet
	entries     map[schema.Addr]*schema.Entry
	bootloaders map[schema.Addr]*schema.Bootloader
}

func newIndex(d *schema.Desired) index {
	macs := make(map[string]schema.Addr, len(d.Hosts))
	for _, h := range d.Hosts {
		macs[h.MAC] = h.Addr
	}
	return index{
		byMAC:       macs,
		hosts:       byAddress(d.Hosts, func(h *schema.Host) schema.Addr { return h.Addr }),
		subnets:     byAddress(d.Subnets, func(s *schema.Subnet) schema.Addr { return s.Addr }),
		entries:     byAddress(d.Entries, func(e *schema.Entry) schema.Addr { return e.Addr }),
		bootloaders: byAddress(d.Bootloaders, func(b *schema.Bootloader) schema.Addr { return b.Addr }),
	}
}

func byAddress[T any](list []*T, addr func(*T) schema.Addr) map[schema.Addr]*T {
	m := make(map[schema.Addr]*T, len(list))
	for _, x := range list {
		m[addr(x)] = x
	}
	return m
}
