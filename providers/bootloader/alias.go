package bootloader

import (
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// How an iPXE asks: its requests over TFTP have these options first, and no other
// program's that is known have; over HTTP it names itself.
const (
	optionsIPXE = "blksize=1432 tsize=0"
	agentIPXE   = "iPXE/"
)

// asked is a request for a file.
type asked struct {
	from   netip.Addr
	name   string // without leading slash
	byIPXE bool   // an iPXE asks
}

// openAlias gives the file that an undigested name means for the machine that asks:
// one that another DHCP server sent here, or that was told a file by hand. It is of
// the generation that the machine's boot session is on, so that nothing mixes: a
// program is served as it is, a configuration leads into the tree.
//
// A session that begins here is written to disk. So that forged requests cost
// nothing, it does so only for names that mean something to a machine with that
// address, which is one that our DHCP gave out, or of a subnet where another server
// does.
func (p *Provider) openAlias(a asked) (*openFile, error) {
	missing := fmt.Errorf("%s: %w", a.name, fs.ErrNotExist)
	if a.from = a.from.Unmap(); !a.from.Is4() {
		return nil, missing
	}
	client := provider.Client{}
	if p.clients != nil {
		client, _ = p.clients.ByAddr(a.from)
	}
	found, ok := p.lookUp(a, client)
	if !ok {
		// A boot that begins now is of the current generation, whatever the last was.
		client.Generation = 0
		if found, ok = p.lookUp(a, client); !ok {
			return nil, missing
		}
	}
	if p.sessions != nil {
		var err error
		if client, err = p.sessions.Fetch(a.from, found.stage()); err != nil {
			return nil, fmt.Errorf("%s: %w", a.name, err)
		}
	}
	for {
		pub := p.pub.Load()
		if found, ok = p.lookUp(a, client); !ok {
			return nil, missing
		}
		if of := found.table.hold(found.offer.tree, found.file); of != nil {
			return of.usable()
		}
		if p.pub.Load() == pub {
			return nil, missing
		}
	}
}

// alias is what an undigested name means to some machine.
type alias struct {
	table *table
	offer *offer
	file  *file
}

// stage says what the file is to a boot session: a program that firmware is told to
// load begins a boot. What such a program loads after itself continues it, like a
// configuration.
func (a alias) stage() provider.AnswerKind {
	second := path.Ext(a.file.name) == ".c32" ||
		a.file.name == provider.LoaderSignedGRUB && a.offer.tree.file(provider.LoaderShim) != nil
	if second {
		return provider.AnswerScript
	}
	return a.file.role
}

// lookUp finds what a name means to a client: in the generation that it is pinned to,
// or in the current one when that is not served any more.
func (p *Provider) lookUp(a asked, client provider.Client) (alias, bool) {
	pub := p.pub.Load()
	t, ok := pub.Of(client.Generation)
	if !ok {
		if t, ok = pub.Of(0); !ok {
			return alias{}, false
		}
	}
	q, sure, ok := t.whoAsks(client, a.from, a.name)
	if !ok || !sure && guessedByPXE(a.name) {
		return alias{}, false
	}
	if a.byIPXE {
		q.Class = classIPXE
	}
	offers, _, _ := t.offered(q)
	o, f := aliasOf(offers, a.name, q.Class)
	return alias{t, o, f}, f != nil
}

// whoAsks makes the query of a client that asks for a name. Where our DHCP gives out
// the addresses, whoever has none of it is a stranger, and ok is false. Elsewhere
// nothing but the address may be known, or that it is reserved for a host, which the
// server there need not know of: a configuration's name may hold the hardware address
// of the machine, and says better who it is. sure is false where neither tells.
func (t *table) whoAsks(c provider.Client, from netip.Addr, name string) (q provider.Query, sure, ok bool) {
	q = provider.Query{MAC: c.MAC, Host: c.Host, Subnet: c.Subnet, Address: from}
	_, byAddress := c.MAC.Address()
	known := !byAddress && !c.MAC.IsZero()
	i := slices.IndexFunc(t.subnets, func(s *schema.Subnet) bool { return s.CIDR.Contains(from) })
	if i < 0 || t.given[t.subnets[i].Addr] {
		return q, known, known
	}
	if h := t.byAddr[from]; known && (h == nil || t.byMAC[c.MAC] != h) {
		return q, true, true
	}
	q.Subnet = t.subnets[i].Addr
	mac, says := macIn(name)
	if says && mac != q.MAC {
		q.MAC, q.Host = mac, schema.Addr{}
	}
	return q, says, true
}

// aliasOf gives the first offer to which an undigested name means something, and the
// file. An iPXE that is told an iPXE, by a DHCP server that tells everybody the same,
// would load itself for ever: it gets its script, under whatever name.
func aliasOf(offers []*offer, name, class string) (*offer, *file) {
	for _, o := range offers {
		f := o.family.alias(o, name)
		if f != nil && f.role == provider.AnswerLoader && class == classIPXE && o.boot.Addr.Type == schema.IPXE {
			f = o.family.alias(o, scriptName)
		}
		if f != nil {
			return o, f
		}
	}
	return nil, nil
}

// macIn gives the hardware address that is in the name of the configuration of one
// machine: "…/grub.cfg-01-<mac>" and "…/pxelinux.cfg/01-<mac>", as GRUB and PXELINUX
// ask for them, and our "…/boot.ipxe-01-<mac>"; with dashes, after ARP's number for
// Ethernet.
func macIn(name string) (provider.MAC, bool) {
	dir, base := path.Split(name)
	spelled, ok := strings.CutPrefix(base, "grub.cfg-01-")
	if !ok {
		spelled, ok = strings.CutPrefix(base, scriptOwn)
	}
	if !ok && path.Base(dir) == "pxelinux.cfg" {
		spelled, ok = strings.CutPrefix(base, "01-")
	}
	if !ok || len(spelled) != 17 || strings.Count(spelled, "-") != 5 {
		return provider.MAC{}, false
	}
	mac, err := provider.ParseMAC(spelled)
	return mac, err == nil
}
