package bootloader

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// way is all that an offer depends on: there may be far fewer ways than machines.
type way struct {
	boot, entry, server schema.Addr
	proxied             bool   // see offer.proxied
	args                string // of group and host, separated by zero bytes
	// settled is the host, where its name or its settings reach the machine: then no
	// other boots alike. Zero is every machine that has nothing of the kind.
	settled schema.Addr
}

// compiler makes the table of one generation.
type compiler struct {
	ctx     context.Context
	in      provider.Input
	loaders *loaders
	earlier []*table                 // whose trees are shared
	host    map[schema.Addr]programs // what this host's packages have, by bootloader; recorded
	err     error                    // the first that is not the configuration's fault

	equipped map[equipment]equipped

	t       *table
	servers map[schema.Addr]*schema.Server
	entries map[schema.Addr]*schema.Entry
	settles bool // some image reads generated initrds
	mixed   bool // there are images for machines of different kinds
	boots   map[schema.Addr]*schema.Bootloader
	offers  map[way]*offer // nil: refused, and said so
	diags   hcl.Diagnostics
	refused map[mistake]bool // those in diags

	unsigned map[unsignedKernel]map[string]bool // and the machines that it concerns
}

// compile makes the table that serves in.Want. Its blobs are not open yet.
func compile(ctx context.Context, in provider.Input, l *loaders, earlier []*table) (*table, error) {
	c := &compiler{
		ctx: ctx, in: in, loaders: l, earlier: earlier, t: newTable(in), host: map[schema.Addr]programs{}, refused: map[mistake]bool{},
		servers: map[schema.Addr]*schema.Server{}, entries: map[schema.Addr]*schema.Entry{},
		boots: map[schema.Addr]*schema.Bootloader{}, offers: map[way]*offer{}, equipped: map[equipment]equipped{},
		unsigned: map[unsignedKernel]map[string]bool{},
	}
	for _, s := range in.Want.Servers {
		c.servers[s.Addr] = s
	}
	archs := map[string]bool{}
	for _, e := range in.Want.Entries {
		c.entries[e.Addr] = former(e, earlier, func(d *schema.Desired) []*schema.Entry { return d.Entries }, func(e *schema.Entry) schema.Addr { return e.Addr })
		if image := in.Built[e.Image].Artifact; image != nil {
			c.settles = c.settles || image.Settles
			archs[archOf(image)] = true
		}
	}
	c.mixed = len(archs) > 1
	for _, b := range in.Want.Bootloaders {
		f := familyOf(b)
		if f == nil {
			continue
		}
		found, err := c.found(b, f)
		if err != nil {
			return nil, err
		}
		b = former(b, earlier, func(d *schema.Desired) []*schema.Bootloader { return d.Bootloaders }, func(b *schema.Bootloader) schema.Addr { return b.Addr })
		c.boots[b.Addr], c.host[b.Addr] = b, found
		c.t.outputs[b.Addr] = provider.Output{Trees: map[provider.TreeKey]*provider.Tree{}, Blobs: found}
	}
	for _, s := range in.Want.Subnets {
		if err := c.machine(nil, s); err != nil {
			return nil, err
		}
	}
	for _, h := range in.Want.Hosts {
		for _, s := range in.Want.Subnets {
			if !h.Subnet.IsZero() && h.Subnet != s.Addr {
				continue
			}
			if err := c.machine(h, s); err != nil {
				return nil, err
			}
		}
	}
	c.refuseUnsigned()
	if c.diags.HasErrors() {
		return nil, c.diags
	}
	return c.t, nil
}

