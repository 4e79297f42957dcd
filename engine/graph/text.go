package graph

import (
	"bufio"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Options is how a graph is shown.
type Options struct {
	All bool // every host by itself, however many are alike
}

func (g *Graph) shown(o Options) *Graph {
	if o.All {
		return g
	}
	return g.collapsed()
}

// Text writes the graph as trees: from machines, through what they boot by, to the
// files that it is made of. What stands under several is shown under the first, and
// under the others by its name. A graph with a focus has two trees for each node of
// it: what that needs, and who needs it.
func (g *Graph) Text(w io.Writer, o Options) error {
	g = g.shown(o)
	t := &tree{out: bufio.NewWriter(w), seen: map[*node]bool{}, next: func(n *node) []edge { return n.needs }}
	if g.focus != nil {
		t.around(g.focus)
		return t.out.Flush()
	}
	for _, root := range g.roots() {
		if !t.seen[root] {
			t.line("", "", root, "")
			t.below("", root)
		}
	}
	return t.out.Flush()
}

// roots gives the nodes that trees begin with: hosts, then what nobody needs, then,
// in case something is left, the others.
func (g *Graph) roots() []*node {
	var hosts, free []*node
	for _, n := range g.nodes {
		needed := false
		for _, e := range n.neededBy {
			needed = needed || !e.access
		}
		switch {
		case n.kind == "host":
			hosts = append(hosts, n)
		case !needed:
			free = append(free, n)
		}
	}
	return append(append(hosts, free...), g.nodes...)
}

// tree writes trees.
type tree struct {
	out  *bufio.Writer
	seen map[*node]bool // shown with what is below them
	next func(*node) []edge
	// top is the only node of which it is told who lets it in; nil: all are told
	// whom they let in.
	top *node
}

func (t *tree) around(focus []*node) {
	for i, n := range focus {
		if i > 0 {
			t.out.WriteByte('\n')
		}
		t.out.WriteString(plain(n.name))
		if at := n.at.String(); at != "" {
			t.out.WriteString("  " + plain(at))
		}
		t.out.WriteByte('\n')
		for _, way := range []struct {
			title, none string
			next        func(*node) []edge
			top         *node
		}{
			{"needs:", "needs nothing", func(n *node) []edge { return n.needs }, nil},
			{"is needed by:", "is needed by nobody", func(n *node) []edge { return n.neededBy }, n},
		} {
			t.seen, t.next, t.top = map[*node]bool{}, way.next, way.top
			if len(way.next(n)) == 0 {
				t.out.WriteString("  " + way.none + "\n")
				continue
			}
			t.out.WriteString("  " + way.title + "\n")
			t.seen[n] = true
			t.below("  ", n)
		}
	}
}

// below writes what is under a node.
func (t *tree) below(indent string, n *node) {
	t.seen[n] = true
	edges := t.next(n)
	if t.top != nil && t.top != n {
		edges = slices.DeleteFunc(slices.Clone(edges), func(e edge) bool { return e.access })
	}
	for i, e := range edges {
		branch, bar := "├─ ", "│  "
		if i == len(edges)-1 {
			branch, bar = "└─ ", "   "
		}
		switch {
		case e.access:
			t.line(indent, branch, e.other, " (may attach)")
		case t.seen[e.other] && len(t.next(e.other)) > 0:
			t.line(indent, branch, e.other, " (above)")
		default:
			t.line(indent, branch, e.other, "")
			t.below(indent+bar, e.other)
		}
	}
}

func (t *tree) line(indent, branch string, n *node, note string) {
	t.out.WriteString(indent + branch + plain(n.name) + note + "\n")
}

// plain gives a name without what a terminal would act on: paths are the repo's to
// choose.
func plain(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return strconv.Quote(s)
	}
	return s
}
