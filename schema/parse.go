package schema

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

var firstByte = hcl.Pos{Line: 1, Column: 1}

// configFiles lists the configuration files in the root of the tree, by name.
func (l *loader) configFiles() []string {
	names, err := l.configIn(".")
	if err != nil {
		l.report(mistake(hcl.Range{}, "Cannot read the configuration folder", cause(err)))
		return nil
	}
	if len(names) == 0 {
		d := mistake(hcl.Range{}, "There is no configuration", "The folder has no file that ends in .hcl or .hcl.json, so nothing is to be served. If that is not what is meant, another folder is.")
		d.Severity = hcl.DiagWarning
		l.report(d)
	}
	return names
}

// configIn lists the paths of the configuration files in a folder, sorted.
func (l *loader) configIn(dir string) ([]string, error) {
	entries, err := fs.ReadDir(l.tree.fsys, dir)
	var names []string
	for _, e := range entries {
		if ConfigFile(e.Name()) && !e.IsDir() {
			names = append(names, path.Join(dir, e.Name()))
		}
	}
	slices.Sort(names)
	return names, err
}

// parse reads configuration files, and parses those of which not enough is known.
func (l *loader) parse(names []string) []parsed {
	var files []parsed
	for _, name := range names {
		text, err := l.tree.text(name, maxConfigBytes)
		if err != nil {
			l.report(fromError(hcl.Range{Filename: name, Start: firstByte, End: firstByte}, err))
			continue
		}
		l.sources[name] = []byte(text)
		if !utf8.ValidString(text) {
			l.report(mistake(hcl.Range{Filename: name, Start: firstByte, End: firstByte}, "The file is not UTF-8", "Configuration is written in UTF-8."))
			continue
		}
		if k := l.knownFile(name); k != nil {
			if d := l.affordWords(name, k.words); d != nil {
				l.report(d)
				return nil
			}
			l.kept.words[name] = k.words
			l.kept.simple[name] = true
			files = append(files, parsed{known: k})
			continue
		}
		n := 0
		body, diags := parseBody(l.sources[name], name, &blockSpec{blocks: language}, func(words int) *hcl.Diagnostic {
			n = words
			return l.affordWords(name, n)
		})
		l.kept.words[name] = n
		if diags.HasErrors() {
			diags = withoutSecrets(diags, l.sources[name], suspects(l.sources[name], name))
		}
		l.report(diags...)
		if l.words > maxWords || !l.meter.has(0, 0) {
			return nil
		}
		if body != nil {
			l.kept.simple[name] = l.dir == "" && simple(name, body)
			files = append(files, parsed{body: body})
		}
	}
	return files
}

// parseFile gives the body of one file of configuration in the native form, whatever
// its syntax.
func parseFile(src []byte, name string) (*hclsyntax.Body, hcl.Diagnostics) {
	return parseBody(src, name, &blockSpec{blocks: language}, func(int) *hcl.Diagnostic { return nil })
}

// parseBody is parseFile for a file in which spec says what is a block, unless afford
// objects to the words of it.
func parseBody(src []byte, name string, spec *blockSpec, afford func(words int) *hcl.Diagnostic) (*hclsyntax.Body, hcl.Diagnostics) {
	if strings.HasSuffix(name, ".json") {
		if d := afford(words(string(src))); d != nil {
			return nil, hcl.Diagnostics{d}
		}
		return parseJSON(src, name, spec)
	}
	tokens, _ := hclsyntax.LexConfig(src, name, firstByte) // what it finds, parsing finds again
	d := checkTokens(tokens)
	if d == nil {
		d = afford(countTokens(tokens))
	}
	if d != nil {
		return nil, hcl.Diagnostics{d}
	}
	file, diags := hclsyntax.ParseConfig(src, name, firstByte)
	body, _ := file.Body.(*hclsyntax.Body)
	return body, diags
}

// parseTemplate parses text with ${…} and %{…} that begins at start in file.
func parseTemplate(src []byte, file string, start hcl.Pos) (hclsyntax.Expression, hcl.Diagnostics) {
	tokens, _ := hclsyntax.LexTemplate(src, file, start)
	if d := checkTokens(tokens); d != nil {
		return nil, hcl.Diagnostics{d}
	}
	return hclsyntax.ParseTemplate(src, file, start)
}

// parseExpression parses one expression that begins at start in file.
func parseExpression(src []byte, file string, start hcl.Pos) (hclsyntax.Expression, hcl.Diagnostics) {
	tokens, _ := hclsyntax.LexExpression(src, file, start)
	if d := checkTokens(tokens); d != nil {
		return nil, hcl.Diagnostics{d}
	}
	return hclsyntax.ParseExpression(src, file, start)
}

// fromError makes a diagnostic of why a file cannot be used.
func fromError(at hcl.Range, err error) *hcl.Diagnostic {
	var fe *fileError
	if errors.As(err, &fe) {
		return mistake(at, fe.summary, fe.detail)
	}
	return mistake(at, "Cannot be read", sentence(fmt.Sprint(err)))
}
