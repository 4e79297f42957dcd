package schema

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the expected files anew")

// corpus lists what is in a folder of testdata: files by themselves, and folders.
func corpus(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() || strings.HasSuffix(e.Name(), ".hcl") || strings.HasSuffix(e.Name(), ".hcl.json") {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out
}

// open gives the tree of a case, and the options that its comments ask for with
// lines "# var name=value" and "# env name"; those of a folder stand in its site.hcl.
func open(t *testing.T, path string) (fs.FS, Options) {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	asks, folder := path, st.IsDir()
	if folder {
		asks = filepath.Join(path, "site.hcl")
	}
	src, err := os.ReadFile(asks)
	if err != nil && !folder {
		t.Fatal(err)
	}
	opts := Options{Vars: map[string]string{}}
	for line := range strings.Lines(string(src)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "# var "); ok {
			name, value, _ := strings.Cut(v, "=")
			opts.Vars[name] = value
		}
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "# env "); ok {
			opts.Env = v
		}
	}
	if folder {
		return os.DirFS(path), opts
	}
	return fstest.MapFS{filepath.Base(path): {Data: src}}, opts
}

// golden compares got with the file beside path that has the extension.
func golden(t *testing.T, path, ext string, got []byte) {
	t.Helper()
	name := strings.TrimSuffix(strings.TrimSuffix(path, ".json"), ".hcl") + ext
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}

func TestInvalid(t *testing.T) {
	cases := corpus(t, "../testdata/invalid")
	if len(cases) < 80 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, path := range cases {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			tree, opts := open(t, path)
			start := time.Now()
			d, diags := Load(tree, opts)
			if took := time.Since(start); took > time.Minute {
				t.Errorf("took %s", took)
			}
			if d != nil || !diags.HasErrors() {
				t.Fatal("accepted")
			}
			for _, x := range diags {
				if x.Expression != nil || x.EvalContext != nil {
					t.Errorf("%s holds on to the syntax tree", x.Summary)
				}
				if strings.Contains(x.Summary, "Internal error") {
					t.Error(x)
				}
				if x.Summary == "" || x.Detail == "" {
					t.Errorf("half a diagnostic: %v", x)
				}
			}
			var b bytes.Buffer
			if err := FormatDiagnostics(&b, nil, diags, false); err != nil {
				t.Fatal(err)
			}
			golden(t, path, ".diag", b.Bytes())
		})
	}
}

func TestValid(t *testing.T) {
	for _, path := range append(corpus(t, "../testdata/valid"), "../examples/quickstart") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			tree, opts := open(t, path)
			d, diags := Load(tree, opts)
			if d == nil {
				t.Fatal(diags)
			}
			if !strings.Contains(path, "examples") {
				var told bytes.Buffer
				if err := FormatDiagnostics(&told, nil, diags, false); err != nil {
					t.Fatal(err)
				}
				golden(t, path, ".golden", append(outline(d), told.Bytes()...))
			} else if len(diags) > 0 {
				t.Error(diags)
			}
			replay(t, tree, opts, d)
		})
	}
}

// TestDocumentation loads the examples of docs/language.md: together they are one
// site.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("../docs/language.md")
	if err != nil {
		t.Fatal(err)
	}
	tree := []string{
		"language.md.hcl", fenced(string(text), "hcl"), "language.md.hcl.json", fenced(string(text), "json"),
		"modules/rack/rack.hcl", fenced(string(text), inModule),
		"hosts.csv", "name,mac,address\nws01,52:54:00:00:01:01,10.0.0.101\n",
		"appliance.tar.zst", "a tar", "packages/mkinitcpio-nbd-0.4-1-any.pkg.tar.xz", "a package", "tiny/init", "#!/bin/sh\n",
	}
	d := mustLoad(t, files(tree...), Options{})
	kinds := map[string]bool{}
	for _, r := range d.Resources {
		kinds[r.Addr.Kind] = true
	}
	for _, kind := range resourceKinds {
		if !kinds[kind] {
			t.Errorf("no example of %s", article(kind))
		}
	}
}

// fenced gives the code of one language in a document, on the lines on which it is
// there, so that lines of diagnostics are those of the document.
func fenced(text, language string) string {
	var b strings.Builder
	inside := false
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "```"):
			inside = strings.TrimSpace(line) == "```"+language
			line = "\n"
		case !inside:
			line = "\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// outline writes what plans see of a desired state.
func outline(d *Desired) []byte {
	var b bytes.Buffer
	for _, r := range d.Resources {
		fmt.Fprintf(&b, "%s  # %s\n", r.Addr, r.Range)
		for _, a := range r.Attrs {
			value := a.Value
			if a.Sensitive {
				value = "(sensitive value)"
			}
			fmt.Fprintf(&b, "  %s = %s", a.Name, value)
			if a.Range != (Range{}) {
				fmt.Fprintf(&b, "  # %s", a.Range)
			}
			b.WriteByte('\n')
		}
		if len(r.References) > 0 {
			fmt.Fprintf(&b, "  -> %v\n", r.References)
		}
	}
	if p := d.Policy; p.Range != (Range{}) {
		fmt.Fprintf(&b, "policy allow_empty=%t approve=%t  # %s\n", p.AllowEmpty, p.Approve, p.Range)
		if m := p.MaxDelete; m != nil {
			fmt.Fprintf(&b, "  max_delete count=%d percent=%d  # %s\n", m.Count, m.Percent, m.Range)
		}
		for _, w := range p.Windows {
			fmt.Fprintf(&b, "  window %v %s-%s %s  # %s\n", w.Days, w.From, w.To, w.Zone, w.Range)
		}
	}
	for _, m := range d.Moved {
		fmt.Fprintf(&b, "moved %s -> %s  # %s\n", m.From, m.To, m.Range)
	}
	for _, f := range d.Files {
		fmt.Fprintf(&b, "file %s %d %s config=%t\n", f.Path, f.Size, f.Digest[:19], f.Config)
	}
	for _, i := range d.Images {
		fmt.Fprintf(&b, "recipe %s %s base %s\n", i.Addr, i.Recipe[:19], i.BaseRecipe[:19])
	}
	return b.Bytes()
}

// replay loads a desired state from what it says it depends on, and nothing else.
func replay(t *testing.T, tree fs.FS, opts Options, d *Desired) {
	t.Helper()
	kept := fstest.MapFS{}
	again := Options{Recorded: d.Variables, Env: opts.Env, Digests: map[string]File{}}
	for _, f := range d.Files {
		if !f.Config {
			again.Digests[f.Path] = f
			continue
		}
		b, err := fs.ReadFile(tree, f.Path)
		if err != nil {
			t.Fatal(err)
		}
		kept[f.Path] = &fstest.MapFile{Data: b}
	}
	for name := range opts.Vars {
		if _, ok := d.Variables[name]; !ok { // secret
			if again.Vars == nil {
				again.Vars = map[string]string{}
			}
			again.Vars[name] = opts.Vars[name]
		}
	}
	d2, diags := Load(kept, again)
	if diags.HasErrors() {
		t.Fatal("replay: ", diags)
	}
	if diff := cmp.Diff(asJSON(t, d), asJSON(t, d2)); diff != "" {
		t.Errorf("replay gives another desired state (-was +is):\n%s", diff)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
