package bootloader

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// ipxe is the family of iPXE: firmware loads an iPXE, which asks DHCP again and is
// told a script; an iPXE in the ROM is told the script at once.
type ipxe struct{}

// ipxeMAC is what iPXE replaces by the hardware address of the interface that it
// boots from, in lower case with dashes.
const ipxeMAC = "${netX/mac:hexhyp}"

// Names of iPXE's network boot programs in a tree, as its build system has them.
const (
	undionly     = "undionly.kpxe" // BIOS: uses the network driver of the ROM that loaded it
	snponly      = "snponly.efi"   // UEFI x86-64: likewise
	fullEFI      = "ipxe.efi"      // UEFI x86-64, with drivers of its own
	snponlyARM64 = "snponly-arm64.efi"
	fullARM64    = "ipxe-arm64.efi"
)

// ipxeProgram is one of them.
type ipxeProgram struct {
	name     string
	platform schema.Platform
	paths    []string
}

// ipxePrograms lists them. Debian's package has none for ARM; Fedora has them in a
// folder, openSUSE under names of its own.
func ipxePrograms() []ipxeProgram {
	return []ipxeProgram{
		{fullEFI, schema.PlatformX64, []string{fullEFI, "ipxe-x86_64.efi"}},
		{snponly, schema.PlatformX64, []string{snponly, "ipxe-snponly-x86_64.efi", "snp-x86_64.efi"}},
		{undionly, schema.PlatformBIOS, []string{undionly}},
		{fullARM64, schema.PlatformARM64, []string{fullARM64, "arm64-efi/ipxe.efi"}},
		{snponlyARM64, schema.PlatformARM64, []string{snponlyARM64, "arm64-efi/snponly.efi", "snp-arm64.efi"}},
	}
}

func (ipxe) wants(*schema.Bootloader) []wanted {
	var list []wanted
	for _, p := range ipxePrograms() {
		list = append(list, wanted{name: p.name, paths: p.paths, platform: p.platform, pkg: "ipxe"})
	}
	return list
}

func (ipxe) files(c *compiler, o *offer) []file {
	switch by := o.boot.Protocol; {
	case by == schema.TFTP && !o.places.tftp.IsValid(), by == schema.HTTP && !o.places.http.IsValid():
		c.refuse(o.boot.At("protocol"), "A protocol is switched off",
			fmt.Sprintf("%s has protocol = %q and is used on a server that has it switched off. Enable it there, or take the line away.", o.boot.Addr, by))
	}
	text := script(o.choices, o.boot.Timeout, o.boot.Fallback)
	if len(text) > maxScript {
		c.refuse(o.boot.At("entries"), "A boot menu is too long",
			fmt.Sprintf("The script of %s would have %d bytes, and %d are allowed. Offer fewer entries, or shorten their arguments.", o.boot.Addr, len(text), maxScript))
	}
	files := []file{textFile(scriptName, provider.AnswerScript, text)}
	for _, p := range ipxePrograms() {
		if b, ok := o.programs[p.name]; ok && p.platform.Boots(o.arch) {
			files = append(files, blobFile(p.name, provider.AnswerLoader, b))
		}
	}
	return files
}

// protocol is how scripts, kernels and initrds are fetched: HTTP is much faster.
func (ipxe) protocol(o *offer) schema.Protocol {
	if o.places.http.IsValid() && o.boot.Protocol != schema.TFTP {
		return schema.HTTP
	}
	return schema.TFTP
}

// ipxeFirmware says which programs the firmware of a platform runs, the best first.
type ipxeFirmware struct {
	platform schema.Platform
	http     bool
	names    []string
}

// firmware lists them. Over HTTP the program with its own drivers comes first:
// firmware's SNP is not always usable after an HTTP boot.
func (ipxe) firmware() []ipxeFirmware {
	return []ipxeFirmware{
		{schema.PlatformX64, true, []string{fullEFI, snponly}},
		{schema.PlatformARM64, true, []string{fullARM64, snponlyARM64}},
		{schema.PlatformBIOS, false, []string{undionly}},
		{schema.PlatformX64, false, []string{snponly, fullEFI}},
		{schema.PlatformARM64, false, []string{snponlyARM64, fullARM64}},
	}
}

func (f ipxe) targets(o *offer) []provider.Target {
	script := provider.Target{
		Arch: provider.AnyArch, Class: classIPXE, File: o.places.url(f.protocol(o), o.tree.path(scriptName)), Comment: "script for iPXE",
	}
	list := []provider.Target{script}
	if o.mixed {
		// Of several such lists the first that fits counts.
		list = nil
		for _, a := range schema.ClientArchs() {
			if a.Platform.Boots(o.arch) {
				script.Arch, script.Comment = a.Number, "script for iPXE on "+a.Name
				list = append(list, script)
			}
		}
	}
	for _, fw := range f.firmware() {
		if fw.http && !o.places.http.IsValid() || !fw.http && !o.places.tftp.IsValid() {
			continue
		}
		for _, name := range fw.names {
			if o.tree.file(name) != nil {
				list = append(list, o.targetsFor(fw.platform, fw.http, name)...)
				break
			}
		}
	}
	return list
}

