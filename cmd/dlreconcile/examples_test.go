package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

var update = flag.Bool("update", false, "rewrite golden files")

const (
	examplesDir = "../../examples"
	storiesDir  = "../../testdata/examples"
)

// exampleStory is story.json of a story in testdata/examples/EXAMPLE.
type exampleStory struct {
	Generation uint64            `json:"generation"` // that serves the example as it stands; 0: nothing is served
	Artifacts  map[string]string `json:"artifacts"`  // that it serves, by image
	Edits      []exampleEdit     `json:"edits"`      // what makes of the example what is planned
	Args       []string          `json:"args"`       // of plan, beside those that say where everything is
	Exit       int               `json:"exit"`       // of plan
	// Targets has only these shown, of a plan that is too long to keep. The whole, and
	// its JSON, are kept by their digests.
	Targets []string `json:"targets"`
}

// exampleEdit is an edit of one file.
type exampleEdit struct {
	File string `json:"file"`
	Old  string `json:"old"`  // must be there once
	New  string `json:"new"`  // stands there then
	Drop string `json:"drop"` // instead: every line that has this is taken out
}

// Every example is planned by the program itself, from nothing, and then edited in
// some way while it is served. A story says how; with -update its plans are written.
func TestExamplesArePlanned(t *testing.T) {
	for _, name := range exampleNames(t) {
		stories, err := filepath.Glob(filepath.Join(storiesDir, name, "*.txtar"))
		if err != nil {
			t.Fatal(err)
		}
		have := map[string]bool{}
		for _, file := range stories {
			story := strings.TrimSuffix(filepath.Base(file), ".txtar")
			have[story] = true
			t.Run(name+"/"+story, func(t *testing.T) { playExample(t, name, file) })
		}
		for _, must := range []string{"first", "edit", "removal"} {
			if !have[must] {
				t.Errorf("example %s has no story of the %s", name, must)
			}
		}
	}
}

// Each example is written as fmt writes it, says for whom it is, and can be tried as
// its README says.
func TestExamplesAreInOrder(t *testing.T) {
	for _, name := range exampleNames(t) {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(examplesDir, name)
			readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
			if err != nil {
				t.Fatal(err)
			}
			for _, must := range []string{"dlreconcile plan", "What to change"} {
				if !strings.Contains(string(readme), must) {
					t.Errorf("its README does not say %q", must)
				}
			}
			var out, errs strings.Builder
			if code := run(t.Context(), streams{in: strings.NewReader(""), out: &out, err: &errs}, []string{"fmt", "--check", "--recursive", dir}); code != exitOK {
				t.Errorf("fmt --check: exit %d\n%s%s", code, out.String(), errs.String())
			}
		})
	}
}