// machine enters what a host gets on a subnet, or, when h is nil, every machine
// there without a host block.
func (c *compiler) machine(h *schema.Host, s *schema.Subnet) error {
	key := provider.TreeKey{Subnet: s.Addr}
	if h != nil {
		key.Host = h.Addr
	}
	settled := c.in.Want.WayOf(h, s)
	for _, loader := range settled.Boot {
		boot := c.boots[loader]
		if boot == nil {
			continue // a bootloader of another provider
		}
		w := way{boot: loader, server: s.Server, proxied: s.Mode == schema.ModeProxy, entry: settled.Entry, args: strings.Join(settled.Args, "\x00")}
		if h != nil && (c.settles || says(settled.Settings(&schema.Entry{}))) {
			w.settled = h.Addr
		}
		o, known := c.offers[w]
		if !known {
			var err error
			if o, err = c.offer(w, boot, settled); err != nil {
				return err
			}
			o = c.formerly(key, o)
			c.offers[w] = o
		}
		if o != nil {
			c.t.offers[key] = append(c.t.offers[key], o)
			c.t.outputs[loader].Trees[key] = o.out
			c.meetUnsigned(o, h, s)
		}
	}
	return nil
}

// offer compiles one way to boot. It gives nil when the configuration does not
// allow it; c.diags says why. settled is of the first machine that boots so.
func (c *compiler) offer(w way, boot *schema.Bootloader, settled schema.Way) (*offer, error) {
	h := settled.Host
	server := c.servers[w.server]
	if server == nil {
		return nil, fmt.Errorf("%s: there is no server %q", boot.Addr, w.server)
	}
	o := &offer{boot: boot, family: familyOf(boot), places: placesOf(server), proxied: w.proxied, mixed: c.mixed}
	before := len(c.diags)
	if !o.places.tftp.IsValid() && !o.places.http.IsValid() {
		c.refuse(boot.Range, "Nothing can be fetched from the bootloader's server",
			fmt.Sprintf("%s is used on a subnet of %s, which has both TFTP and HTTP switched off. Enable one of them there.", boot.Addr, server.Addr))
		return nil, nil
	}
	if h != nil {
		c.checkArgs(o.family, h.Addr, h.At("args"), h.Args)
	}
	if g := settled.Group; g != nil {
		c.checkArgs(o.family, g.Addr, g.At("args"), g.Args)
	}
	entries, err := c.choose(w, boot)
	if err != nil || entries == nil {
		return nil, err
	}
	var files []file
	for _, e := range entries {
		ch := choice{entry: e, dir: dirOf(e.Addr)}
		c.checkArgs(o.family, e.Addr, e.At("args"), e.Args)
		rootfs, artifact, err := c.built(e)
		if err != nil {
			return nil, err
		}
		opts := c.rootOptions(e, settled, rootfs)
		ch.words = kernelWords(e, rootfs, opts, o.places.httpURL(), settled.Args)
		ch.initrds = []string{ch.dir + "/" + initrdName}
		machine, due := c.machineImage(ch, settled, artifact)
		if machine != nil {
			ch.initrds, ch.settled = append(ch.initrds, machine.name), due
			files = append(files, *machine)
		}
		c.checkLine(o, ch, settled, kernelWords(e, rootfs, opts, o.places.httpURL(), nil))
		c.checkArch(o, e, artifact)
		if o.choices = append(o.choices, ch); len(o.choices) == 1 {
			o.arch = archOf(artifact)
			c.equip(o, artifact)
		}
		files = append(files,
			blobFile(ch.dir+"/"+kernelName, provider.AnswerKernel, artifact.Kernel),
			blobFile(ch.dir+"/"+initrdName, provider.AnswerInitrd, artifact.Initrd))
		if len(o.choices) == 1 && rootfs != nil {
			o.out = &provider.Tree{Export: rootfs.Name}
		}
	}
	files = append(files, o.family.files(c, o)...)
	if c.err != nil || len(c.diags) > before {
		return nil, c.err
	}
	o.tree = newTree(files)
	o.tree.family = o.family
	o.tree = c.share(o.tree)
	if o.out == nil {
		o.out = &provider.Tree{}
	}
	o.out.ID, o.out.Entry, o.out.Targets = o.tree.id, entries[0].Addr, o.family.targets(o)
	return o, nil
}

