package graph

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/dlreconcile/dlreconcile/schema"
)

// formatVersion goes up when a member of the document changes its meaning.
const formatVersion = 1

type document struct {
	FormatVersion int        `json:"format_version"`
	Nodes         []nodeJSON `json:"nodes"`
}

type nodeJSON struct {
	Address  string       `json:"address"` // of a file, its path
	Kind     string       `json:"kind"`
	Range    schema.Range `json:"range,omitzero"` // of a file, none
	Needs    []edgeJSON   `json:"needs"`
	NeededBy []edgeJSON   `json:"needed_by"`
}

type edgeJSON struct {
	Address    string   `json:"address"`
	Attributes []string `json:"attributes"`       // that say it
	Access     bool     `json:"access,omitempty"` // let in only
}

// JSON gives every node of the graph, in order, with what it needs and who needs it.
// Nothing is collapsed.
func (g *Graph) JSON() ([]byte, error) {
	doc := document{FormatVersion: formatVersion, Nodes: []nodeJSON{}}
	for _, n := range g.nodes {
		doc.Nodes = append(doc.Nodes, nodeJSON{n.name, n.kind, n.at, edgesJSON(n.needs), edgesJSON(n.neededBy)})
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil {
		return nil, fmt.Errorf("graph: %w", err)
	}
	return b.Bytes(), nil
}

func edgesJSON(edges []edge) []edgeJSON {
	out := []edgeJSON{}
	for _, e := range edges {
		attrs := e.attrs
		if attrs == nil {
			attrs = []string{}
		}
		out = append(out, edgeJSON{e.other.name, attrs, e.access})
	}
	return out
}
