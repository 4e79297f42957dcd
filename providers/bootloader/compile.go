package bootloader

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// offer is what machines get that boot the same way from the same server.
type offer struct {
	boot    *schema.Bootloader
	places  places
	choices []choice // what nobody chose first
	tree    *tree
	out     *provider.Tree
}

// way is all that an offer depends on: there are far fewer ways than machines.
type way struct {
	boot, entry, server schema.Addr
	args                string // of the host, separated by zero bytes
}

// compiler makes the table of one generation.
type compiler struct {
	in       provider.Input
	programs programs
	earlier  []*table // whose trees are shared

	t       *table
	servers map[schema.Addr]*schema.Server
	entries map[schema.Addr]*schema.Entry
	boots   map[schema.Addr]*schema.Bootloader
	offers  map[way]*offer // nil: refused, and said so
	diags   hcl.Diagnostics
}

// compile makes the table that serves in.Want. Its blobs are not open yet.
func compile(in provider.Input, found programs, earlier []*table) (*table, error) {
	c := &compiler{
		in: in, programs: found, earlier: earlier, t: newTable(in),
		servers: map[schema.Addr]*schema.Server{}, entries: map[schema.Addr]*schema.Entry{},
		boots: map[schema.Addr]*schema.Bootloader{}, offers: map[way]*offer{},
	}
	for _, s := range in.Want.Servers {
		c.servers[s.Addr] = s
	}
	for _, e := range in.Want.Entries {
		c.entries[e.Addr] = e
	}
	for _, b := range in.Want.Bootloaders {
		if b.Addr.Type != "ipxe" {
			continue
		}
		c.boots[b.Addr] = b
		c.t.outputs[b.Addr] = provider.Output{Trees: map[provider.TreeKey]*provider.Tree{}}
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
	if c.diags.HasErrors() {
		return nil, c.diags
	}
	return c.t, nil
}

// machine enters what a host gets on a subnet, or, when h is nil, every machine
// there without a host block.
func (c *compiler) machine(h *schema.Host, s *schema.Subnet) error {
	w := way{boot: s.Boot, server: s.Server}
	key := provider.TreeKey{Subnet: s.Addr}
	var args []string
	if h != nil {
		key.Host, w.entry, args = h.Addr, h.Entry, h.Args
		w.args = strings.Join(h.Args, "\x00")
		if !h.Boot.IsZero() {
			w.boot = h.Boot
		}
	}
	boot := c.boots[w.boot]
	if boot == nil {
		return nil // addresses only, or a bootloader of another provider
	}
	o, known := c.offers[w]
	if !known {
		var err error
		if o, err = c.offer(w, boot, h, args); err != nil {
			return err
		}
		c.offers[w] = o
	}
	if o != nil {
		c.t.offers[key] = o
		c.t.outputs[w.boot].Trees[key] = o.out
	}
	return nil
}

// offer compiles one way to boot. It gives nil when the configuration does not
// allow it; c.diags says why. h is the first machine that boots so, or nil.
func (c *compiler) offer(w way, boot *schema.Bootloader, h *schema.Host, args []string) (*offer, error) {
	server := c.servers[w.server]
	if server == nil {
		return nil, fmt.Errorf("%s: there is no server %q", boot.Addr, w.server)
	}
	o := &offer{boot: boot, places: placesOf(server)}
	before := len(c.diags)
	if !o.places.tftp.IsValid() && !o.places.http.IsValid() {
		c.refuse(boot.Range, "Nothing can be fetched from the bootloader's server",
			fmt.Sprintf("%s is used on a subnet of %s, which has both TFTP and HTTP switched off. Enable one of them there.", boot.Addr, server.Addr))
		return nil, nil
	}
	if h != nil {
		c.checkArgs(h.Addr, h.At("args"), args)
	}
	entries, err := c.choose(w, boot)
	if err != nil || entries == nil {
		return nil, err
	}
	var files []file
	for _, e := range entries {
		ch := choice{entry: e, dir: dirOf(e.Addr)}
		c.checkArgs(e.Addr, e.At("args"), e.Args)
		rootfs, artifact, err := c.built(e)
		if err != nil {
			return nil, err
		}
		ch.line = kernelLine(e, rootfs, o.places.httpURL(), args)
		if n := len(expand(ch.line, provider.MAC{})); n > maxLine {
			who := h
			if without := kernelLine(e, rootfs, o.places.httpURL(), nil); len(expand(without, provider.MAC{})) > maxLine {
				who = nil // whatever the host adds
			}
			c.lineTooLong(n, e, who)
		}
		if n := unknownWords(ch.line); n > maxUnknown {
			who := h
			if without := kernelLine(e, rootfs, o.places.httpURL(), nil); unknownWords(without) > maxUnknown {
				who = nil
			}
			c.tooManyWords(n, e, who)
		}
		o.choices = append(o.choices, ch)
		files = append(files,
			blobFile(ch.dir+"/"+kernelName, provider.AnswerKernel, artifact.Kernel),
			blobFile(ch.dir+"/"+initrdName, provider.AnswerInitrd, artifact.Initrd))
		if len(o.choices) == 1 && rootfs != nil {
			o.out = &provider.Tree{Export: rootfs.Name}
		}
	}
	text := script(o.choices, boot.Timeout)
	if len(text) > maxScript {
		c.refuse(boot.At("entries"), "A boot menu is too long",
			fmt.Sprintf("The script of %s would have %d bytes, and %d are allowed. Offer fewer entries, or shorten their arguments.", boot.Addr, len(text), maxScript))
	}
	if len(c.diags) > before {
		return nil, nil
	}
	files = append(files, textFile(scriptName, provider.AnswerScript, text))
	for name, b := range c.programs {
		files = append(files, blobFile(name, provider.AnswerLoader, b))
	}
	o.tree = c.share(newTree(files))
	if o.out == nil {
		o.out = &provider.Tree{}
	}
	o.out.ID, o.out.Entry, o.out.Targets = o.tree.id, entries[0].Addr, o.places.targets(o.tree)
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

var plainKey = regexp.MustCompile(`^[0-9A-Za-z_-]{1,40}$`)

// dirOf names the folder of an entry's files.
func dirOf(a schema.Addr) string {
	switch {
	case a.Key == "":
		return a.Name
	case plainKey.MatchString(a.Key):
		return a.Name + "." + a.Key
	}
	sum := sha256.Sum256([]byte(a.Key))
	return a.Name + ".." + hex.EncodeToString(sum[:8]) // ".." cannot be of a plain key
}
