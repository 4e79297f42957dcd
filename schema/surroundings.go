package schema

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strconv"

	"github.com/zclconf/go-cty/cty"
)

// usage is the names that the expressions of a block use, noted when they are bound.
type usage struct {
	locals, variables map[string]bool
	servers           map[serverName]bool
	resources         map[string]bool // by address, without key
	outputs           map[outputName]bool
	// unsure says that something in it may depend on more than on that: on what is
	// not there, or on which mistake was made.
	unsure bool
}

type serverName struct{ addr, value string }

// outputName is an output of a module, of any key; "" is all of them.
type outputName struct{ module, output string }

func newUsage() *usage {
	return &usage{locals: map[string]bool{}, variables: map[string]bool{}, servers: map[serverName]bool{}, resources: map[string]bool{}, outputs: map[outputName]bool{}}
}

// output notes that an output of a module is used; "" is all of them.
func (u *usage) output(b *block, name string) {
	if u != nil {
		u.outputs[outputName{b.addr.String(), name}] = true
	}
}

// ask evaluates what surroundings needs and nobody has asked for yet, so that a limit is
// reached in the same place whether there is a Cache or not.
func (l *loader) ask(b *block) {
	if b.usage == nil {
		return
	}
	for _, s := range b.usage.sortedServers() {
		if server := l.blocks[s.addr]; server != nil {
			l.serverValue(server, s.value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.usage.resources)) {
		if other := l.blocks[name]; other != nil && other.forEach != nil {
			l.keysOf(other)
		}
	}
}

func (u *usage) sortedServers() []serverName {
	return slices.SortedFunc(maps.Keys(u.servers), func(x, y serverName) int {
		return cmp.Or(cmp.Compare(x.addr, y.addr), cmp.Compare(x.value, y.value))
	})
}

// surroundings is a digest of everything that the instances of a block depend on, but
// for each.value and files that are read. It gives false when that is not known.
func (l *loader) surroundings(b *block) (sum [sha256.Size]byte, ok bool) {
	if l.kept.block == b {
		return l.kept.around, l.kept.known
	}
	defer func() { l.kept.block, l.kept.around, l.kept.known = b, sum, ok }()
	if l.kept.cache == nil || b.usage == nil || b.usage.unsure {
		return sum, false
	}
	file := l.tree.files[b.at.Filename]
	if file == nil {
		return sum, false
	}
	h := sha256.New()
	write := func(parts ...string) {
		for _, p := range parts {
			fmt.Fprintf(h, "%d:%s", len(p), p)
		}
	}
	noted := func(n *noted) {
		write("noted")
		for _, a := range slices.SortedFunc(maps.Keys(n.addrs), Addr.Compare) {
			write(a.String())
		}
	}
	write(file.Path, file.Digest, strconv.Itoa(b.at.Start.Byte))
	if b.keys != nil {
		noted(&b.keys.once.noted)
	}
	for c := l.call; c != nil; c = c.from.call {
		if c.keys != nil {
			noted(&c.keys.once.noted)
		}
	}
	for _, o := range slices.SortedFunc(maps.Keys(b.usage.outputs), func(x, y outputName) int {
		return cmp.Or(cmp.Compare(x.module, y.module), cmp.Compare(x.output, y.output))
	}) {
		write("module", o.module, o.output)
		if !l.digestOutputs(h, o, noted) {
			return sum, false
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.usage.locals)) {
		if l.locals[name] == nil {
			return sum, false
		}
		v, diags := l.localValue(name)
		if diags.HasErrors() {
			return sum, false
		}
		write("local", name)
		digestValue(h, v)
		noted(&l.locals[name].noted)
	}
	for _, name := range slices.Sorted(maps.Keys(b.usage.variables)) {
		if l.blocks["variable."+name] == nil {
			return sum, false
		}
		v, diags := l.variableValue(name)
		if diags.HasErrors() {
			return sum, false
		}
		write("var", name)
		digestValue(h, v)
		noted(&l.variables[name].input.noted)
	}
	for _, s := range b.usage.sortedServers() {
		server := l.blocks[s.addr]
		if server == nil {
			return sum, false
		}
		v, diags := l.serverValue(server, s.value)
		if diags.HasErrors() {
			return sum, false
		}
		write(s.addr, s.value)
		digestValue(h, v)
	}
	for _, name := range slices.Sorted(maps.Keys(b.usage.resources)) {
		other := l.blocks[name]
		if other == nil {
			return sum, false
		}
		write("resource", name)
		if other.forEach == nil {
			continue
		}
		keys, diags := l.keysOf(other)
		if diags.HasErrors() {
			return sum, false
		}
		write("for_each")
		write(keys.names...)
	}
	h.Sum(sum[:0])
	return sum, true
}

// digestOutputs writes what modules say of themselves to a digest. It gives false when
// that is not known.
func (l *loader) digestOutputs(h hash.Hash, o outputName, noted func(*noted)) bool {
	b := l.blocks[o.module]
	if b == nil {
		return false
	}
	keys := []string{""}
	if b.forEach != nil {
		k, diags := l.keysOf(b)
		if diags.HasErrors() {
			return false
		}
		keys = k.names
		noted(&k.once.noted)
	}
	for _, key := range keys {
		m, diags := l.child(b, key)
		if diags.HasErrors() {
			return false
		}
		names := []string{o.output}
		if o.output == "" {
			names = m.outputNames()
		}
		for _, name := range names {
			if m.blocks["output."+name] == nil {
				return false
			}
			v, diags := m.outputValue(name)
			if diags.HasErrors() {
				return false
			}
			fmt.Fprintf(h, "%q%q", key, name)
			digestValue(h, v)
			noted(&m.blocks["output."+name].values["value"].noted)
		}
	}
	return true
}

// digestValue writes a value to a digest: no two that differ give the same bytes.
func digestValue(h hash.Hash, v cty.Value) { h.Write(appendValue(nil, v)) }

// appendValue appends what digestValue digests.
func appendValue(b []byte, v cty.Value) []byte {
	v, marks := v.Unmark()
	if len(marks) > 0 {
		b = append(b, 'm')
	}
	if v == cty.NilVal || !v.IsKnown() {
		return append(b, '?')
	}
	ty := v.Type()
	if v.IsNull() {
		return append(append(b, 'n'), ty.GoString()...)
	}
	text := func(tag byte, s string) {
		b = strconv.AppendInt(append(b, tag), int64(len(s)), 10)
		b = append(append(b, ':'), s...)
	}
	switch {
	case ty == cty.String:
		text('s', v.AsString())
	case ty == cty.Number:
		text('i', v.AsBigFloat().Text('p', 0))
	case ty == cty.Bool:
		text('b', strconv.FormatBool(v.True()))
	case ty == refType:
		text('r', v.EncapsulatedValue().(*Addr).String())
	case ty.IsObjectType(), ty.IsTupleType(), ty.IsCollectionType():
		text('c', shapeOf(ty))
		if ty.IsCollectionType() && v.LengthInt() == 0 {
			text('t', ty.GoString())
		}
		text('l', strconv.Itoa(v.LengthInt()))
		for it := v.ElementIterator(); it.Next(); {
			key, el := it.Element()
			if key.Type() == cty.String && !ty.IsSetType() {
				text('k', key.AsString())
			}
			b = appendValue(b, el)
		}
	default:
		text('x', ty.GoString()+v.GoString())
	}
	return b
}

// shapeOf names what holds other values.
func shapeOf(ty cty.Type) string {
	switch {
	case ty.IsObjectType():
		return "object"
	case ty.IsTupleType():
		return "tuple"
	case ty.IsMapType():
		return "map"
	case ty.IsListType():
		return "list"
	}
	return "set"
}
