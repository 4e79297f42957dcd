package bootloader

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// pxelinux is the family of PXELINUX, and of LPXELINUX, which fetches everything
// after itself by HTTP. Both are for BIOS. Names in the configuration are relative:
// PXELINUX looks for them below the folder that it came from, LPXELINUX below the
// path prefix that DHCP tells it.
type pxelinux struct{}

// Files of PXELINUX in a tree. ldlinux.c32 is its second half; the others are for a
// menu, and for starting over.
const (
	pxeProgram  = "pxelinux.0"
	lpxeProgram = "lpxelinux.0"
	pxeCore     = "ldlinux.c32"
	pxeReboot   = "reboot.c32"
	pxeCommon   = "libcom32.c32" // reboot.c32 needs it
	pxeMenu     = "menu.c32"
	pxeLibrary  = "libutil.c32" // menu.c32 needs it
	pxeFolder   = "pxelinux.cfg/"
	pxeConfig   = pxeFolder + "default"
)

func (pxelinux) http(o *offer) bool { return o.boot.Protocol == schema.HTTP }

func (f pxelinux) program(o *offer) string {
	if f.http(o) {
		return lpxeProgram
	}
	return pxeProgram
}

func (pxelinux) menu(o *offer) bool { return len(o.choices) > 1 && o.boot.Timeout > 0 }

// needs lists the programs and modules of a bootloader block.
func (f pxelinux) needs(b *schema.Bootloader) []string {
	list := []string{pxeProgram, pxeCore, pxeReboot, pxeCommon}
	if b.Protocol == schema.HTTP {
		list[0] = lpxeProgram
	}
	if len(b.Entries) > 1 && b.Timeout > 0 {
		list = append(list, pxeMenu, pxeLibrary)
	}
	return list
}

// wants looks where Debian and Ubuntu, Fedora, and Arch Linux put them.
func (f pxelinux) wants(b *schema.Bootloader) []wanted {
	var list []wanted
	for _, name := range f.needs(b) {
		w := wanted{name: name, image: provider.LoaderC32Prefix + name, pkg: "syslinux-common", paths: []string{
			"/usr/lib/syslinux/modules/bios/" + name, "/usr/share/syslinux/" + name, "/usr/lib/syslinux/bios/" + name,
		}}
		if strings.HasSuffix(name, ".0") {
			w.image, w.pkg = name, "pxelinux" // provider.LoaderPXELINUX, LoaderLPXELINUX
			w.paths[0] = "/usr/lib/PXELINUX/" + name
		}
		list = append(list, w)
	}
	return list
}

func (f pxelinux) files(c *compiler, o *offer) []file {
	switch {
	case !o.places.tftp.IsValid():
		c.refuse(o.boot.Range, "PXELINUX needs TFTP",
			fmt.Sprintf("%s is used on a server that has TFTP switched off, and firmware fetches PXELINUX itself by nothing else. Enable TFTP there.", o.boot.Addr))
	case f.http(o) && !o.places.http.IsValid():
		c.refuse(o.boot.At("protocol"), "LPXELINUX needs HTTP",
			fmt.Sprintf("%s has protocol = %q and is used on a server that has HTTP switched off. Enable it there, or take the line away.", o.boot.Addr, schema.HTTP))
	case !schema.PlatformBIOS.Boots(o.arch):
		c.refuse(o.boot.At("entries"), "PXELINUX cannot boot this image",
			fmt.Sprintf("%s is a boot loader for x86 machines with BIOS, and %s is for %s. Use another boot loader.", o.boot.Addr, o.choices[0].entry.Image, o.arch))
	}
	files := []file{textFile(pxeConfig, provider.AnswerScript, f.config(o))}
	for _, name := range f.needs(o.boot) {
		if b, ok := o.programs[name]; ok {
			files = append(files, blobFile(name, provider.AnswerLoader, b))
		}
	}
	return files
}

// config writes the configuration. "SERIAL" must be its first line.
func (f pxelinux) config(o *offer) string {
	var b strings.Builder
	if unit, speed, ok := strings.Cut(o.boot.Serial, ","); ok {
		fmt.Fprintf(&b, "SERIAL %s %s\n", unit, speed)
	}
	if f.menu(o) {
		fmt.Fprintf(&b, "UI %s\nMENU TITLE dlreconcile\nTIMEOUT %d\n", pxeMenu, o.boot.Timeout*10)
	}
	b.WriteString("DEFAULT e1\nPROMPT 0\nONERROR restart\n")
	for i, c := range o.choices {
		fmt.Fprintf(&b, "LABEL e%d\n", i+1)
		if f.menu(o) {
			fmt.Fprintf(&b, "  MENU LABEL %s\n", strings.ReplaceAll(title(c.entry), "^", "?")) // ^ marks a hot key
		}
		fmt.Fprintf(&b, "  LINUX %s\n  INITRD %s\n  APPEND %s\n  SYSAPPEND 0x2\n", c.kernel(), strings.Join(c.initrds, ","), strings.Join(pxeWords(c), " "))
	}
	// A kernel that could not be fetched is no reason to stand still at a prompt.
	fmt.Fprintf(&b, "LABEL restart\n  COM32 %s\n", pxeReboot)
	if f.menu(o) {
		b.WriteString("  MENU HIDE\n")
	}
	return b.String()
}

