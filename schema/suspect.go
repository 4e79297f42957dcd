package schema

import (
	"bytes"
	"math"
	"path"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// After a mistake of syntax nobody knows which variables are sensitive, or where a
// block ends. So where a secret may stand is told by how the text looks, in two ways,
// and each is believed: rather too much is not shown than too little.

// suspects gives the lines of a broken file that may hold secrets: variables, and what
// modules are given.
func suspects(src []byte, name string) []hcl.Range {
	if strings.HasSuffix(name, ".json") {
		if bytes.Contains(src, []byte(`"variable"`)) || bytes.Contains(src, []byte(`"module"`)) {
			return []hcl.Range{allLines(name)}
		}
		return nil
	}
	return append(suspectLines(src, name), suspectTokens(src, name)...)
}

// formatSuspects is suspects for a file of which only the name says what it is for. An
// env file holds nothing but values, and one without a block may be one.
func formatSuspects(src []byte, name string) []hcl.Range {
	if path.Base(path.Dir(name)) == envFolder {
		return []hcl.Range{allLines(name)}
	}
	for kind := range language {
		if bytes.Contains(src, []byte(`"`+kind+`"`)) && strings.HasSuffix(name, ".json") {
			return suspects(src, name)
		}
	}
	for line := range bytes.Lines(src) {
		if kind, ok := headerKind(line); ok && language[kind] != nil && bytes.ContainsRune(line, '{') {
			return suspects(src, name)
		}
	}
	return []hcl.Range{allLines(name)}
}

func lines(name string, from, to int) hcl.Range {
	return hcl.Range{Filename: name, Start: hcl.Pos{Line: from}, End: hcl.Pos{Line: to}}
}

func allLines(name string) hcl.Range { return lines(name, 0, math.MaxInt) }

// suspectLines goes by line: a block begins with its kind, and ends with a brace in the
// first column.
func suspectLines(src []byte, name string) []hcl.Range {
	var out []hcl.Range
	n, inside := 0, false
	for line := range bytes.Lines(src) {
		n++
		if inside {
			out[len(out)-1].End.Line = n
			inside = line[0] != '}'
		} else if kind, ok := headerKind(line); ok && holdsValues(kind) {
			out = append(out, lines(name, n, n))
			whole := bytes.HasSuffix(bytes.TrimSpace(line), []byte("}")) && bytes.Count(line, []byte("{")) == bytes.Count(line, []byte("}"))
			inside = !whole
		}
		if inside && bytes.Contains(line, []byte("<<")) {
			out[len(out)-1].End.Line = math.MaxInt // a brace may be part of the text that begins here
			return out
		}
	}
	return out
}

// suspectTokens goes by the braces that the lexer finds. It does not take those in text
// for one, but a missing quotation mark leads it astray.
func suspectTokens(src []byte, name string) []hcl.Range {
	var out []hcl.Range
	depth, inside := 0, false
	tokens, _ := hclsyntax.LexConfig(src, name, firstByte)
	for i, t := range tokens {
		switch {
		case !inside && t.Type == hclsyntax.TokenIdent && holdsValues(string(t.Bytes)) && i+1 < len(tokens):
			switch tokens[i+1].Type {
			case hclsyntax.TokenOQuote, hclsyntax.TokenIdent, hclsyntax.TokenOBrace:
				out = append(out, lines(name, t.Range.Start.Line, math.MaxInt))
				depth, inside = 0, true
			}
		case inside && t.Type == hclsyntax.TokenOBrace:
			depth++
		case inside && t.Type == hclsyntax.TokenCBrace:
			if depth--; depth <= 0 {
				out[len(out)-1].End.Line = t.Range.End.Line
				inside = false
			}
		}
	}
	return out
}

func holdsValues(kind string) bool { return kind == "variable" || kind == "module" }

// headerKind gives the word that a line begins with, when it may be the header of a
// block.
func headerKind(line []byte) (string, bool) {
	text := strings.TrimSpace(strings.TrimPrefix(string(line), "\ufeff"))
	end := strings.IndexFunc(text, func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' })
	if end < 0 {
		return text, text != ""
	}
	rest := strings.TrimLeft(text[end:], " \t")
	return text[:end], end > 0 && !strings.ContainsAny(rest[:1], ".=[]():,?-")
}

// cited is what mistakes of syntax cite of the text: a word that JSON does not know, the
// numbers of an index.
var cited = regexp.MustCompile(`"([^"]+)"|\[([^\]]+)\]`)

// withoutSecrets gives mistakes of syntax with nothing in them that is cited from the
// ranges of src.
func withoutSecrets(diags hcl.Diagnostics, src []byte, ranges []hcl.Range) hcl.Diagnostics {
	out := make(hcl.Diagnostics, 0, len(diags))
	for _, d := range diags {
		c := *d
		if c.Subject != nil && within(*c.Subject, ranges) {
			for _, m := range cited.FindAllStringSubmatch(c.Detail, -1) {
				if bytes.Contains(src, []byte(m[1]+m[2])) {
					c.Detail = "A secret may stand here, so what was found is not shown."
					break
				}
			}
		}
		out = append(out, &c)
	}
	return out
}
