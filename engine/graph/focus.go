package graph

import (
	"fmt"
	"strings"
)

// Focus gives the part of the graph around an address: what that needs, and what needs
// it, at any distance. Without the key of a for_each, all instances are meant; with
// only the address of a module, all that is in it. A file is named by its path.
func (g *Graph) Focus(address string) (*Graph, error) {
	var focus []*node
	for _, n := range g.nodes {
		if n.answersTo(address) {
			focus = append(focus, n)
		}
	}
	if len(focus) == 0 {
		return nil, fmt.Errorf("nothing has the address %s%s", address, g.hint(address))
	}
	in := map[*node]bool{}
	for _, n := range focus {
		reach(n, in, func(n *node) []edge { return n.needs })
	}
	up := map[*node]bool{}
	for _, n := range focus {
		reach(n, up, func(n *node) []edge { return n.neededBy })
	}
	for n := range up {
		in[n] = true
	}
	for _, n := range focus { // who is let in is told of what is in focus, not of others
		for _, e := range append(n.needs[:len(n.needs):len(n.needs)], n.neededBy...) {
			in[e.other] = true
		}
	}
	out := g.part(func(n *node) bool { return in[n] })
	for _, n := range focus {
		out.focus = append(out.focus, out.by[n.name])
	}
	return out, nil
}

// answersTo reports whether an address means the node.
func (n *node) answersTo(address string) bool {
	if n.name == address {
		return true
	}
	if n.addr.IsZero() {
		return false
	}
	whole := n.addr
	whole.Key = ""
	return whole.String() == address || n.addr.Module != "" &&
		(n.addr.Module == address || strings.HasPrefix(n.addr.Module, address+".") || strings.HasPrefix(n.addr.Module, address+"["))
}

// reach adds what can be reached from a node to in.
func reach(from *node, in map[*node]bool, next func(*node) []edge) {
	for todo := []*node{from}; len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if in[n] {
			continue
		}
		in[n] = true
		for _, e := range next(n) {
			if !e.access {
				todo = append(todo, e.other)
			}
		}
	}
}

// part copies the nodes that keep takes, and what is between them.
func (g *Graph) part(keep func(*node) bool) *Graph {
	out := &Graph{by: map[string]*node{}}
	for _, n := range g.nodes {
		if keep(n) {
			out.add(&node{name: n.name, kind: n.kind, addr: n.addr, at: n.at, members: n.members})
		}
	}
	for _, n := range g.nodes {
		for _, e := range n.needs {
			out.link(n.name, e.other.name, e.attrs, e.access)
		}
	}
	return out.sorted()
}

// maxHints bounds how many addresses a message lists.
const maxHints = 5

// hint says what there is of the kind that an address begins with.
func (g *Graph) hint(address string) string {
	kind, _, _ := strings.Cut(address, ".")
	var there []string
	for _, n := range g.nodes {
		if n.kind == kind && n.kind != kindFile {
			there = append(there, n.name)
		}
	}
	if len(there) == 0 {
		return ": it is what a reference spells, such as host.a or image.debian, or the path of a file"
	}
	more := ""
	if len(there) > maxHints {
		there, more = there[:maxHints], ", …"
	}
	return ": there is " + strings.Join(there, ", ") + more
}
