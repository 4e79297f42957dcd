package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// daemonFile is daemon.hcl: the daemon's own settings, one attribute each, named
// as their flags with underscores, and vars, a map.
type daemonFile struct {
	texts map[string]*string // by the name of the flag
	poll  time.Duration      // 0: not written
	vars  map[string]string
	daemonBlocks
}

// parseDaemonFile reads daemon.hcl. Expressions in it are constants.
func parseDaemonFile(name string, src []byte) (*daemonFile, hcl.Diagnostics) {
	out := &daemonFile{texts: map[string]*string{}}
	f, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, diags
	}
	var s settings
	schema := &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "poll"}, {Name: "vars"}}}
	flagOf := map[string]string{}
	for flag := range s.texts() {
		attr := attributeName(flag)
		flagOf[attr] = flag
		schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: attr})
	}
	_, rest, _ := f.Body.PartialContent(schema)
	schema.Blocks = blockHeaders()
	content, diags := f.Body.Content(schema)
	attrs := slices.SortedFunc(maps.Values(content.Attributes), func(a, b *hcl.Attribute) int {
		return a.Range.Start.Byte - b.Range.Start.Byte
	})
	for _, a := range attrs {
		v, more := a.Expr.Value(nil)
		if diags = append(diags, more...); more.HasErrors() {
			continue
		}
		switch a.Name {
		case "poll":
			out.poll, more = pollOf(a, v)
		case "vars":
			out.vars, more = varsOf(a, v)
		default:
			var text string
			if text, more = textOf(a, v, "text"); !more.HasErrors() {
				out.texts[flagOf[a.Name]] = &text
			}
		}
		diags = append(diags, more...)
	}
	if diags.HasErrors() {
		return out, diags
	}
	out.daemonBlocks, diags = parseBlocks(rest)
	return out, diags
}

func textOf(a *hcl.Attribute, v cty.Value, want string) (string, hcl.Diagnostics) {
	v, err := convert.Convert(v, cty.String)
	if err != nil || v.IsNull() || !v.IsKnown() {
		return "", misset(a, "It must be "+want+".")
	}
	return v.AsString(), nil
}

func pollOf(a *hcl.Attribute, v cty.Value) (time.Duration, hcl.Diagnostics) {
	const want = `a duration of at least one second, such as "30s" or "5m"`
	text, diags := textOf(a, v, want)
	if diags.HasErrors() {
		return 0, diags
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < leastPoll {
		return 0, misset(a, "It must be "+want+".")
	}
	return d, nil
}

// varsOf reads values of variables as --var has them: text as it is, and anything
// else as the expression that gives it.
func varsOf(a *hcl.Attribute, v cty.Value) (map[string]string, hcl.Diagnostics) {
	const want = `It must be a map such as { interface = "eth0" }. A value that is not text, a number or a boolean is written as text: "[1, 2]".`
	if v.IsNull() || !v.IsWhollyKnown() || !v.Type().IsObjectType() && !v.Type().IsMapType() {
		return nil, misset(a, want)
	}
	vars := map[string]string{}
	for name, value := range v.AsValueMap() {
		text, err := convert.Convert(value, cty.String)
		if err != nil || text.IsNull() {
			return nil, misset(a, want)
		}
		vars[name] = text.AsString()
	}
	return vars, nil
}

// readSetting has read take the value of an attribute, as text; a nil one is not written.
// read says whether the text is what is wanted.
func readSetting(a *hcl.Attribute, want string, read func(string) bool) hcl.Diagnostics {
	if a == nil {
		return nil
	}
	v, diags := a.Expr.Value(nil)
	if diags.HasErrors() {
		return diags
	}
	text, diags := textOf(a, v, want)
	if !diags.HasErrors() && !read(text) {
		diags = misset(a, "It must be "+want+".")
	}
	return diags
}

func misset(a *hcl.Attribute, detail string) hcl.Diagnostics {
	at := a.Expr.Range()
	return hcl.Diagnostics{{Severity: hcl.DiagError, Summary: fmt.Sprintf("Invalid %s", a.Name), Detail: detail, Subject: &at}}
}
