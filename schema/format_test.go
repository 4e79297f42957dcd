package schema

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// configCorpus gives every file of configuration in the folders of the repo that hold
// some, by its path.
func configCorpus(t testing.TB, roots ...string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".hcl") {
				return err
			}
			out[path], err = os.ReadFile(path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(out) == 0 {
		t.Fatal("no files")
	}
	return out
}

// What the repo shows as right is in the canonical form.
func TestFormatted(t *testing.T) {
	for path, src := range configCorpus(t, "../examples", "../testdata/valid") {
		got, diags := Format(src, path)
		if diags.HasErrors() {
			t.Errorf("%s: %v", path, diags)
		} else if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Error(err)
			}
		} else if d := cmp.Diff(string(src), string(got)); d != "" {
			t.Errorf("%s is not formatted; run with -update (-is +should be):\n%s", path, d)
		}
	}
}

func TestFormat(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"nothing": {"", ""},
		"indents and aligns": {
			"host \"a\"   {\n mac=\"52:54:00:00:00:01\" # the first\naddress   =  \"10.0.0.1\"# fixed\n}",
			"host \"a\" {\n  mac     = \"52:54:00:00:00:01\" # the first\n  address = \"10.0.0.1\"          # fixed\n}",
		},
		"lists over lines": {
			"entry \"a\" {\nargs=[\n\"a\",\n\"b\"]\n}\n",
			"entry \"a\" {\n  args = [\n    \"a\",\n  \"b\"]\n}\n",
		},
		"heredocs are left alone": {
			"locals {\nx=<<-E\n      a\n        ${ upper( \"b\" ) }\n    E\n}\n",
			"locals {\n  x = <<-E\n      a\n        ${upper(\"b\")}\n    E\n}\n",
		},
		"line ends stay":        {"a {\r\nx=1\r\n}\r\n", "a {\r\n  x = 1\r\n}\r\n"},
		"a mark of byte order":  {"\uFEFFa {\nx=1\n}\n", "a {\n  x = 1\n}\n"},
		"expressions":           {"locals {\n  a=-1+ - 2*(3)\n b=[for x in[1,2]:x if x>1]\n c={a=1,\"b\":2}\n}\n", "locals {\n  a = -1 + -2 * (3)\n  b = [for x in [1, 2] : x if x > 1]\n  c = { a = 1, \"b\" : 2 }\n}\n"},
		"comments of all kinds": {"# a\n//b\n/* c\n d */\nlocals{/* e */}\n", "# a\n//b\n/* c\n d */\nlocals { /* e */ }\n"},
	} {
		got, diags := Format([]byte(c.in), "a.hcl")
		if diags.HasErrors() {
			t.Errorf("%s: %v", name, diags)
		} else if d := cmp.Diff(c.want, string(got)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestFormatRefuses(t *testing.T) {
	for name, c := range map[string]struct{ file, src, want string }{
		"deep":      {"a.hcl", "a = " + strings.Repeat("[", 10_000), "Nested too deep"},
		"operators": {"a.hcl", "a = 1" + strings.Repeat("+1", 20_000), "Expression too long"},
		"deep JSON": {"a.hcl.json", strings.Repeat("[", 100_000), "Nested too deep"},
		"large":     {"a.hcl", strings.Repeat("#\n", maxConfigBytes/2+1), `"a.hcl" is too large`},
		"not UTF-8": {"a.hcl", "a = \"\xff\"\n", "not UTF-8"},
		"syntax":    {"a.hcl", "host \"a\" {\n  mac = \n}\n", "Invalid expression"},
	} {
		got, diags := Format([]byte(c.src), c.file)
		if got != nil || !diags.HasErrors() || !strings.Contains(diags[0].Summary, c.want) {
			t.Errorf("%s: got %d bytes and %v, want %q", name, len(got), diags, c.want)
		}
		for _, d := range diags {
			if d.Expression != nil || d.EvalContext != nil {
				t.Errorf("%s: %s holds on to the syntax tree", name, d.Summary)
			}
		}
	}
}

// Formatting again changes nothing.
func TestFormatAgain(t *testing.T) {
	for path, src := range configCorpus(t, "../examples", "../testdata/valid", "../testdata/invalid") {
		mangled(t, path, src)
	}
}

// Formatted files mean the same.
func TestFormatKeepsTheMeaning(t *testing.T) {
	for _, path := range corpus(t, "../testdata/valid") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			tree, opts := open(t, path)
			formatted := fstest.MapFS{}
			err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				st, err := d.Info()
				if err != nil {
					return err
				}
				if d.Type()&fs.ModeSymlink != 0 {
					to, err := fs.ReadLink(tree, name)
					formatted[name] = &fstest.MapFile{Data: []byte(to), Mode: st.Mode()}
					return err
				}
				src, err := fs.ReadFile(tree, name)
				if err == nil && strings.HasSuffix(name, ".hcl") {
					src = mangled(t, name, src)
				}
				formatted[name] = &fstest.MapFile{Data: src, Mode: st.Mode()}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			want, diags := Load(tree, opts)
			if want == nil {
				t.Fatal(diags)
			}
			got, diags := Load(formatted, opts)
			if got == nil {
				t.Fatal(diags)
			}
			if d := cmp.Diff(meaning(want), meaning(got)); d != "" {
				t.Errorf("formatting changes what it means (-was +is):\n%s", d)
			}
		})
	}
}

