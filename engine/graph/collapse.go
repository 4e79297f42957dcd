package graph

import (
	"fmt"
	"slices"
	"strings"
)

// many is how many hosts have to be alike before they are shown as one.
const many = 20

// collapsed gives the graph with hosts that are alike in everything that it shows, and
// more than 20, as one node each.
func (g *Graph) collapsed() *Graph {
	alike, like := map[string][]*node{}, map[*node]string{}
	for _, n := range g.nodes {
		if n.kind == "host" {
			l := n.likeness()
			like[n] = l
			alike[l] = append(alike[l], n)
		}
	}
	out := &Graph{by: map[string]*node{}}
	now := map[*node]*node{} // by the node of g
	for _, n := range g.nodes {
		group := alike[like[n]]
		if n.kind != "host" || len(group) <= many {
			c := &node{name: n.name, kind: n.kind, addr: n.addr, at: n.at}
			out.add(c)
			now[n] = c
			continue
		}
		if n != group[0] {
			now[n] = now[group[0]]
			continue
		}
		c := &node{kind: n.kind, addr: n.addr}
		for _, m := range group {
			c.members = append(c.members, m.name)
		}
		c.name = fmt.Sprintf("%d hosts: %s, %s, …, %s", len(group), c.members[0], c.members[1], c.members[len(group)-1])
		out.add(c)
		now[n] = c
	}
	for _, n := range g.nodes {
		for _, e := range n.needs {
			out.link(now[n].name, now[e.other].name, e.attrs, e.access)
		}
	}
	for _, n := range g.focus {
		if !slices.Contains(out.focus, now[n]) {
			out.focus = append(out.focus, now[n])
		}
	}
	return out.sorted()
}

// likeness is the same for nodes that need the same, and are needed by the same.
func (n *node) likeness() string {
	var b strings.Builder
	for _, list := range [][]edge{n.needs, n.neededBy} {
		for _, e := range list {
			fmt.Fprintf(&b, "%q %q %t,", e.other.name, e.attrs, e.access)
		}
		b.WriteByte(';')
	}
	return b.String()
}
