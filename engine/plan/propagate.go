package plan

import (
	"encoding/json"
	"iter"
	"slices"

	"github.com/dlreconcile/dlreconcile/schema"
)

// propagate lists what changes because something that it refers to does, in the
// order in which one follows from the other.
func (c *comparison) propagate() {
	for a := range c.both(kindExport) {
		was, is := c.have.exports[a], c.want.exports[a]
		var in []schema.Addr
		if was.Image == is.Image && c.served[is.Image] {
			in = append(in, is.Image)
		}
		if c.serverDelta(is.Server).of(is) {
			in = append(in, is.Server)
		}
		c.follow(a, in)
		c.replace(a)
	}
	for a := range c.both(kindEntry) {
		is := c.want.entries[a]
		c.follow(a, c.thoseServedOther(is.Image, is.Root))
	}
	for a := range c.both(kindBootloader) {
		is := c.want.bootloaders[a]
		in := c.thoseServedOther(is.Entries...)
		for _, s := range c.want.serversOf[a] {
			if d := c.serverDelta(s); d.told || d.http || d.tftp {
				in = append(in, s)
			}
		}
		c.follow(a, in)
	}
	for a := range c.both(kindGroup) {
		is := c.want.groups[a]
		c.beside(a, c.thoseServedOther(append(slices.Clone(is.Boot), is.Entry)...))
	}
	for a := range c.both(kindHost) {
		is := c.want.hosts[a]
		in := c.thoseServedOther(append(slices.Clone(is.Boot), is.Entry)...)
		if ch := c.changes[is.Group]; ch != nil && ch.Action == Update {
			in = append(in, is.Group)
		}
		c.beside(a, in)
	}
	for a := range c.both(kindSubnet) {
		is := c.want.subnets[a]
		if d := c.serverDelta(is.Server); d.told || d.dhcp {
			c.follow(a, []schema.Addr{is.Server})
		}
	}
}

// both gives the addresses of a kind that are there before and after.
func (c *comparison) both(kind string) iter.Seq[schema.Addr] {
	return func(yield func(schema.Addr) bool) {
		for _, a := range c.order {
			if a.Kind == kind && c.want.resources[a] != nil && c.have.resources[a] != nil && c.typed(a) && !yield(a) {
				return
			}
		}
	}
}

// typed reports whether both sides hold a more than as attributes.
func (c *comparison) typed(a schema.Addr) bool { return c.want.has(a) && c.have.has(a) }

func (c *comparison) thoseServedOther(list ...schema.Addr) []schema.Addr {
	var in []schema.Addr
	for _, a := range list {
		if c.served[a] {
			in = append(in, a)
		}
	}
	return in
}

// follow notes that what is served for a differs because of inputs.
func (c *comparison) follow(a schema.Addr, inputs []schema.Addr) {
	if len(inputs) == 0 {
		return
	}
	slices.SortFunc(inputs, schema.Addr.Compare)
	inputs = slices.Compact(inputs)
	c.served[a] = true
	if ch := c.changes[a]; ch != nil {
		ch.Inputs = inputs
		if ch.Action == NoOp { // moved, and more than that
			ch.Action = Update
		}
		return
	}
	ch := &Change{
		Address: a, Action: Update, Reason: InputChanged, Inputs: inputs, Range: c.want.resources[a].Range,
		Before: map[string]json.RawMessage{}, After: map[string]json.RawMessage{},
		AfterUnknown: []string{}, Impact: []Impact{},
	}
	c.pseudo(ch)
	c.changes[a] = ch
}

// beside lists the inputs of a resource that changes for a reason of its own. It makes
// no change of one that does not.
func (c *comparison) beside(a schema.Addr, inputs []schema.Addr) {
	ch := c.changes[a]
	if ch == nil || ch.Action == NoOp || len(inputs) == 0 {
		return
	}
	slices.SortFunc(inputs, schema.Addr.Compare)
	ch.Inputs = slices.Compact(inputs)
}

// serverDelta says which parts of a server differ.
type serverDelta struct {
	told                       bool // the address that clients are told, or the interface
	dhcp, tftp, http, nbd, nfs bool // the listener
}

// of reports whether machines find an export elsewhere.
func (d serverDelta) of(ex *schema.Export) bool {
	return d.told || d.nbd && ex.Addr.Type == schema.NBD || d.nfs && ex.Addr.Type == schema.NFS
}

func (c *comparison) serverDelta(a schema.Addr) serverDelta {
	was, is := c.have.servers[a], c.want.servers[a]
	if was == nil || is == nil {
		return serverDelta{}
	}
	return serverDelta{
		told: was.Address != is.Address || was.Interface != is.Interface,
		dhcp: was.DHCP != is.DHCP,
		tftp: was.TFTP != is.TFTP,
		http: was.HTTP != is.HTTP,
		nbd:  was.NBD != is.NBD,
		nfs:  was.NFS != is.NFS,
	}
}
