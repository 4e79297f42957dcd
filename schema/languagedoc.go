package schema

// Effect says when a machine that is there notices that an attribute was changed. What
// it means for which machine, plans say by name.
type Effect string

// The effects of changes.
const (
	EffectLive       Effect = "live"                             // at once
	EffectRenewal    Effect = "next renewal"                     // of the machine's lease
	EffectBoot       Effect = "next boot"                        // what runs goes on as it is
	EffectConnection Effect = "next connection"                  // those that are open stay
	EffectRebuild    Effect = "rebuilds the image"               // and machines get that at their next boot
	EffectSocket     Effect = "new socket before the old closes" // requests find one or the other
	EffectDiscards   Effect = "replaces, discards data"          // what machines wrote is lost, and the plan says so
	EffectUsers      Effect = "that of what uses it"             // a value has no effect of its own
	EffectNextCommit Effect = "next commit"                      // what is served decides on what comes after it
	EffectNone       Effect = "none"                             // machines never notice
)

// BlockDoc documents one kind of block. Every word of it is shown to people; texts are
// Markdown, and may be "".
type BlockDoc struct {
	Name     string     // as it is written: "image"
	Form     string     // the whole header: `image "NAME"`
	Once     bool       // at most one in the block, or the tree, around it
	ForEach  bool       // it takes for_each
	Text     string     // what it is
	Unserved string     // what of it no provider serves yet; "" when all is served
	Attrs    []AttrDoc  // in the order in which they are told
	Blocks   []BlockDoc // blocks that stand in it, in that order
	Example  string     // HCL, in canonical form; "" in a block that the one around it shows
}

// AttrDoc documents one attribute.
type AttrDoc struct {
	Name      string
	Type      string // "string", "list of references to entries", …
	Required  bool
	Default   string // the literal that leaving it out means; "" when there is none
	Otherwise string // in words, what leaving it out means, where no literal says it
	Effects   []Effect
	Unserved  string // what of it no provider serves yet; "" when all is served
	Text      string
}

// FunctionDoc documents one function. Example gives Result.
type FunctionDoc struct {
	Name    string
	Group   string // "text", "numbers", …
	Text    string
	Example string
	Result  string // JSON
}

// Language documents every kind of block of the language, in the order in which a
// site is thought up. What may be written where comes from the tables that Load goes
// by, so that only words can be wrong. The caller owns what it gets.
func Language() []BlockDoc {
	docs := []BlockDoc{
		serverDoc(), imageDoc(), exportDoc(), entryDoc(), bootloaderDoc(), subnetDoc(), groupDoc(), hostDoc(),
		variableDoc(), localsDoc(), moduleDoc(), outputDoc(), checkDoc(), movedDoc(), policyDoc(),
	}
	for i := range docs {
		docs[i].complete(language[docs[i].Name])
	}
	return docs
}

// complete fills in what the specification of the block says.
func (d *BlockDoc) complete(spec *blockSpec) {
	if spec == nil {
		return
	}
	d.Form, d.Once, d.ForEach = d.Name, spec.once, spec.forEach
	for i, label := range spec.labels {
		if i == 0 && len(spec.values) == 1 {
			d.Form += ` "` + spec.values[0] + `"`
			continue
		}
		d.Form += " " + placeholder(label, spec.labelOptional)
	}
	for i := range d.Attrs {
		a := &d.Attrs[i]
		a.Required = a.Required || spec.attrs[a.Name] == required
	}
	for i := range d.Blocks {
		d.Blocks[i].complete(spec.blocks[d.Blocks[i].Name])
	}
}

// placeholder is how a label is shown whose text is free.
func placeholder(label string, optional bool) string {
	text := map[string]string{
		"name": `"NAME"`, "type": `"TYPE"`, "path": `"/PATH"`, "generator": `"GENERATOR"`,
	}[label]
	if text == "" {
		text = `"` + label + `"`
	}
	if optional {
		return "[" + text + "]"
	}
	return text
}
