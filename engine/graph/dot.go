package graph

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// colours of nodes, by kind: those of graphviz's X11 scheme.
var colours = map[string]string{
	"host": "lightblue", "subnet": "palegreen", "group": "lightcyan", "bootloader": "khaki", "entry": "lightsalmon",
	"export": "thistle", "image": "wheat", "server": "lightgrey", kindFile: "white",
}

// DOT writes the graph in the language of graphviz: machines on the left, what they
// need to the right of them. Edges that only let somebody in are dashed.
func (g *Graph) DOT(w io.Writer, o Options) error {
	g = g.shown(o)
	focus := map[*node]bool{}
	for _, n := range g.focus {
		focus[n] = true
	}
	out := bufio.NewWriter(w)
	out.WriteString("digraph dlreconcile {\n  rankdir=LR;\n  node [shape=box, style=filled, fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\", fontsize=10];\n")
	for _, n := range g.nodes {
		more := ""
		if n.kind == kindFile {
			more = ", shape=note"
		}
		if focus[n] {
			more += ", penwidth=3"
		}
		fmt.Fprintf(out, "  %s [label=%s, fillcolor=%s%s];\n", dotText(n.name), dotText(n.name), colours[n.kind], more)
	}
	for _, n := range g.nodes {
		for _, e := range n.needs {
			style := ""
			if e.access {
				style = ", style=dashed"
			}
			fmt.Fprintf(out, "  %s -> %s [label=%s%s];\n", dotText(n.name), dotText(e.other.name), dotText(strings.Join(e.attrs, ", ")), style)
		}
	}
	out.WriteString("}\n")
	return out.Flush()
}

// dotText writes text as a quoted string of DOT. A backslash begins an escape there,
// in labels, and an ampersand the name of a character.
func dotText(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `&`, `&amp;`).Replace(plain(s)) + `"`
}