// targetsFor lists the targets of one boot program: one for each number that
// firmware of the platform says.
func (o *offer) targetsFor(p schema.Platform, http bool, name string) []provider.Target {
	var list []provider.Target
	if !p.Boots(o.arch) {
		return nil
	}
	file := o.tree.path(name)
	if http {
		file = o.places.httpURL() + "/" + file
	}
	for _, a := range schema.ClientArchs() {
		if a.Platform == p {
			list = append(list, provider.Target{Arch: a.Number, HTTP: http, File: file, Comment: name + " for " + a.Name})
		}
	}
	return list
}

func (f ipxe) follow(o *offer, target provider.Target, q provider.Query, at func(choice) schema.Range) []provider.Answer {
	s := o.answer(provider.AnswerScript, o.places.url(f.protocol(o), o.tree.path(scriptName)), o.boot.Range)
	s.Text = o.tree.file(scriptName).text
	// Each has a kernel, and mostly two initrds: that of the image, and its own.
	list := append(slices.Grow(f.lead(o, target, q), 1+3*len(o.choices)), s)
	for _, c := range o.choices {
		kernel := len(list)
		list = append(list, o.kernelAnswers(f.protocol(o), c, q, at)...)
		if schema.ClientArchOf(q.Arch).Platform != schema.PlatformBIOS {
			// In UEFI, iPXE puts the name of the image before its arguments.
			list[kernel].Line = kernelName + " " + list[kernel].Line
		}
	}
	return list
}

// lead gives the script under the machine's own name, where the target is the alias
// that leads to it.
func (f ipxe) lead(o *offer, target provider.Target, q provider.Query) []provider.Answer {
	_, _, name := o.places.locate(target.File)
	_, unknown := q.MAC.Address()
	if _, _, digested := split(name); digested || unknown || q.MAC.IsZero() || strings.HasPrefix(path.Base(name), scriptOwn) {
		return nil
	}
	// An iPXE that is told an iPXE gets the script under that name.
	if path.Base(name) != scriptName && q.Class != classIPXE {
		return nil
	}
	own := o.answer(provider.AnswerScript, o.places.absolute(f.protocol(o), scriptOwn+dashed(q.MAC)), o.boot.Range)
	t := f.alias(o, own.Name)
	own.Size, own.Digest, own.Text = t.size, t.digest, t.text
	return []provider.Answer{own}
}

// kernelAnswers describes kernel and initrds of a choice.
func (o *offer) kernelAnswers(by schema.Protocol, c choice, q provider.Query, at func(choice) schema.Range) []provider.Answer {
	kernel := o.answer(provider.AnswerKernel, o.places.url(by, o.tree.path(c.kernel())), at(c))
	mac := q.MAC
	if _, unknown := mac.Address(); unknown {
		mac = provider.MAC{}
	}
	kernel.Line = o.family.line(o, c, mac)
	list := []provider.Answer{kernel}
	for _, name := range c.initrds {
		due := c.entry.At("image")
		if path.Base(name) == machineName {
			due = c.settled
		}
		list = append(list, o.answer(provider.AnswerInitrd, o.places.url(by, o.tree.path(name)), due))
	}
	return list
}

func (ipxe) line(_ *offer, c choice, mac provider.MAC) string {
	if mac.IsZero() {
		return ipxeLine(c, ipxeMAC)
	}
	return ipxeLine(c, dashed(mac))
}

// ipxeLine adds the names of the initrds: the kernel's EFI stub finds them so.
func ipxeLine(c choice, mac string) string {
	var words []string
	for _, name := range c.initrds {
		words = append(words, "initrd="+path.Base(name))
	}
	return join(append(words, c.words...), mac)
}

// alias serves iPXE's programs and the script to machines that another DHCP server
// sends here. The script leads to the name of the one that asks, and that into the
// tree, as with GRUB.
func (f ipxe) alias(o *offer, name string) *file {
	base := path.Base(name)
	switch {
	case base == scriptName || strings.HasPrefix(base, scriptOwn):
		// By its own name each machine is known, where its address says little.
		next := scriptOwn + ipxeMAC
		if base != scriptName {
			next = o.tree.path(scriptName)
		}
		t := textFile(name, provider.AnswerScript, fmt.Sprintf(`#!ipxe
chain --replace %s ||
echo dlreconcile: there is no script, the machine restarts
sleep 10
reboot
`, o.places.absolute(f.protocol(o), next)))
		return &t
	case strings.HasSuffix(base, ".efi") || strings.HasSuffix(base, ".kpxe"):
		return o.tree.file(base)
	}
	return nil
}

// within: iPXE asks for nothing but what its script names.
func (ipxe) within(*tree, string) *file { return nil }
