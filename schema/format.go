package schema

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// formatRounds bounds how often the formatter is asked again until it changes
// nothing any more. One round is enough for what people write.
const formatRounds = 8

// Format gives a file of configuration in its canonical form: two spaces for each
// level, equals signs and comments in line, one space where one belongs. It changes
// white space only, so what Load makes of the file stays the same, and formatting the
// result again gives the result. src is not written to. name is what diagnostics call
// the file; files in the JSON form, which end in .json, come back as they are.
//
// What cannot be parsed, or goes beyond the limits of a file of configuration, is
// not formatted, and the diagnostics say why.
func Format(src []byte, name string) ([]byte, hcl.Diagnostics) {
	at := hcl.Range{Filename: name, Start: firstByte, End: firstByte}
	switch {
	case len(src) > maxConfigBytes:
		return nil, hcl.Diagnostics{fromError(at, tooLarge(name, maxConfigBytes))}
	case !utf8.Valid(src):
		return nil, hcl.Diagnostics{mistake(at, "The file is not UTF-8", "Configuration is written in UTF-8.")}
	}
	_, diags := parseFile(src, name)
	if diags.HasErrors() {
		return nil, formatMistakes(src, name, diags)
	}
	if strings.HasSuffix(name, ".json") {
		return bytes.Clone(src), nil
	}
	was, _ := hclsyntax.LexConfig(src, name, firstByte)
	out := src
	for range formatRounds {
		next := hclwrite.Format(out)
		if bytes.Equal(next, out) {
			return bytes.Clone(out), nil
		}
		// The form is not worth a change of meaning, whatever the formatter does.
		if is, _ := hclsyntax.LexConfig(next, name, firstByte); !sameTokens(was, is) {
			break
		}
		out = next
	}
	return nil, hcl.Diagnostics{mistake(at, "The file cannot be formatted", "Formatting it would change more than white space. Put one attribute or block on each line, and what spans lines into locals.")}
}

// sameTokens reports whether two files differ in nothing but the space between tokens.
func sameTokens(a, b hclsyntax.Tokens) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Type != b[i].Type || !bytes.Equal(a[i].Bytes, b[i].Bytes) {
			return false
		}
	}
	return true
}

// formatMistakes frees diagnostics of the syntax tree, and gives them their source
// lines, but for those that may hold secrets.
func formatMistakes(src []byte, name string, diags hcl.Diagnostics) hcl.Diagnostics {
	out := make(hcl.Diagnostics, 0, len(diags))
	secret := formatSuspects(src, name)
	for _, d := range withoutSecrets(diags[:min(len(diags), maxDiagnostics)], src, secret) {
		c := &hcl.Diagnostic{Severity: d.Severity, Summary: d.Summary, Detail: d.Detail, Subject: d.Subject}
		if d.Subject != nil {
			line := ""
			if !within(*d.Subject, secret) {
				line = lineAt(src, d.Subject.Start.Line)
			}
			c.Extra = sourceLine{line}
		}
		out = append(out, c)
	}
	if n := len(diags) - len(out); n > 0 {
		out = append(out, mistake(hcl.Range{}, fmt.Sprintf("%d more mistakes are not shown", n), "Mend the ones above first."))
	}
	return out
}
