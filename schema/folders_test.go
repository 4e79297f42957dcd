package schema

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFolders(t *testing.T) {
	tree := files(
		"site.hcl", "module \"a\" {\n  source = \"./modules/rack\"\n}\nmodule \"b\" {\n  source = \"modules/rack\"\n}\nmodule \"up\" {\n  source = \"../elsewhere\"\n}\nmodule \"none\" {\n  source = \"nowhere\"\n}\nmodule \"computed\" {\n  source = \"${var.x}/data\"\n}\nmodule \"file\" {\n  source = \"site.hcl\"\n}\n",
		"more.hcl.json", `{"module": {"c": {"source": "c"}}}`,
		"wrong.hcl", "module \"d\" {",
		"modules/rack/rack.hcl", "module \"inner\" {\n  source = \"./inner\"\n}\nmodule \"self\" {\n  source = \".\"\n}\n",
		"modules/rack/inner/inner.hcl", "",
		"modules/unused/unused.hcl", "",
		"c/c.hcl", "",
		"data/data.hcl", "",
		"env/lab.hcl", "",
	)
	want := []string{".", "c", "env", "modules/rack", "modules/rack/inner"}
	if d := cmp.Diff(want, Folders(tree)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"."}, Folders(files("site.hcl", "a = 1"))); d != "" {
		t.Errorf("of a wrong file (-want +got):\n%s", d)
	}
}

// A folder that is a symbolic link is none of the tree's.
func TestFoldersFollowNoLinks(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		filepath.Join(dir, "site.hcl"):      "module \"a\" {\n  source = \"./linked\"\n}\nmodule \"b\" {\n  source = \"./linked/sub\"\n}\n",
		filepath.Join(outside, "sub/a.hcl"): "",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{"linked", "env"} {
		if err := os.Symlink(outside, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff([]string{"."}, Folders(os.DirFS(dir))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
