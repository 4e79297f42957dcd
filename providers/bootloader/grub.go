package bootloader

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// grub is the family of GRUB: firmware loads a core image that holds all modules it
// needs, takes the folder that it came from as its prefix, and asks there for its
// configuration by the name of the machine. With Secure Boot, UEFI firmware loads the
// distribution's shim instead, and that the distribution's GRUB, whose prefix is
// "/grub" wherever it came from.
type grub struct{}

// grubConfig is the configuration in a tree.
const grubConfig = "grub.cfg"

// grubOwn begins the name under which GRUB first asks for the configuration of one
// machine: the hardware address with dashes follows.
const grubOwn = grubConfig + "-01-"

// grubGiveUp ends a configuration from which nothing leads on.
const grubGiveUp = "echo 'dlreconcile: there is no configuration, the machine restarts'\nsleep 10\nreboot\n"

// grubHome is the prefix of the signed GRUB.
const grubHome = "grub/"

// grubPlatform is what there is to know of a platform.
type grubPlatform struct {
	platform schema.Platform
	format   string   // grub-mkimage --format
	core     string   // name of the core image
	pkg      string   // Debian's package with the modules
	network  []string // modules that reach firmware's network and screen
	rare     bool     // of few machines: nobody misses it who has none
}

// grubPlatforms lists those that core images are made for. Without the modules of
// UEFI's screens, Linux would have none before it has a driver for it.
func grubPlatforms() []grubPlatform {
	efi := []string{"efinet", "efi_gop"}
	return []grubPlatform{
		{schema.PlatformBIOS, "i386-pc-pxe", "core.0", "grub-pc-bin", []string{"pxe"}, false},
		{schema.PlatformX64, "x86_64-efi", "core.efi", "grub-efi-amd64-bin", append(efi, "efi_uga"), false},
		{schema.PlatformIA32, "i386-efi", "core-i386-efi.efi", "grub-efi-ia32-bin", append(efi, "efi_uga"), true},
		{schema.PlatformARM64, "arm64-efi", "core-arm64-efi.efi", "grub-efi-arm64-bin", efi, false},
		{schema.PlatformARM, "arm-efi", "core-arm-efi.efi", "grub-efi-arm-bin", efi, false},
	}
}

// signed reports whether machines of a platform get the distribution's signed
// programs.
func (grub) signed(b *schema.Bootloader, p schema.Platform) bool {
	return b.SecureBoot && p == schema.PlatformX64
}

// wants looks where Debian and Ubuntu, Fedora, and Arch Linux put them. The modules of
// a platform are one tar.
func (g grub) wants(b *schema.Bootloader) []wanted {
	var list []wanted
	for _, p := range grubPlatforms() {
		if g.signed(b, p.platform) {
			list = append(list,
				wanted{name: provider.LoaderShim, image: provider.LoaderShim, platform: p.platform, pkg: "shim-signed",
					paths: []string{"/usr/lib/shim/shimx64.efi.signed"}},
				wanted{name: provider.LoaderSignedGRUB, image: provider.LoaderSignedGRUB, platform: p.platform, pkg: "grub-efi-amd64-signed",
					paths: []string{"/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"}})
			continue
		}
		modules := provider.LoaderGRUBPrefix + string(p.platform)
		list = append(list, wanted{name: modules, image: modules, platform: p.platform, pkg: p.pkg,
			paths: []string{"/usr/lib/grub/" + string(p.platform)}, folder: true, rare: p.rare})
	}
	return list
}

