package schema

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
)

// finish puts the diagnostics into order, and frees them of everything that holds
// on to the syntax tree.
func (l *loader) finish() hcl.Diagnostics {
	secret := l.secretRanges()
	out := make(hcl.Diagnostics, 0, len(l.diags))
	for _, d := range l.diags {
		if _, silent := d.Extra.(reported); silent {
			continue
		}
		c := &hcl.Diagnostic{Severity: d.Severity, Summary: d.Summary, Detail: d.Detail}
		if d.Subject != nil {
			at := *d.Subject
			c.Subject = &at
		}
		out = append(out, c)
	}
	slices.SortStableFunc(out, compareDiagnostics)
	out = slices.CompactFunc(out, func(a, b *hcl.Diagnostic) bool { return compareDiagnostics(a, b) == 0 })
	looked := map[string]bool{}
	for _, d := range out[:min(len(out), maxDiagnostics)] {
		if d.Subject == nil {
			continue
		}
		line := ""
		if l.unparsed && !looked[d.Subject.Filename] {
			looked[d.Subject.Filename] = true
			secret = append(secret, suspects(l.sources[d.Subject.Filename], d.Subject.Filename)...)
		}
		if !within(*d.Subject, secret) && l.env.shows(*d.Subject, l.variables) {
			line = lineAt(l.sources[d.Subject.Filename], d.Subject.Start.Line)
		}
		d.Extra = sourceLine{line}
	}
	if n := len(out) - maxDiagnostics; n > 0 {
		out = append(out[:maxDiagnostics:maxDiagnostics], mistake(hcl.Range{}, fmt.Sprintf("%d more mistakes are not shown", n), "Mend the ones above first."))
	}
	return out
}

func compareDiagnostics(a, b *hcl.Diagnostic) int {
	var ra, rb hcl.Range
	if a.Subject != nil {
		ra = *a.Subject
	}
	if b.Subject != nil {
		rb = *b.Subject
	}
	return cmp.Or(
		cmp.Compare(ra.Filename, rb.Filename),
		cmp.Compare(ra.Start.Line, rb.Start.Line),
		cmp.Compare(ra.Start.Column, rb.Start.Column),
		cmp.Compare(a.Summary, b.Summary),
		cmp.Compare(a.Detail, b.Detail),
	)
}

// secretRanges gives the variable blocks that hold secrets, and the inputs of modules
// that do: their source is not shown.
func (l *loader) secretRanges() []hcl.Range {
	var out []hcl.Range
	for _, f := range append(slices.Collect(maps.Values(l.folders)), l) {
		for _, v := range f.variables {
			if v.sensitive {
				out = append(out, v.whole)
			}
		}
		for _, b := range f.order {
			if b.addr.Kind != "module" || b.body == nil {
				continue
			}
			for name, a := range b.body.attrs {
				if l.secretInput(b, name) {
					out = append(out, a.SrcRange)
				}
			}
		}
	}
	return out
}

func within(at hcl.Range, ranges []hcl.Range) bool {
	return slices.ContainsFunc(ranges, func(r hcl.Range) bool {
		return r.Filename == at.Filename && r.Start.Line <= at.Start.Line && at.Start.Line <= r.End.Line
	})
}
