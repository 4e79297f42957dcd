package schema

import (
	"maps"
	"slices"
)

// attrRule says what may be done with an attribute.
type attrRule uint8

const (
	optional attrRule = iota + 1
	required
	static // optional, and looked at as written instead of evaluated
)

// blockSpec describes one kind of block: what may be written in it. It knows
// nothing about values.
type blockSpec struct {
	labels        []string // what each label is called in messages
	labelOptional bool     // the only label may be left out
	values        []string // what the first label may be; nil for any name
	laterValues   []string // what it may be in a later version
	attrs         map[string]attrRule
	blocks        map[string]*blockSpec
	once          bool // at most one in its parent
	open          bool // attributes may have any name
	forEach       bool
}

// language is every kind of block in the root of a file. It is never written to.
var language = map[string]*blockSpec{
	"server":     serverBlock,
	"image":      imageBlock,
	"export":     exportBlock,
	"entry":      entryBlock,
	"bootloader": bootloaderBlock,
	"subnet":     subnetBlock,
	"group":      groupBlock,
	"host":       hostBlock,
	"variable":   variableBlock,
	"locals":     {open: true},
	"moved":      movedBlock,
	"policy":     policyBlock,
	"check":      checkBlock,
	"module":     moduleBlock,
	"output":     outputBlock,
}

// typed reports whether blocks of a kind have their type as first label, so that
// references to them have three parts.
func typed(kind string) bool { return kind == "export" || kind == "bootloader" }

// resourceKinds are the kinds that references name, in the order in which they are
// decoded.
var resourceKinds = []string{"server", "image", "export", "entry", "bootloader", "subnet", "group", "host"}

// names gives the attributes of a spec.
func (s *blockSpec) names() []string {
	out := slices.Collect(maps.Keys(s.attrs))
	if s.forEach {
		out = append(out, "for_each")
	}
	return out
}

// kinds gives the blocks of a spec.
func (s *blockSpec) kinds() []string { return slices.Collect(maps.Keys(s.blocks)) }
