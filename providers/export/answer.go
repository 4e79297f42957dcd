package export

import (
	"net/netip"
	"slices"

	"github.com/dlreconcile/dlreconcile/engine/provider"
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

// answer says which root a machine gets when nobody chooses another entry. A
// machine that boots nothing, or nothing with a root of ours, has no answer. pub is
// the state whose current generation decides about access.
func (t *table) answer(pub *published.Tables[*table], q provider.Query) []provider.Answer {
	subnet := t.subnetOf(q)
	entry := t.entryOf(q.Host, subnet)
	if entry == nil {
		return nil
	}
	s := t.byAddr[entry.Root]
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
	if err := access(pub, s, t, c, q.Address); err != nil {
		a.Fail = err.Error()
	}
	return []provider.Answer{a}
}

// subnetOf gives the subnet that a machine is on, or nil.
func (t *table) subnetOf(q provider.Query) *schema.Subnet {
	addr := q.Address
	named := q.Subnet
	if h := t.host(q.Host); h != nil {
		if named.IsZero() {
			named = h.Subnet
		}
		if !addr.IsValid() {
			addr = h.Address
		}
	}
	for _, s := range t.want.Subnets {
		if s.Addr == named || named.IsZero() && addr.IsValid() && s.CIDR.Contains(addr) {
			return s
		}
	}
	if named.IsZero() && !addr.IsValid() && len(t.want.Subnets) == 1 {
		return t.want.Subnets[0]
	}
	return nil
}

// entryOf gives what a machine boots: its own entry, else the first of its
// bootloader's, which is its own or the subnet's.
func (t *table) entryOf(host schema.Addr, subnet *schema.Subnet) *schema.Entry {
	var want, boot schema.Addr
	if subnet != nil {
		boot = subnet.Boot
	}
	if h := t.host(host); h != nil {
		want = h.Entry
		if !h.Boot.IsZero() {
			boot = h.Boot
		}
	}
	if want.IsZero() {
		i := slices.IndexFunc(t.want.Bootloaders, func(b *schema.Bootloader) bool { return b.Addr == boot })
		if i < 0 || len(t.want.Bootloaders[i].Entries) == 0 {
			return nil
		}
		want = t.want.Bootloaders[i].Entries[0]
	}
	i := slices.IndexFunc(t.want.Entries, func(e *schema.Entry) bool { return e.Addr == want })
	if i < 0 {
		return nil
	}
	return t.want.Entries[i]
}

func (t *table) host(a schema.Addr) *schema.Host {
	if a.IsZero() {
		return nil
	}
	i := slices.IndexFunc(t.want.Hosts, func(h *schema.Host) bool { return h.Addr == a })
	if i < 0 {
		return nil
	}
	return t.want.Hosts[i]
}

// allowed says why a client may not attach to an export; nil means that it may.
// An export without a list is for every known client.
func allowed(s *served, t *table, c provider.Client, addr netip.Addr) error {
	if len(s.Decl.Allow) == 0 {
		return nil
	}
	for _, a := range s.Decl.Allow {
		switch a.Kind {
		case "host":
			if c.Host == a {
				return nil
			}
		case "subnet":
			if c.Subnet == a {
				return nil
			}
			if c.Subnet.IsZero() && addr.IsValid() && t.holds(a, addr) {
				return nil
			}
		}
	}
	return denied("%s does not list this machine or its subnet under allow", s.Decl.Addr)
}

// holds reports whether addr is in the subnet of that address.
func (t *table) holds(subnet schema.Addr, addr netip.Addr) bool {
	return slices.ContainsFunc(t.want.Subnets, func(s *schema.Subnet) bool {
		return s.Addr == subnet && s.CIDR.Contains(addr)
	})
}
