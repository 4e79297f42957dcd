package bootloader

import (
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// offer is what one bootloader block has for machines that boot the same way from
// the same server. It is filled by the compiler, field after field, and not changed
// afterwards.
type offer struct {
	boot     *schema.Bootloader
	family   family
	places   places
	proxied  bool          // another server gives these machines their addresses, and ours only the boot file
	programs programs      // of the image's packages, or else the host's; by wanted.name
	lacks    []wanted      // that neither has
	unsigned []schema.Addr // images whose kernels firmware with Secure Boot refuses, where the bootloader is for such
	arch     string        // Debian architecture of the kernels
	mixed    bool          // other offers are for other architectures
	choices  []choice      // what nobody chose first
	tree     *tree         // nil until the family has given its files
	out      *provider.Tree
}

// choice is one entry that a machine may boot.
type choice struct {
	entry *schema.Entry
	dir   string // of its files, in the tree
	// words are those of the kernel line that every loader writes alike, with macWord
	// among them; initrd= is the loader's.
	words   []string
	initrds []string // files of the tree, in the order in which the kernel unpacks them
	// settled is what the generated initrd among them is due to; zero without one.
	settled schema.Range
}

// kernel names the kernel's file in the tree.
func (c choice) kernel() string { return c.dir + "/" + kernelName }

// family is what one type of boot loader is like. Its values hold no state: all that
// they know is in the offer.
type family interface {
	// wants lists what the loader needs of programs that packages bring: of the
	// image's packages, or else of this host's. What is found is in o.programs under
	// wanted.name when files is called; what is not there is said to people, and
	// targets leaves it out.
	wants(b *schema.Bootloader) []wanted
	// files gives what the loader needs in the tree besides kernels and initrds:
	// its programs and its configuration. What the loader cannot do, it refuses by
	// c.refuse, and what fails on this machine it tells c.fail. A program that is made
	// of another one comes from c.made. o.tree is not there yet.
	files(c *compiler, o *offer) []file
	// targets says which client is told which file, the best first.
	targets(o *offer) []provider.Target
	// follow gives, after the file of a target was loaded by the machine in q, what
	// is fetched next: configuration, kernel and initrds of what nobody chose, then
	// those of the other choices. at gives the range that a choice is due to. The file
	// of a target may be an alias that another DHCP server named, without option 209
	// or 210: of a program, which then asks for aliases beside itself, or of a
	// configuration, whose own answer comes before what follow gives.
	follow(o *offer, target provider.Target, q provider.Query, at func(choice) schema.Range) []provider.Answer
	// line is the kernel line of a choice as the kernel sees it, for the machine with
	// that address; the zero MAC leaves the loader's variable in it.
	line(o *offer, c choice, mac provider.MAC) string
	// alias gives the file that an undigested name means, without leading slash; nil
	// when it means none. From the file on, what is fetched is digested: a
	// configuration leads into the tree.
	alias(o *offer, name string) *file
	// within gives the file of a tree of this family that is meant by a name that no
	// file of the tree has: "grub.cfg-01-<mac>" is "grub.cfg", which saves the names
	// that a loader would try next. nil when it means none. name is relative to the
	// tree. It must be cheap: anybody may ask for anything.
	within(t *tree, name string) *file
}

// wanted is a boot program, or what one is made of, that packages bring.
type wanted struct {
	name  string   // in offer.programs
	image string   // in Artifact.Loaders, see provider.LoaderShim and so on; "": images do not bring it
	paths []string // on this host, the first that is there counts; relative: to each of Config.LoaderDirs
	// folder says that paths are of folders: what is found is a tar of the regular
	// files, sorted, names without folder, without time and owner.
	folder bool
	// platform is the one that it is for, if it is for one: where that cannot run the
	// kernels, nobody misses it.
	platform schema.Platform
	pkg      string // Debian's package, for people
	rare     bool   // of few machines: it is told only where one of them asks
}

// familyOf gives the family of a bootloader; nil when this provider has none.
func familyOf(b *schema.Bootloader) family {
	switch b.Addr.Type {
	case schema.IPXE:
		return ipxe{}
	case schema.GRUB:
		return grub{}
	case schema.PXELINUX:
		return pxelinux{}
	}
	return nil
}