// mangled formats a file after its form has been spoilt, checks what always holds,
// and gives the result; a file that cannot be parsed as it is.
func mangled(t *testing.T, name string, src []byte) []byte {
	t.Helper()
	spoilt := []byte(strings.ReplaceAll(strings.ReplaceAll(string(src), " = ", "="), "\n  ", "\n"))
	if bytes.Contains(src, []byte("<<")) { // spaces are text there
		spoilt = src
	}
	once, diags := Format(spoilt, name)
	if diags.HasErrors() {
		return src
	}
	if twice, diags := Format(once, name); diags.HasErrors() || !bytes.Equal(once, twice) {
		t.Errorf("%s: formatted again it is another: %v\n%s", name, diags, cmp.Diff(string(once), string(twice)))
	}
	return once
}

// meaning is what a desired state says, without the places where it is written.
func meaning(d *Desired) any {
	type attr struct {
		Name, Value string
		Sensitive   bool
	}
	out := map[string][]any{}
	for _, r := range d.Resources {
		for _, a := range r.Attrs {
			out[r.Addr.String()] = append(out[r.Addr.String()], attr{a.Name, a.Value, a.Sensitive})
		}
		out[r.Addr.String()] = append(out[r.Addr.String()], r.References)
	}
	return []any{out, d.Variables}
}

func FuzzFormat(f *testing.F) {
	for _, src := range configCorpus(f, "../examples", "../testdata/valid", "../testdata/invalid") {
		if len(src) < 10_000 {
			f.Add(src)
		}
	}
	f.Add([]byte("a {\n  b = <<-E\n    x\n  ${\n1\n}\n  E\n}\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		was := bytes.Clone(src)
		once, diags := Format(src, "a.hcl")
		if !bytes.Equal(was, src) {
			t.Fatal("the source was written to")
		}
		if diags.HasErrors() {
			if strings.Contains(diags[0].Summary, "cannot be formatted") {
				t.Fatalf("what can be parsed cannot be formatted: %q", src)
			}
			return
		}
		twice, diags := Format(once, "a.hcl")
		if diags.HasErrors() {
			t.Fatalf("the formatted file is wrong: %v\n%s", diags, once)
		}
		if !bytes.Equal(once, twice) {
			t.Fatalf("formatted again it is another:\n%s\n---\n%s", once, twice)
		}
	})
}
