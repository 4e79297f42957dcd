package plan

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/dlreconcile/dlreconcile/schema"
)

// moves gives, by their old addresses, the new ones of resources that are applied and
// that moved blocks of what is wanted give another: those that are not wanted under
// the old address any more and not applied under the new one. A move from a block
// without a key to one without takes all instances along, each with its key. A move
// to another kind or type of block is none, nor is one in two steps: schema refuses
// both.
func moves(have, want *schema.Desired) map[schema.Addr]schema.Addr {
	if have == nil || want == nil || len(want.Moved) == 0 {
		return nil
	}
	exact, whole := map[schema.Addr]schema.Addr{}, map[schema.Addr]schema.Addr{}
	for _, m := range want.Moved {
		exact[m.From] = m.To
		if m.From.Key == "" && m.To.Key == "" {
			whole[m.From] = m.To
		}
	}
	next := func(a schema.Addr) (to schema.Addr, ok bool) {
		if to, ok = exact[a]; ok {
			return to, true
		}
		if to, ok = whole[block(a)]; ok {
			to.Key = a.Key
		}
		return to, ok
	}
	wanted, applied := addresses(want), addresses(have)
	taken := map[schema.Addr]bool{}
	to := map[schema.Addr]schema.Addr{}
	for _, from := range slices.SortedFunc(maps.Keys(applied), schema.Addr.Compare) {
		if wanted[from] {
			continue
		}
		a, found := next(from)
		if found && wanted[a] && !applied[a] && !taken[a] && a.Kind == from.Kind && a.Type == from.Type {
			to[from], taken[a] = a, true
		}
	}
	return to
}

// block is the address of a block, whose instances have keys.
func block(a schema.Addr) schema.Addr {
	a.Key = ""
	return a
}

func addresses(d *schema.Desired) map[schema.Addr]bool {
	set := make(map[schema.Addr]bool, len(d.Resources))
	for _, r := range d.Resources {
		set[r.Addr] = true
	}
	return set
}

// renaming gives new addresses by old ones.
type renaming map[schema.Addr]schema.Addr

func (r renaming) addr(a schema.Addr) schema.Addr {
	if to, ok := r[a]; ok {
		return to
	}
	return a
}

func (r renaming) addrs(list []schema.Addr) []schema.Addr {
	if !slices.ContainsFunc(list, func(a schema.Addr) bool { _, ok := r[a]; return ok }) {
		return list
	}
	out := make([]schema.Addr, len(list))
	for i, a := range list {
		out[i] = r.addr(a)
	}
	return out
}

// desired gives d with the new addresses, also where one resource names another, so
// that what refers to a moved one is as it was. d itself is left alone.
func (r renaming) desired(d *schema.Desired) *schema.Desired {
	if len(r) == 0 {
		return d
	}
	out := *d
	out.Servers = renamed(d.Servers, func(s *schema.Server) *schema.Meta { return &s.Meta }, r, nil)
	out.Images = renamed(d.Images, func(im *schema.Image) *schema.Meta { return &im.Meta }, r, nil)
	out.Exports = renamed(d.Exports, func(e *schema.Export) *schema.Meta { return &e.Meta }, r, func(e *schema.Export) {
		e.Server, e.Image, e.Allow = r.addr(e.Server), r.addr(e.Image), r.addrs(e.Allow)
	})
	out.Entries = renamed(d.Entries, func(e *schema.Entry) *schema.Meta { return &e.Meta }, r, func(e *schema.Entry) {
		e.Image, e.Root = r.addr(e.Image), r.addr(e.Root)
	})
	out.Bootloaders = renamed(d.Bootloaders, func(b *schema.Bootloader) *schema.Meta { return &b.Meta }, r, func(b *schema.Bootloader) {
		b.Entries = r.addrs(b.Entries)
	})
	out.Subnets = renamed(d.Subnets, func(s *schema.Subnet) *schema.Meta { return &s.Meta }, r, func(s *schema.Subnet) {
		s.Server, s.Boot = r.addr(s.Server), r.addrs(s.Boot)
	})
	out.Groups = renamed(d.Groups, func(g *schema.Group) *schema.Meta { return &g.Meta }, r, func(g *schema.Group) {
		g.Entry, g.Boot = r.addr(g.Entry), r.addrs(g.Boot)
	})
	out.Hosts = renamed(d.Hosts, func(h *schema.Host) *schema.Meta { return &h.Meta }, r, func(h *schema.Host) {
		h.Subnet, h.Group, h.Entry, h.Boot = r.addr(h.Subnet), r.addr(h.Group), r.addr(h.Entry), r.addrs(h.Boot)
	})
	out.Resources = make([]schema.Resource, len(d.Resources))
	for i, res := range d.Resources {
		out.Resources[i] = r.resource(res)
	}
	slices.SortFunc(out.Resources, func(a, b schema.Resource) int { return a.Addr.Compare(b.Addr) })
	return &out
}

// renamed copies a list with new addresses; refs puts in those that one of it names.
func renamed[T any](list []*T, meta func(*T) *schema.Meta, r renaming, refs func(*T)) []*T {
	out := make([]*T, len(list))
	for i, x := range list {
		y := *x
		m := meta(&y)
		m.Addr = r.addr(m.Addr)
		if refs != nil {
			refs(&y)
		}
		out[i] = &y
	}
	slices.SortFunc(out, func(a, b *T) int { return meta(a).Addr.Compare(meta(b).Addr) })
	return out
}

func (r renaming) resource(res schema.Resource) schema.Resource {
	res.Addr = r.addr(res.Addr)
	spelled := map[string]string{}
	for _, a := range res.References {
		if to, ok := r[a]; ok {
			spelled[a.String()] = to.String()
		}
	}
	if len(spelled) == 0 {
		return res
	}
	res.References = r.addrs(res.References)
	slices.SortFunc(res.References, schema.Addr.Compare)
	res.Attrs = slices.Clone(res.Attrs)
	for i := range res.Attrs {
		res.Attrs[i].Value = respell(res.Attrs[i].Value, spelled)
	}
	return res
}

// respell puts new addresses into a value that is an address or a list of them.
func respell(value string, spelled map[string]string) string {
	var one string
	if json.Unmarshal([]byte(value), &one) == nil {
		if to, ok := spelled[one]; ok {
			return string(quote(to))
		}
		return value
	}
	var list []string
	if json.Unmarshal([]byte(value), &list) != nil {
		return value
	}
	changed := false
	for i, s := range list {
		if to, ok := spelled[s]; ok {
			list[i], changed = to, true
		}
	}
	if !changed {
		return value
	}
	return compact(list)
}

// observations gives them with the new addresses.
func (r renaming) observations(list []Observation) []Observation {
	out := slices.Clone(list)
	if len(r) == 0 {
		return out
	}
	for i := range out {
		o := &out[i]
		o.Host, o.Subnet, o.Image = r.addr(o.Host), r.addr(o.Subnet), r.addr(o.Image)
	}
	return out
}
