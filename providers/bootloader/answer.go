package bootloader

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Answer implements provider.Provider: the loader that firmware like the client's
// runs, unless the client is iPXE; the script; then kernel and initrd of each
// entry, what nobody chose first.
func (p *Provider) Answer(q provider.Query) []provider.Answer {
	if t, ok := p.pub.Load().Of(q.Generation); ok {
		return t.answer(q)
	}
	return nil
}

func (t *table) answer(q provider.Query) []provider.Answer {
	offers, h, subnet := t.offered(q)
	if len(offers) == 0 {
		return nil
	}
	at := func(c choice) schema.Range {
		switch {
		case h == nil:
		case len(h.Args) > 0:
			return h.At("args")
		case !h.Entry.IsZero():
			return h.At("entry")
		}
		return c.entry.Range
	}
	if q.File != "" {
		return spelled(t.byName(offers, q.File, q, at, offers[0].boot.Range), q.File, q)
	}
	if byHand := subnet.BootFileName[q.Arch]; byHand != "" && classOf(offers, q) == "" && slices.Equal(t.want.WayOf(h, subnet).Boot, subnet.Boot) {
		where := byHand
		if next := subnet.NextServer; !strings.Contains(byHand, "://") && next.IsValid() && next != offers[0].places.tftp.Addr() {
			where = fmt.Sprintf("tftp://%s/%s", next, strings.TrimLeft(byHand, "/"))
		}
		return spelled(t.byName(offers, where, q, at, subnet.At("boot_file_name")), byHand, q)
	}
	o, target, ok := pick(offers, q)
	if !ok {
		offers = fitting(offers, q.Arch)
		o = offers[0]
		a := provider.Answer{Kind: provider.AnswerLoader, Provider: "bootloader", Protocol: "tftp", Range: o.boot.Range, Fail: noLoader(q.Arch, q.Vendor == vendorHTTP, offers)}
		if q.Vendor == vendorHTTP {
			a.Protocol = "http"
		}
		return []provider.Answer{a}
	}
	return o.boots(target, q, at)
}

// offered gives what a client may boot, the best first. A host that turns up on
// another subnet than its own boots what it boots at home, as far as the boot loaders
// are the same: the DHCP provider says so too.
func (t *table) offered(q provider.Query) ([]*offer, *schema.Host, *schema.Subnet) {
	key, h, subnet := t.key(q)
	if list := t.offers[key]; len(list) > 0 || h == nil || subnet == nil {
		return list, h, subnet
	}
	var list []*offer
	for _, boot := range t.want.WayOf(h, subnet).Boot {
		for _, o := range t.offers[provider.TreeKey{Host: h.Addr, Subnet: h.Subnet}] {
			if o.boot.Addr == boot && o.proxied == (subnet.Mode == schema.ModeProxy) {
				list = append(list, o)
			}
		}
	}
	return list, h, subnet
}

// boots lists what a client fetches that is told a target.
func (o *offer) boots(target provider.Target, q provider.Query, at func(choice) schema.Range) []provider.Answer {
	rest := o.family.follow(o, target, q, at)
	if target.Class != "" {
		return rest
	}
	list := make([]provider.Answer, 1, 1+len(rest))
	list[0] = o.answer(provider.AnswerLoader, target.File, o.boot.Range)
	list[0].Again = o.again()
	return append(list, rest...)
}

// again is the user class under which the offer's programs ask DHCP anew.
func (o *offer) again() string {
	if o.boot.Addr.Type == schema.IPXE {
		return classIPXE
	}
	return ""
}

// byName lists what a client fetches that is told a file by hand, or by another DHCP
// server: a file of its tree, or an alias. due is who named it.
func (t *table) byName(offers []*offer, file string, q provider.Query, at func(choice) schema.Range, due schema.Range) []provider.Answer {
	here := offers[0].places
	protocol, server, name := here.locate(file)
	a := provider.Answer{Kind: provider.AnswerLoader, Provider: "bootloader", Protocol: protocol, Server: server, Name: name, Range: due}
	if server != here.http.String() && server != here.tftp.String() {
		return []provider.Answer{a} // another server's: nothing is known about it
	}
	for _, o := range offers {
		for _, target := range o.out.Targets {
			_, _, told := o.places.locate(target.File)
			if told == name && (target.Class == "" || target.Class == q.Class) {
				return o.boots(target, q, at)
			}
		}
	}
	o, f := aliasOf(offers, name, q.Class)
	if f == nil {
		a.Fail = "the file is not served here"
		return []provider.Answer{a}
	}
	a.Kind, a.Size, a.Digest = f.role, f.size, f.digest
	if f.role == provider.AnswerLoader {
		a.Again = o.again()
	} else if a.Text = f.bytes(); q.Class != classIPXE || o.boot.Addr.Type != schema.IPXE {
		a.Fail = "it is a configuration, and not a program that firmware could run"
	}
	target := provider.Target{Arch: q.Arch, Class: q.Class, HTTP: protocol == "http", File: file}
	return append([]provider.Answer{a}, o.family.follow(o, target, q, at)...)
}

// spelled ends the answers to a client that is told a file by a name which firmware
// makes nothing of, whatever there is by that name. An iPXE, in a ROM too, takes paths
// and URLs.
func spelled(list []provider.Answer, file string, q provider.Query) []provider.Answer {
	scheme, _, isURL := strings.Cut(file, "://")
	switch {
	case q.Class == classIPXE:
	case q.Vendor != vendorHTTP && isURL:
		list = list[:1]
		list[0].Fail = "firmware fetches its boot file over TFTP, and takes a path and no URL"
	case q.Vendor == vendorHTTP && scheme != "http" && scheme != "https":
		list = list[:1]
		list[0].Fail = "firmware that boots over HTTP takes a URL, http://…, and no path"
	}
	return list
}

// answer describes a file of the offer's tree, given as a client is told it: as a
// TFTP path or a URL.
func (o *offer) answer(kind provider.AnswerKind, file string, at schema.Range) provider.Answer {
	a := provider.Answer{Kind: kind, Provider: "bootloader", Range: at}
	a.Protocol, a.Server, a.Name = o.places.locate(file)
	if id, name, ok := split(a.Name); ok && id == o.tree.id {
		if f := o.tree.file(name); f != nil {
			a.Size, a.Digest = f.size, f.digest
		}
	}
	return a
}