// choose lists the entries that a machine may boot, the default first. Where no
// menu asks, that is the only one.
func (c *compiler) choose(w way, boot *schema.Bootloader) ([]*schema.Entry, error) {
	addrs := boot.Entries
	if !w.entry.IsZero() {
		addrs = []schema.Addr{w.entry}
		for _, a := range boot.Entries {
			if a != w.entry {
				addrs = append(addrs, a)
			}
		}
	}
	if len(addrs) == 0 {
		c.refuse(boot.Range, "A bootloader has nothing to boot", fmt.Sprintf("%s lists no entries. Add entries = [entry.…].", boot.Addr))
		return nil, nil
	}
	if boot.Timeout == 0 {
		addrs = addrs[:1]
	}
	var list []*schema.Entry
	for _, a := range addrs {
		e := c.entries[a]
		if e == nil {
			return nil, fmt.Errorf("%s: there is no %s", boot.Addr, a)
		}
		list = append(list, e)
	}
	return list, nil
}

// built gives what an entry's root and image were made to. The root is nil when
// the entry names none.
func (c *compiler) built(e *schema.Entry) (*provider.Export, *provider.Artifact, error) {
	artifact := c.in.Built[e.Image].Artifact
	if artifact == nil {
		return nil, nil, fmt.Errorf("%s: nothing was built for %s", e.Addr, e.Image)
	}
	if e.Root.IsZero() {
		return nil, artifact, nil
	}
	rootfs := c.in.Built[e.Root].Export
	if rootfs == nil {
		return nil, nil, fmt.Errorf("%s: %s is not served", e.Addr, e.Root)
	}
	if rootfs.Artifact.Root.Digest != artifact.Root.Digest && rootfs.Artifact.KernelVersion != artifact.KernelVersion {
		c.refuse(e.At("root"), "Kernel and root do not fit together",
			fmt.Sprintf("%s boots the kernel %s of %s, but the root that %s serves has the modules of %s. Name the export of the same image.",
				e.Addr, artifact.KernelVersion, e.Image, e.Root, rootfs.Artifact.KernelVersion))
	}
	return rootfs, artifact, nil
}

// archOf is the Debian architecture of an image.
func archOf(image *provider.Artifact) string { return cmp.Or(image.Arch, "amd64") }

// checkArch refuses a menu of kernels for machines of different kinds: what loads the
// menu runs on one of them.
func (c *compiler) checkArch(o *offer, e *schema.Entry, image *provider.Artifact) {
	if len(o.choices) == 0 {
		return
	}
	for _, p := range schema.LoaderPlatforms(schema.GRUB) { // all there are
		if p.Boots(o.arch) && p.Boots(archOf(image)) {
			return
		}
	}
	c.refuse(o.boot.At("entries"), "A menu for different machines",
		fmt.Sprintf("%s offers %s, whose image is for %s, beside %s, whose image is for %s, and no machine boots both. Use a bootloader for each.", o.boot.Addr, e.Addr, archOf(image), o.choices[0].entry.Addr, o.arch))
}

// share gives the same tree of an earlier generation, or of this one, if there is
// one.
func (c *compiler) share(t *tree) *tree {
	if have := c.t.trees[t.id]; have != nil {
		return have
	}
	for _, e := range c.earlier {
		if have := e.trees[t.id]; have != nil {
			t = have
			break
		}
	}
	c.t.trees[t.id] = t
	return t
}

var plainName = regexp.MustCompile(`^[0-9a-z-]{1,63}(\.[0-9A-Za-z_-]{1,40}){1,4}$`)

// dirOf names the folder of an entry's files.
func dirOf(a schema.Addr) string {
	name := a.Wire()
	if a.Key == "" && a.Module == "" || plainName.MatchString(name) {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return a.Name + ".." + hex.EncodeToString(sum[:8]) // ".." cannot be of a plain name
}