func (g grub) files(c *compiler, o *offer) []file {
	switch by := o.boot.Protocol; {
	case by == schema.TFTP && !o.places.tftp.IsValid(), by == schema.HTTP && !o.places.http.IsValid():
		c.refuse(o.boot.At("protocol"), "A protocol is switched off",
			fmt.Sprintf("%s has protocol = %q and is used on a server that has it switched off. Enable it there, or take the line away.", o.boot.Addr, by))
		return nil
	case o.boot.SecureBoot && !o.places.tftp.IsValid():
		c.refuse(o.boot.At("secure_boot"), "Secure Boot needs TFTP",
			fmt.Sprintf("%s is used on a server that has TFTP switched off. The signed GRUB finds its configuration by nothing else. Enable it there.", o.boot.Addr))
		return nil
	}
	text := g.config(o)
	if len(text) > maxScript {
		c.refuse(o.boot.At("entries"), "A boot menu is too long",
			fmt.Sprintf("The configuration of %s would have %d bytes, and %d are allowed. Offer fewer entries, or shorten their arguments.", o.boot.Addr, len(text), maxScript))
	}
	files := []file{textFile(grubConfig, provider.AnswerScript, text)}
	for _, p := range grubPlatforms() {
		if !p.platform.Boots(o.arch) {
			continue
		}
		if g.signed(o.boot, p.platform) {
			shim, has := o.programs[provider.LoaderShim]
			next, hasNext := o.programs[provider.LoaderSignedGRUB]
			if has && hasNext {
				files = append(files,
					blobFile(provider.LoaderShim, provider.AnswerLoader, shim),
					blobFile(provider.LoaderSignedGRUB, provider.AnswerLoader, next))
			}
			o.unsigned = c.unsignedImages(o)
			continue
		}
		modules, ok := o.programs[provider.LoaderGRUBPrefix+string(p.platform)]
		if !ok {
			continue
		}
		prefix := g.prefix(o)
		core, ok := c.made(o, p.core+prefix, modules, func(ctx context.Context, from *os.File) ([]byte, error) {
			return grubCore(ctx, c.loaders.content.Scratch, p, prefix, from)
		})
		if !ok {
			return nil
		}
		files = append(files, blobFile(p.core, provider.AnswerLoader, core))
	}
	return files
}

// targets: the signed programs are told by TFTP only. Over HTTP shim asks for
// "//grubx64.efi", and the GRUB that it starts then finds no configuration.
func (g grub) targets(o *offer) []provider.Target {
	var list []provider.Target
	for _, p := range grubPlatforms() {
		program := p.core
		if g.signed(o.boot, p.platform) {
			program = provider.LoaderShim
		}
		if o.tree.file(program) == nil {
			continue
		}
		if o.places.tftp.IsValid() {
			list = append(list, o.targetsFor(p.platform, false, program)...)
		}
		if o.places.http.IsValid() && program == p.core && p.platform != schema.PlatformBIOS {
			list = append(list, o.targetsFor(p.platform, true, program)...)
		}
	}
	return list
}

// prefix is what is built into a core image: nothing, as a rule, and GRUB takes the
// folder and the server that it came from. Beside a DHCP server that is not ours it
// would take those of that server's acknowledgement: seen with GRUB 2.06, in BIOS and
// UEFI. There it begins at an alias of ours.
func (g grub) prefix(o *offer) string {
	if !o.proxied {
		return ""
	}
	return g.device(o) + "/" + strings.TrimSuffix(grubHome, "/")
}

// alias serves GRUB to machines that another DHCP server sends here, by the names
// that grub-mknetdir and Debian's packages have, in any folder.
func (g grub) alias(o *offer, name string) *file {
	folder, base := path.Split(name)
	if base == grubConfig || strings.HasPrefix(base, grubConfig+"-") {
		t := textFile(name, provider.AnswerScript, g.lead(o, base))
		return &t
	}
	if base == provider.LoaderShim || base == provider.LoaderSignedGRUB {
		return o.tree.file(base)
	}
	for _, p := range grubPlatforms() {
		if base == "core.efi" && path.Base(folder) == string(p.platform) {
			return o.tree.file(p.core)
		}
	}
	for _, p := range grubPlatforms() {
		if base == p.core {
			return o.tree.file(base)
		}
	}
	return nil
}

// lead writes a configuration that leads into the tree. What is asked for by no name
// of a machine leads to the name of the one that asks: where another DHCP server gives
// out addresses, that alone says who it is. Who has none goes by its address.
func (g grub) lead(o *offer, base string) string {
	var b strings.Builder
	if base == grubConfig {
		device := g.device(o)
		fmt.Fprintf(&b, "if %s; then\n  configfile \"%s/%s%s\"\nfi\n", grubDashes, device, grubHome+grubOwn, grubDashed)
		fmt.Fprintf(&b, "configfile %s/%s%s\n", device, grubHome+grubConfig, "-address")
	} else {
		tree := strings.TrimSuffix(o.tree.path(""), "/")
		fmt.Fprintf(&b, "set %[1]s=%[2]s\nexport %[1]s\nconfigfile %[3]s/%[2]s/%[4]s\n", grubFolder, tree, g.device(o), grubConfig)
	}
	return b.String() + grubGiveUp
}

// within gives the configuration under the names of machines.
func (grub) within(t *tree, name string) *file {
	if strings.HasPrefix(name, grubConfig+"-") {
		return t.file(grubConfig)
	}
	return nil
}
