package plan_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/schema"
)

var update = flag.Bool("update", false, "write the plans of the stories instead of comparing them")

// story is story.json: what a repo does not say.
type story struct {
	Generation uint64                 `json:"generation"`
	Artifacts  map[string]string      `json:"artifacts"` // that are served, by image
	Built      map[string]string      `json:"built"`     // that are in the store beside those, by image as it is wanted
	Lost       []string               `json:"lost"`      // that are not in the store, by image
	Kernels    map[string]plan.Kernel `json:"kernels"`   // what is known of kernels, by image as it is wanted
	Dirty      bool                   `json:"dirty"`     // an edited work tree is planned
	Targets    []schema.Addr          `json:"targets"`   // what is looked at
	Markdown   bool                   `json:"markdown"`  // there is a plan.md too
	Variables  []plan.VariableChange  `json:"variables"` // sensitive ones that have other values now
}

// TestStories plays the stories of testdata/plans. One is a txtar archive of the
// repo that is applied (applied/, may be left out), the repo as it is wanted
// (want/), story.json and observed.json; plan.txt, plan.json and, where the story asks
// for it, plan.md are what must come out. To write those: go test ./engine/plan -run TestStories -update
func TestStories(t *testing.T) {
	for _, file := range storyFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { play(t, file) })
	}
}

func storyFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "testdata", "plans", "*.txtar"))
	if err != nil || len(files) < 40 {
		t.Fatalf("%d stories, %v", len(files), err)
	}
	return files
}

func play(t *testing.T, file string) {
	ar, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s, in, golden := read(t, ar)
	p := plan.Compute(in)
	got := map[string]string{"plan.txt": asText(t, p), "plan.json": asJSON(t, p)}
	if md := asMarkdown(t, p); s.Markdown {
		got["plan.md"] = md
	}

	// The order in which things were observed does not matter.
	slices.Reverse(in.Observations)
	if again := asJSON(t, plan.Compute(in)); again != got["plan.json"] {
		t.Errorf("the order of the observations shows:\n%s", cmp.Diff(got["plan.json"], again))
	}
	settle(t, in)

	if *update {
		ar.Files = slices.DeleteFunc(ar.Files, func(f txtar.File) bool { _, ok := got[f.Name]; return ok })
		for _, name := range slices.Sorted(maps.Keys(got)) {
			ar.Files = append(ar.Files, txtar.File{Name: name, Data: []byte(got[name])})
		}
		if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for name, text := range got {
		if d := cmp.Diff(golden[name], text); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// read makes the input of a plan from an archive.
func read(t *testing.T, ar *txtar.Archive) (s story, in plan.Input, golden map[string]string) {
	t.Helper()
	golden = map[string]string{}
	trees := map[string]fstest.MapFS{"want": {}}
	for _, f := range ar.Files {
		dir, name, _ := strings.Cut(f.Name, "/")
		switch {
		case dir == "applied" || dir == "want":
			if trees[dir] == nil {
				trees[dir] = fstest.MapFS{}
			}
			trees[dir][name] = &fstest.MapFile{Data: f.Data}
		case f.Name == "story.json":
			dec := json.NewDecoder(bytes.NewReader(f.Data))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&s); err != nil {
				t.Fatalf("story.json: %v", err)
			}
		case f.Name == "observed.json":
			obs, err := plan.ReadObserved(bytes.NewReader(f.Data))
			if err != nil {
				t.Fatal(err)
			}
			in.Observations = obs
		case f.Name == "plan.txt" || f.Name == "plan.json" || f.Name == "plan.md":
			golden[f.Name] = string(f.Data)
		default:
			t.Fatalf("what is %s?", f.Name)
		}
	}
	if !s.Dirty {
		rev := strings.Repeat("0123456789abcdef", 3)[:40]
		in.Revision = &rev
	}
	in.Want = load(t, trees["want"])
	in.Built = map[string]string{}
	if trees["applied"] != nil {
		in.Applied = &plan.Applied{Generation: s.Generation, Revision: strings.Repeat("0", 40), Desired: load(t, trees["applied"]), Artifacts: map[string]string{}, Variables: s.Variables}
		for _, im := range in.Applied.Desired.Images {
			digest, ok := s.Artifacts[im.Addr.String()]
			if !ok {
				t.Fatalf("story.json does not say which artifact is served for %s", im.Addr)
			}
			in.Applied.Artifacts[im.Recipe] = digest
			if !slices.Contains(s.Lost, im.Addr.String()) {
				in.Built[im.Recipe] = digest
			}
		}
	}
	for _, im := range in.Want.Images {
		if digest, ok := s.Built[im.Addr.String()]; ok {
			in.Built[im.Recipe] = digest
		}
		if k, ok := s.Kernels[im.Addr.String()]; ok {
			if in.Kernels == nil {
				in.Kernels = map[string]plan.Kernel{}
			}
			in.Kernels[im.Recipe] = k
		}
	}
	in.Targets = s.Targets
	return s, in, golden
}

func load(t *testing.T, tree fs.FS) *schema.Desired {
	t.Helper()
	d, diags := schema.Load(tree, schema.Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return d
}

// settle checks that a plan that was carried out leaves nothing to do.
func settle(t *testing.T, in plan.Input) {
	t.Helper()
	done := plan.Input{Want: in.Want, Observations: in.Observations, Built: map[string]string{},
		Applied: &plan.Applied{Generation: 9, Desired: in.Want, Artifacts: map[string]string{}}}
	for _, im := range in.Want.Images {
		digest := in.Built[im.Recipe]
		if digest == "" {
			digest = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(im.Recipe)))
		}
		if im.Sealed != nil {
			digest = im.Sealed.Digest
		}
		done.Applied.Artifacts[im.Recipe], done.Built[im.Recipe] = digest, digest
	}
	if p := plan.Compute(done); len(p.Changes) != 0 {
		t.Errorf("applied, and there is more to do:\n%s", asText(t, p))
	}
}

func asText(t *testing.T, p *plan.Plan) string {
	t.Helper()
	var b strings.Builder
	if err := p.Text(&b, plan.TextOptions{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func asMarkdown(t *testing.T, p *plan.Plan) string {
	t.Helper()
	var b strings.Builder
	if err := p.Markdown(&b, plan.MarkdownOptions{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func asJSON(t *testing.T, p *plan.Plan) string {
	t.Helper()
	b, err := p.JSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