func exampleNames(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(examplesDir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if len(names) < 2 {
		t.Fatalf("examples: %q", names)
	}
	return names
}

// exampleFiles reads the files of an example, by path.
func exampleFiles(t *testing.T, name string) map[string]string {
	t.Helper()
	files := map[string]string{}
	tree := os.DirFS(filepath.Join(examplesDir, name))
	err := fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(tree, path)
		files[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func playExample(t *testing.T, name, file string) {
	ar, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s exampleStory
	var observed []plan.Observation
	golden := map[string]string{}
	for _, f := range ar.Files {
		switch f.Name {
		case "story.json":
			dec := json.NewDecoder(bytes.NewReader(f.Data))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&s); err != nil {
				t.Fatalf("story.json: %v", err)
			}
		case "observed.json":
			if observed, err = plan.ReadObserved(bytes.NewReader(f.Data)); err != nil {
				t.Fatal(err)
			}
		case "plan.txt", "plan.json", "whole.txt", "errors.txt":
			golden[f.Name] = string(f.Data)
		default:
			t.Fatalf("what is %s?", f.Name)
		}
	}

	// The files are those of a work tree with edits, so that the plan names no commit.
	repo, files := t.TempDir(), exampleFiles(t, name)
	if err := source.Init(repo); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Commit(repo, map[string]string{"README.md": "A site.\n"}, "example"); err != nil {
		t.Fatal(err)
	}
	lay := func(files map[string]string) {
		for path, text := range files {
			at := filepath.Join(repo, filepath.FromSlash(path))
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	lay(files)
	args := append([]string{"plan", "--repo", repo, "--state", filepath.Join(repo, "none"), "--config", os.DevNull}, s.Args...)
	if s.Generation != 0 {
		args = append(args, "--observed", observedFile(t, os.DirFS(repo), s, observed))
	}
	for _, e := range s.Edits {
		files[e.File] = e.apply(t, files[e.File])
	}
	lay(files)

	got := map[string]string{}
	planned := func(more ...string) string {
		t.Helper()
		var out, errs strings.Builder
		code := run(t.Context(), streams{in: strings.NewReader(""), out: &out, err: &errs}, slices.Concat(args, more))
		if code != s.Exit {
			t.Fatalf("plan: exit %d, want %d\n%s%s", code, s.Exit, out.String(), errs.String())
		}
		got["errors.txt"] = errs.String()
		// That its files are edits is said of every plan, and no part of any story.
		if note, rest, _ := strings.Cut(errs.String(), "\n"); strings.Contains(note, "uncommitted file") {
			got["errors.txt"] = rest
		} else if code != exitInvalid {
			t.Errorf("nothing says that the plan is of no commit:\n%s", errs.String())
		}
		return out.String()
	}
	text, doc := planned(), planned("--json")
	if len(s.Targets) == 0 {
		got["plan.txt"], got["plan.json"] = text, doc
	} else {
		got["whole.txt"] = fmt.Sprintf("%s\ntext: %d lines, sha256:%x\njson: %d lines, sha256:%x\n", ending(text),
			strings.Count(text, "\n"), sha256.Sum256([]byte(text)), strings.Count(doc, "\n"), sha256.Sum256([]byte(doc)))
		var shown []string
		for _, a := range s.Targets {
			shown = append(shown, "--target", a)
		}
		got["plan.txt"] = planned(shown...)
	}

	if *update {
		ar.Files = slices.DeleteFunc(ar.Files, func(f txtar.File) bool { return f.Name != "story.json" && f.Name != "observed.json" })
		for _, name := range []string{"errors.txt", "whole.txt", "plan.txt", "plan.json"} {
			if got[name] != "" {
				ar.Files = append(ar.Files, txtar.File{Name: name, Data: []byte(got[name])})
			}
		}
		if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for name, text := range got {
		if d := cmp.Diff(golden[name], text); d != "" {
			t.Errorf("%s is another (-want +got); run with -update and read the difference:\n%s", name, d)
		}
	}
}

// ending is what a plan says after its changes: warnings, denials and counts.
func ending(text string) string {
	parts := strings.Split(strings.TrimRight(text, "\n"), "\n\n")
	i := slices.IndexFunc(parts, func(p string) bool {
		for _, word := range []string{"Warning: ", "Refused: ", "Denied: ", "Waits for: ", "Plan: ", "No changes"} {
			if strings.HasPrefix(p, word) {
				return true
			}
		}
		return false
	})
	if i < 0 {
		i = len(parts) - 1
	}
	return strings.Join(parts[i:], "\n\n") + "\n"
}

func (e *exampleEdit) apply(t *testing.T, text string) string {
	t.Helper()
	if e.Drop == "" {
		if strings.Count(text, e.Old) != 1 {
			t.Fatalf("%s has %q %d times, want once", e.File, e.Old, strings.Count(text, e.Old))
		}
		return strings.Replace(text, e.Old, e.New, 1)
	}
	lines := strings.SplitAfter(text, "\n")
	kept := slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return strings.Contains(l, e.Drop) })
	if len(kept) == len(lines) {
		t.Fatalf("%s has no line with %q", e.File, e.Drop)
	}
	return strings.Join(kept, "")
}

// observedFile writes what `dlreconcile status --observed` would of a daemon that
// serves tree.
func observedFile(t *testing.T, tree fs.FS, s exampleStory, seen []plan.Observation) string {
	t.Helper()
	d, diags := schema.Load(tree, schema.Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	rec := &store.Record{Number: s.Generation, Revision: strings.Repeat("0", 40), Trigger: store.TriggerCommit,
		Artifacts: map[string]provider.Artifact{}, Images: map[schema.Addr]provider.Artifact{}}
	if err := rec.TakeFiles(tree, d, schema.Options{}); err != nil {
		t.Fatal(err)
	}
	o := engine.Observed{Record: rec, Built: map[string]string{}, Observations: seen}
	for _, im := range d.Images {
		digest, ok := s.Artifacts[im.Addr.String()]
		if !ok {
			t.Fatalf("story.json does not say which artifact is served for %s", im.Addr)
		}
		a := provider.Artifact{Recipe: im.Recipe, Root: provider.Blob{Digest: digest}, Filesystem: im.Filesystem.Type}
		rec.Artifacts[im.Recipe], rec.Images[im.Addr], o.Built[im.Recipe] = a, a, digest
	}
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "observed.json")
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// What archwiki and its Debian have in common is written the same, so that booting
// one says something of the other.
func TestArchWikiIsOneSite(t *testing.T) {
	arch, debian := exampleFiles(t, "archwiki"), exampleFiles(t, "archwiki-debian")
	for _, file := range []string{"site.hcl", "boot.hcl"} {
		if d := cmp.Diff(arch[file], debian[file]); d != "" {
			t.Errorf("%s (-archwiki +archwiki-debian):\n%s", file, d)
		}
	}
}
