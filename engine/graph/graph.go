// Package graph shows what of a desired state stands on what: as a tree for people, as
// a picture for graphviz, as JSON for programs. It is a pure function of the desired
// state, the same to the byte for the same files.
package graph

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/dlreconcile/dlreconcile/schema"
)

// kindFile is the kind of nodes that are files of the repo.
const kindFile = "file"

// ranks order kinds from machines to what they boot in the end.
var ranks = map[string]int{
	"host": 1, "subnet": 2, "group": 3, "bootloader": 4, "entry": 5, "export": 6, "image": 7, "server": 8, kindFile: 9,
}

// Graph is a set of resources, and of the files that images are made of, and what
// each of them needs. It is never changed once it is made.
type Graph struct {
	nodes []*node          // in order
	by    map[string]*node // by their name
	focus []*node          // what Focus was asked for; nil: everything
}

// node is a resource, a file, or many hosts that are alike.
type node struct {
	name     string // address of a resource, path of a file
	kind     string
	addr     schema.Addr // zero for a file
	at       schema.Range
	needs    []edge // ordered as nodes are
	neededBy []edge
	members  []string // names of the hosts that it stands for, when it stands for many
}

// edge is a need, seen from either end.
type edge struct {
	other *node
	attrs []string // that say it, sorted
	// access is true when other is only let in: an export allows hosts and subnets,
	// and would be served without them.
	access bool
}

// Of gives the graph of a desired state.
func Of(d *schema.Desired) *Graph {
	g := &Graph{by: map[string]*node{}}
	for _, r := range d.Resources {
		g.add(&node{name: r.Addr.String(), kind: r.Addr.Kind, addr: r.Addr, at: r.Range})
	}
	for _, r := range d.Resources {
		attrs := namedBy(r)
		for _, to := range r.References {
			names := attrs[to.String()]
			g.link(r.Addr.String(), to.String(), names, slices.Equal(names, []string{"allow"}))
		}
	}
	for _, h := range d.Hosts {
		if !h.Subnet.IsZero() {
			g.link(h.Addr.String(), h.Subnet.String(), []string{"address"}, false)
			continue
		}
		for _, s := range d.Subnets { // it may be on any that gives it an address
			if len(s.Pools) > 0 || s.Mode == schema.ModeProxy {
				g.link(h.Addr.String(), s.Addr.String(), nil, false)
			}
		}
	}
	for _, im := range d.Images {
		for _, f := range filesOf(im) {
			if g.by[f.path] == nil {
				g.add(&node{name: f.path, kind: kindFile})
			}
			g.link(im.Addr.String(), f.path, []string{f.attr}, false)
		}
	}
	return g.sorted()
}

func (g *Graph) add(n *node) {
	g.nodes = append(g.nodes, n)
	g.by[n.name] = n
}

// link notes that one node needs another. A second link between the same two adds
// its attributes.
func (g *Graph) link(from, to string, attrs []string, access bool) {
	a, b := g.by[from], g.by[to]
	if a == nil || b == nil {
		return
	}
	for i := range a.needs {
		if e := &a.needs[i]; e.other == b {
			e.attrs, e.access = merged(e.attrs, attrs), e.access && access
			for j := range b.neededBy {
				if back := &b.neededBy[j]; back.other == a {
					back.attrs, back.access = e.attrs, e.access
				}
			}
			return
		}
	}
	attrs = merged(nil, attrs)
	a.needs = append(a.needs, edge{b, attrs, access})
	b.neededBy = append(b.neededBy, edge{a, attrs, access})
}

func merged(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

func (g *Graph) sorted() *Graph {
	slices.SortFunc(g.nodes, compare)
	for _, n := range g.nodes {
		byNode := func(a, b edge) int { return compare(a.other, b.other) }
		slices.SortFunc(n.needs, byNode)
		slices.SortFunc(n.neededBy, byNode)
	}
	return g
}

// compare orders nodes by kind, then as plans order addresses.
func compare(a, b *node) int {
	return cmp.Or(cmp.Compare(ranks[a.kind], ranks[b.kind]), cmp.Compare(a.kind, b.kind), a.addr.Compare(b.addr), cmp.Compare(a.name, b.name))
}

// namedBy gives, for each address that a resource names, the attributes that do.
func namedBy(r schema.Resource) map[string][]string {
	out := map[string][]string{}
	for _, a := range r.Attrs {
		if a.Sensitive || len(r.References) == 0 {
			continue
		}
		var v any
		if json.Unmarshal([]byte(a.Value), &v) != nil {
			continue
		}
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, el := range list {
			if s, ok := el.(string); ok {
				out[s] = merged(out[s], []string{a.Name})
			}
		}
	}
	return out
}

// repoFile is a file of the repo, and the attribute that names it.
type repoFile struct{ path, attr string }

// filesOf lists what of the repo an image is made of.
func filesOf(im *schema.Image) []repoFile {
	var out []repoFile
	add := func(path, attr string) {
		if path != "" {
			out = append(out, repoFile{path, attr})
		}
	}
	if s := im.Debootstrap; s != nil {
		add(s.Keyring, "debootstrap.keyring")
	}
	if s := im.Tar; s != nil {
		add(s.Path, "tar.path")
	}
	if s := im.Pacstrap; s != nil {
		for _, f := range s.Files {
			add(f.Path, "pacstrap.files")
		}
	}
	if s := im.Directory; s != nil {
		add(strings.TrimSuffix(s.Path, "/")+"/", "directory.path")
	}
	if s := im.Disk; s != nil {
		add(s.Path, "disk.path")
	}
	for _, f := range im.Files {
		add(f.Source, fmt.Sprintf("file[%q].source", f.Path))
	}
	return out
}

// Addresses lists what Focus takes, in order: blocks with for_each before their
// instances, and with files the paths of files.
func (g *Graph) Addresses(files bool) []string {
	var out []string
	for _, n := range g.nodes {
		if n.addr.IsZero() {
			if files {
				out = append(out, n.name)
			}
			continue
		}
		if n.addr.Key != "" {
			whole := n.addr
			whole.Key = ""
			if name := whole.String(); !slices.Contains(out[max(0, len(out)-1):], name) && (len(out) == 0 || !strings.HasPrefix(out[len(out)-1], name+"[")) {
				out = append(out, name)
			}
		}
		out = append(out, n.name)
	}
	return out
}
