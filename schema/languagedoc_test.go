package schema

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	texttemplate "text/template"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// inModule is what follows the fence of an example that is a module of the page's site.
const inModule = "hcl modules/rack/rack.hcl"

const languagePage = "../docs/language.md"

// TestLanguagePage holds docs/language.md against what the tables give.
func TestLanguagePage(t *testing.T) {
	got := languageMarkdown(t)
	if *update {
		if err := os.WriteFile(languagePage, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(languagePage)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("the page is another; run with -update and read the difference (-is +should be):\n%s", d)
	}
}

// The examples of the page are in canonical form, and show every block there is.
func TestExamples(t *testing.T) {
	var visit func(docs []BlockDoc)
	visit = func(docs []BlockDoc) {
		for _, d := range docs {
			visit(d.Blocks)
			if d.Example == "" {
				continue
			}
			got, diags := Format([]byte(d.Example+"\n"), d.Name+".hcl")
			if diff := cmp.Diff(d.Example+"\n", string(got)); diags.HasErrors() || diff != "" {
				t.Errorf("the example of %s is not formatted (-is +should be): %v\n%s", d.Name, diags, diff)
			}
		}
	}
	visit(Language())
	page, err := os.ReadFile(languagePage)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[*blockSpec]bool{}
	var look func(blocks []*hclsyntax.Block, specs map[string]*blockSpec)
	look = func(blocks []*hclsyntax.Block, specs map[string]*blockSpec) {
		for _, b := range blocks {
			if spec := specs[b.Type]; spec != nil {
				shown[spec] = true
				look(b.Body.Blocks, spec.blocks)
			}
		}
	}
	for _, fence := range []string{"hcl", inModule} {
		body, diags := parseFile([]byte(fenced(string(page), fence)), "language.md.hcl")
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		look(body.Blocks, language)
	}
	var missing func(path string, specs map[string]*blockSpec)
	missing = func(path string, specs map[string]*blockSpec) {
		for name, spec := range specs {
			if !shown[spec] {
				t.Errorf("no example shows %s%s", path, name)
			}
			missing(path+name+".", spec.blocks)
		}
	}
	missing("", language)
}

// functionGroup is the functions of one group.
type functionGroup struct {
	Group string
	List  []FunctionDoc
}

func languageMarkdown(t *testing.T) []byte {
	t.Helper()
	docs := Language()
	data := map[string]any{
		"Blocks": docs, "Settings": settingsOf(docs), "Functions": functionGroups(),
		"Unserved": unservedLines(docs), "Refused": strings.Join(refused(), ", "), "ForEach": listed(forEachKinds(docs), "and"),
		"MaxConfig": formatSize(maxConfigBytes), "MaxData": formatSize(maxDataBytes), "MaxTotal": formatSize(maxTotalBytes),
		"MaxDepth": maxDepth, "MaxOperators": thousands(maxOperators), "MaxInstances": thousands(maxInstances),
		"MaxModules": thousands(maxModules), "MaxModuleDepth": maxModuleDepth,
	}
	tmpl, err := texttemplate.New("language.md.tmpl").Funcs(texttemplate.FuncMap{
		"section": blockMarkdown, "cell": cell, "code": code,
	}).ParseFiles("language.md.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tmpl.Execute(&b, data); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// blockMarkdown is a section of the page: a block, and those in it.
func blockMarkdown(d BlockDoc, heading string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n\n", heading, d.Name)
	often := "any number"
	if d.Once {
		often = "at most one"
	}
	if d.ForEach {
		often += ", takes [for_each](#for_each)"
	}
	fmt.Fprintf(&b, "`%s {}`, %s.\n\n%s\n\n", d.Form, often, d.Text)
	if d.Unserved != "" {
		fmt.Fprintf(&b, "**Not served yet**: %s\n\n", sentence(d.Unserved))
	}
	if len(d.Attrs) > 0 {
		b.WriteString("| attribute | type | default | effect | |\n|---|---|---|---|---|\n")
		for _, a := range d.Attrs {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", a.Name, a.Type, cell(defaultText(a)), effectsText(a.Effects), cell(attrText(a)))
		}
		b.WriteString("\n")
	}
	if shared := settingsDocs(); len(d.Blocks) == len(shared) && d.Blocks[0].Name == shared[0].Name {
		b.WriteString("Blocks `mount`, `file` and `state`: see [settings](#settings).\n\n")
	} else {
		for _, inner := range d.Blocks {
			inner.Name = d.Name + ": " + inner.Name
			b.WriteString(blockMarkdown(inner, heading+"#"))
		}
	}
	if d.Example != "" {
		fence := "hcl"
		if d.Name == "output" {
			fence = inModule // not a part of the site around it
		}
		fmt.Fprintf(&b, "```%s\n%s\n```\n\n", fence, d.Example)
	}
	return b.String()
}

func defaultText(a AttrDoc) string {
	switch {
	case a.Required:
		return "required"
	case a.Default != "":
		return "`" + a.Default + "`"
	}
	return a.Otherwise
}

func effectsText(effects []Effect) string {
	texts := make([]string, len(effects))
	for i, e := range effects {
		texts[i] = string(e)
	}
	return strings.Join(texts, "; ")
}

func attrText(a AttrDoc) string {
	text := a.Text
	if a.Unserved != "" {
		if text != "" {
			text += ". "
		}
		text += "**Not served yet**: " + a.Unserved
	}
	return text
}

// cell is text in a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// code is code in a table.
func code(s string) string { return "`" + cell(s) + "`" }

func thousands(n int) string {
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// settingsOf gives the blocks that entries, groups and hosts share.
func settingsOf(docs []BlockDoc) []BlockDoc {
	i := slices.IndexFunc(docs, func(d BlockDoc) bool { return d.Name == "entry" })
	return docs[i].Blocks
}

func functionGroups() []functionGroup {
	var out []functionGroup
	for _, f := range Functions() {
		if n := len(out); n == 0 || out[n-1].Group != f.Group {
			out = append(out, functionGroup{Group: f.Group})
		}
		last := &out[len(out)-1]
		last.List = append(last.List, f)
	}
	return out
}

// forEachKinds are the kinds of blocks that take for_each.
func forEachKinds(docs []BlockDoc) []string {
	var out []string
	for _, d := range docs {
		if d.ForEach {
			out = append(out, "`"+d.Name+"`")
		}
	}
	return out
}

// unservedLines lists what no provider serves yet.
func unservedLines(docs []BlockDoc) []string {
	var out []string
	for _, d := range docs {
		if d.Unserved != "" {
			out = append(out, fmt.Sprintf("`%s`: %s", d.Form, d.Unserved))
		}
		for _, a := range d.Attrs {
			if a.Unserved != "" {
				out = append(out, fmt.Sprintf("`%s` of `%s`: %s", a.Name, d.Form, a.Unserved))
			}
		}
		out = append(out, unservedLines(d.Blocks)...)
	}
	return slices.Compact(out)
}

// refused lists what the language has for a later version and refuses today.
func refused() []string {
	var out []string
	var visit func(path string, s *blockSpec)
	visit = func(path string, s *blockSpec) {
		for _, v := range s.laterValues {
			out = append(out, fmt.Sprintf("`%s %q`", path, v))
		}
		for n, inner := range s.blocks {
			visit(n, inner)
		}
	}
	visit("", &blockSpec{blocks: language})
	slices.Sort(out)
	return slices.Compact(out)
}
