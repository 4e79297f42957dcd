package bootloader

import (
	"path"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// follow: a core image asks for its configuration by the name of the machine, and then
// for nothing but kernel and initrds. shim and the signed GRUB ask for more.
func (g grub) follow(o *offer, target provider.Target, q provider.Query, at func(choice) schema.Range) []provider.Answer {
	by := schema.TFTP
	if target.HTTP {
		by = schema.HTTP
	}
	_, _, name := o.places.locate(target.File)
	folder, base := path.Split(name)
	var list []provider.Answer
	lead := true // into the tree
	switch f := g.alias(o, base); {
	case base == provider.LoaderShim:
		list = append(g.shimAnswers(o, folder), g.signedAnswers(o, q)...)
	case base == provider.LoaderSignedGRUB:
		list = g.signedAnswers(o, q)
	case f != nil && f.role == provider.AnswerScript:
		if own := grubName(q); base == grubConfig && own != grubConfig {
			list = append(list, g.scriptAnswer(o, g.protocol(o), grubHome+own))
		}
	case o.proxied:
		list = append(list, g.scriptAnswer(o, g.protocol(o), grubHome+grubName(q)))
	case folder == o.tree.path(""):
		list = append(list, g.scriptAnswer(o, by, folder+grubName(q)))
		lead = false
	default:
		list = append(list, g.scriptAnswer(o, by, grubPrefix(folder)+grubName(q)))
	}
	if lead {
		list = append(list, g.scriptAnswer(o, g.protocol(o), o.tree.path(grubConfig)))
	}
	for _, c := range o.choices {
		list = append(list, o.kernelAnswers(g.protocol(o), c, q, at)...)
	}
	return list
}

// grubName is the name under which the configuration of a machine is asked for. Of one
// that is not known, it is the name under which it is there.
func grubName(q provider.Query) string {
	if _, unknown := q.MAC.Address(); unknown || q.MAC.IsZero() {
		return grubConfig
	}
	return grubOwn + dashed(q.MAC)
}

// grubPrefix is the folder in which a core image looks, after it was loaded from
// folder: a platform's name at the end is taken off.
func grubPrefix(folder string) string {
	for _, p := range grubPlatforms() {
		if path.Base(folder) == string(p.platform) {
			folder, _ = path.Split(path.Clean(folder))
		}
	}
	return folder
}

// scriptAnswer describes a configuration, in the tree or that leads into it.
func (g grub) scriptAnswer(o *offer, by schema.Protocol, name string) provider.Answer {
	a := o.answer(provider.AnswerScript, o.places.url(by, name), o.boot.Range)
	f := g.alias(o, name)
	if id, in, ok := split(name); ok && id == o.tree.id {
		if f = o.tree.file(in); f == nil {
			f = g.within(o.tree, in)
		}
	}
	if f == nil {
		a.Fail = "there is no such file"
		return a
	}
	a.Size, a.Digest, a.Text = f.size, f.digest, f.text
	return a
}

// shimAnswers lists what shim 16 asks for beside itself. That goes by the file field
// of the DHCP answer; told by option 67 alone, it asks without a folder.
func (grub) shimAnswers(o *offer, folder string) []provider.Answer {
	var list []provider.Answer
	for _, name := range []string{"revocations_sku.efi", "revocations_sbat.efi", "shim_certificate_0.efi"} {
		a := o.answer(provider.AnswerLoader, o.places.url(schema.TFTP, folder+name), o.boot.Range)
		a.Absent = true
		list = append(list, a)
	}
	next := o.answer(provider.AnswerLoader, o.places.url(schema.TFTP, folder+provider.LoaderSignedGRUB), o.boot.Range)
	if f := o.tree.file(provider.LoaderSignedGRUB); f != nil {
		next.Size, next.Digest = f.size, f.digest
	}
	return append(list, next)
}

// signedAnswers lists what the signed GRUB asks for, up to the configuration that
// leads into the tree. Its prefix is built in, and it needs none of the lists.
func (g grub) signedAnswers(o *offer, q provider.Query) []provider.Answer {
	var list []provider.Answer
	for _, name := range []string{"command.lst", "fs.lst", "crypto.lst", "terminal.lst"} {
		a := o.answer(provider.AnswerLoader, o.places.url(schema.TFTP, grubHome+string(schema.PlatformX64)+"/"+name), o.boot.Range)
		a.Absent = true
		list = append(list, a)
	}
	list = append(list, g.scriptAnswer(o, schema.TFTP, grubHome+grubConfig))
	if own := grubName(q); own != grubConfig {
		list = append(list, g.scriptAnswer(o, schema.TFTP, grubHome+own))
	}
	return list
}