// pxeWords are the words of APPEND: PXELINUX adds BOOTIF itself.
func pxeWords(c choice) []string {
	return slices.DeleteFunc(slices.Clone(c.words), func(w string) bool { return w == macWord })
}

func (f pxelinux) targets(o *offer) []provider.Target {
	if o.tree.file(f.program(o)) == nil || o.tree.file(pxeCore) == nil {
		return nil
	}
	list := o.targetsFor(schema.PlatformBIOS, false, f.program(o))
	for i := range list {
		// Told where its configuration is, it does not try ten other names first.
		list[i].Config = pxeConfig
		if f.http(o) {
			list[i].Prefix = o.places.httpURL() + "/" + o.tree.path("")
		}
	}
	return list
}

func (f pxelinux) follow(o *offer, target provider.Target, q provider.Query, at func(choice) schema.Range) []provider.Answer {
	by := schema.TFTP
	if f.http(o) && target.Prefix != "" {
		by = schema.HTTP
	}
	var list []provider.Answer
	if _, _, name := o.places.locate(target.File); name != o.tree.path(path.Base(name)) {
		list = f.lead(o, name, q)
	} else {
		list = append(list, o.answer(provider.AnswerLoader, o.places.url(by, o.tree.path(pxeCore)), o.boot.Range))
	}
	config := o.answer(provider.AnswerScript, o.places.url(by, o.tree.path(pxeConfig)), o.boot.Range)
	config.Text = o.tree.file(pxeConfig).text
	list = append(list, config)
	if f.menu(o) {
		for _, name := range []string{pxeMenu, pxeLibrary} {
			list = append(list, o.answer(provider.AnswerLoader, o.places.url(by, o.tree.path(name)), o.boot.Range))
		}
	}
	for _, c := range o.choices {
		list = append(list, o.kernelAnswers(by, c, q, at)...)
	}
	return list
}

// lead lists what a PXELINUX fetches by undigested names, which another DHCP server
// named, or somebody by hand: its second half, the configuration that leads into the
// tree, and, beginning anew there, its second half once more. Firmware that has a UUID
// makes it ask by that first: where nothing but the address of the machine is known
// there is no such file, and it goes on to its hardware address; elsewhere it gets the
// same by that name. Of a machine that is not known, nobody can say by which name it
// will find its configuration: the last one is always there.
func (f pxelinux) lead(o *offer, name string, q provider.Query) []provider.Answer {
	folder, _ := path.Split(name)
	core := o.answer(provider.AnswerLoader, folder+pxeCore, o.boot.Range)
	if b := o.tree.file(pxeCore); b != nil {
		core.Size, core.Digest = b.size, b.digest
	}
	config := folder + pxeConfig
	if _, unknown := q.MAC.Address(); !unknown && !q.MAC.IsZero() {
		config = folder + pxeFolder + "01-" + dashed(q.MAC)
	}
	script := o.answer(provider.AnswerScript, config, o.boot.Range)
	if t := f.alias(o, script.Name); t != nil {
		script.Size, script.Digest, script.Text = t.size, t.digest, t.text
	}
	return []provider.Answer{core, script, core}
}

// line is as PXELINUX hands it over: BOOT_IMAGE and initrd around ours, BOOTIF last.
func (pxelinux) line(_ *offer, c choice, mac provider.MAC) string {
	bootif := "BOOTIF=01-…"
	if !mac.IsZero() {
		bootif = "BOOTIF=01-" + dashed(mac)
	}
	words := append([]string{"BOOT_IMAGE=" + c.kernel()}, pxeWords(c)...)
	return strings.Join(append(words, "initrd="+strings.Join(c.initrds, ","), bootif), " ")
}

// within gives the configuration under any name that PXELINUX looks for it.
func (pxelinux) within(t *tree, name string) *file {
	if strings.HasPrefix(name, pxeFolder) {
		return t.file(pxeConfig)
	}
	return nil
}

// guessedByPXE reports whether a name is of a configuration of PXELINUX that says
// nothing about who asks: the machine's UUID, or parts of its address. After the first
// of them it asks by the hardware address, unless it has found something.
func guessedByPXE(name string) bool {
	folder, base := path.Split(name)
	_, says := macIn(name)
	return strings.HasSuffix("/"+folder, "/"+pxeFolder) && base != path.Base(pxeConfig) && !says
}

// alias serves PXELINUX to machines that another DHCP server sends here.
func (f pxelinux) alias(o *offer, name string) *file {
	folder, base := path.Split(name)
	switch {
	case strings.HasSuffix(folder, pxeFolder):
		// The address makes it ours, whatever server the other DHCP server named.
		in := o.places.tftp.Addr().String() + "::" + o.tree.path("")
		t := textFile(name, provider.AnswerScript, fmt.Sprintf("DEFAULT go\nPROMPT 0\nLABEL go\n  CONFIG %s %s\n", in+pxeConfig, in))
		return &t
	case base == pxeProgram || base == lpxeProgram || strings.HasSuffix(base, ".c32"):
		return o.tree.file(base)
	}
	return nil
}
