package main

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/examples"
)

var update = flag.Bool("update", false, "rewrite golden files")

// Every example is a site that can be planned, and its plan is kept beside it.
func TestExamplesArePlanned(t *testing.T) {
	folders, err := fs.ReadDir(examples.FS, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		t.Run(f.Name(), func(t *testing.T) {
			files := map[string]string{}
			err := fs.WalkDir(examples.FS, f.Name(), func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				b, err := fs.ReadFile(examples.FS, path)
				files[strings.TrimPrefix(path, f.Name()+"/")] = string(b)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			repo, golden := t.TempDir(), filepath.Join("..", "..", "testdata", "examples", f.Name()+".plan")
			if err := source.Init(repo); err != nil {
				t.Fatal(err)
			}
			if _, err := source.Commit(repo, files, "example"); err != nil {
				t.Fatal(err)
			}
			var out, errs strings.Builder
			code := run(t.Context(), streams{in: strings.NewReader(""), out: &out, err: &errs},
				[]string{"plan", "--repo", repo, "--state", filepath.Join(repo, "none"), "--config", os.DevNull})
			if code != exitOK {
				t.Fatalf("plan: exit %d\n%s", code, errs.String())
			}
			if *update {
				if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), out.String()); diff != "" {
				t.Errorf("the plan is another (-want +got); run with -update and read the difference:\n%s", diff)
			}
		})
	}
}
