package schema

import (
	"errors"
	"fmt"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"go.yaml.in/yaml/v3"
)

// decodeYAML reads one YAML document. It works on the parser's nodes, because aliases
// let a kilobyte stand for a terabyte: what they stand for is counted as it is copied
// out.
func (l *loader) decodeYAML(src string) (v cty.Value, steps int64, err error) {
	dec := yaml.NewDecoder(strings.NewReader(src))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); err != nil {
		return cty.NilVal, 0, fmt.Errorf("invalid YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if dec.Decode(&more) == nil {
		return cty.NilVal, 0, errors.New("there is more than one YAML document")
	}
	y := &yamlReader{meter: l.meter, open: map[*yaml.Node]bool{}}
	v, err = y.value(&doc, 0)
	return v, yamlSteps * int64(y.nodes), err
}

type yamlReader struct {
	meter *meter
	nodes int
	open  map[*yaml.Node]bool // anchors being copied
}

func (y *yamlReader) value(n *yaml.Node, depth int) (cty.Value, error) {
	fail := func(format string, args ...any) (cty.Value, error) {
		return cty.NilVal, fmt.Errorf("line %d: "+format, append([]any{n.Line}, args...)...)
	}
	if y.nodes++; y.nodes > maxYAML || depth > maxDepth {
		return fail("the document has more than %d values or %d levels", maxYAML, maxDepth)
	}
	if !y.meter.has(yamlSteps*int64(y.nodes), 0) {
		return cty.NilVal, errTooMuch
	}
	switch n.Kind {
	case yaml.DocumentNode:
		if len(n.Content) != 1 {
			return fail("the document is empty")
		}
		return y.value(n.Content[0], depth)
	case yaml.AliasNode:
		if y.open[n.Alias] {
			return fail("%q contains itself", n.Value)
		}
		y.open[n.Alias] = true
		defer delete(y.open, n.Alias)
		return y.value(n.Alias, depth+1)
	case yaml.SequenceNode:
		vals := make([]cty.Value, len(n.Content))
		for i, c := range n.Content {
			v, err := y.value(c, depth+1)
			if err != nil {
				return v, err
			}
			vals[i] = v
		}
		return cty.TupleVal(vals), nil
	case yaml.MappingNode:
		vals := make(map[string]cty.Value, len(n.Content)/2)
		if err := y.mapping(n, vals, depth); err != nil {
			return cty.NilVal, err
		}
		return cty.ObjectVal(vals), nil
	case yaml.ScalarNode:
		return y.scalar(n)
	}
	return fail("this is not understood")
}

func (y *yamlReader) mapping(n *yaml.Node, into map[string]cty.Value, depth int) error {
	written := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		v, err := y.value(val, depth+1)
		if err != nil {
			return err
		}
		if key.Tag == "!!merge" {
			if err := merge(key.Line, v, into); err != nil {
				return err
			}
			continue
		}
		if key.Kind != yaml.ScalarNode || key.Tag == "!!null" {
			return fmt.Errorf("line %d: keys must be text", key.Line)
		}
		if written[key.Value] {
			return fmt.Errorf("line %d: key %q is written twice", key.Line, key.Value)
		}
		written[key.Value] = true
		into[key.Value] = v
	}
	return nil
}

// merge does what the key << asks for: keys that are written win.
func merge(line int, v cty.Value, into map[string]cty.Value) error {
	switch ty := v.Type(); {
	case ty.IsObjectType():
		for name := range ty.AttributeTypes() {
			if _, ok := into[name]; !ok {
				into[name] = v.GetAttr(name)
			}
		}
		return nil
	case ty.IsTupleType():
		for it := v.ElementIterator(); it.Next(); {
			_, el := it.Element()
			if !el.Type().IsObjectType() {
				return fmt.Errorf("line %d: only mappings can be merged", line)
			}
			if err := merge(line, el, into); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("line %d: only mappings can be merged", line)
}

func (y *yamlReader) scalar(n *yaml.Node) (cty.Value, error) {
	switch n.ShortTag() {
	case "!!null":
		return cty.NullVal(cty.DynamicPseudoType), nil
	case "!!bool":
		var b bool
		err := n.Decode(&b)
		return cty.BoolVal(b), err
	case "!!int", "!!float":
		text := strings.ReplaceAll(n.Value, "_", "")
		if len(text) > maxNumber {
			return cty.NilVal, fmt.Errorf("line %d: the number is too long", n.Line)
		}
		if v, err := cty.ParseNumberVal(text); err == nil {
			return v, nil
		}
		var i int64
		if err := n.Decode(&i); err == nil { // octal, hexadecimal
			return cty.NumberIntVal(i), nil
		}
		return cty.NilVal, fmt.Errorf("line %d: the number %q is not understood", n.Line, n.Value)
	}
	return cty.StringVal(n.Value), nil
}
