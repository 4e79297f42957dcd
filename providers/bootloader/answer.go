package bootloader

import (
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
	key, h, subnet := t.key(q)
	o := t.offers[key]
	if o == nil {
		return nil
	}
	var list []provider.Answer
	if q.Class != classIPXE {
		list = append(list, t.loader(o, q, subnet))
	}
	file := o.places.script(o.tree.path(scriptName))
	script := o.answer(provider.AnswerScript, file, o.boot.Range)
	script.Text = o.tree.file(scriptName).text
	list = append(list, script)
	protocol, _, _ := o.places.locate(file)
	for _, c := range o.choices {
		at := c.entry.Range
		switch {
		case h == nil:
		case len(h.Args) > 0:
			at = h.At("args")
		case !h.Entry.IsZero():
			at = h.At("entry")
		}
		base := ""
		if protocol == "http" { // siblings of the script come from where it came
			base = o.places.httpURL() + "/"
		}
		kernel := o.answer(provider.AnswerKernel, base+o.tree.path(c.dir+"/"+kernelName), at)
		kernel.Line = c.line
		if !q.MAC.IsZero() {
			kernel.Line = expand(c.line, q.MAC)
		}
		list = append(list, kernel,
			o.answer(provider.AnswerInitrd, base+o.tree.path(c.dir+"/"+initrdName), c.entry.At("image")))
	}
	return list
}

// loader says what firmware loads.
func (t *table) loader(o *offer, q provider.Query, s *schema.Subnet) provider.Answer {
	if byHand := s.BootFileName[q.Arch]; byHand != "" {
		a := o.answer(provider.AnswerLoader, byHand, s.At("boot_file_name"))
		if a.Digest == "" && (!s.NextServer.IsValid() || s.NextServer == o.places.tftp.Addr()) {
			a.Fail = "the file is not served here"
		}
		return a
	}
	http := q.Vendor == vendorHTTP
	target, ok := loaderFor(o.out.Targets, q.Arch, http)
	if !ok {
		a := provider.Answer{Kind: provider.AnswerLoader, Provider: "bootloader", Protocol: "tftp", Range: o.boot.Range, Fail: noLoader(q.Arch, http, o.places)}
		if http {
			a.Protocol = "http"
		}
		return a
	}
	return o.answer(provider.AnswerLoader, target.File, o.boot.Range)
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
