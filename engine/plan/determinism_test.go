package plan_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/tools/txtar"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/schema"
)

// forms gives every form of a plan as one text.
func forms(t *testing.T, in plan.Input) string {
	t.Helper()
	p := plan.Compute(in)
	return asJSON(t, p) + asText(t, p) + asMarkdown(t, p)
}

// Each story gives the same bytes a hundred times, whatever the order of maps, files,
// lists and observations, and however many processors there are.
func TestStoriesAreDeterministic(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(procs) })
	for _, file := range storyFiles(t) {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, in, _ := read(t, ar)
		want := forms(t, in)
		for n := range 100 {
			rnd := rand.New(rand.NewPCG(uint64(n), 1))
			if n%25 == 0 { // it stops the world
				runtime.GOMAXPROCS(1 + n/25)
			}
			again := in
			if n%20 == 19 { // from the files, in another order
				shuffled := *ar
				shuffled.Files = slices.Clone(ar.Files)
				shuffle(rnd, shuffled.Files)
				_, again, _ = read(t, &shuffled)
			}
			again.Want = mixed(rnd, again.Want)
			if again.Applied != nil {
				applied := *again.Applied
				applied.Desired = mixed(rnd, applied.Desired)
				again.Applied = &applied
			}
			again.Observations = slices.Clone(again.Observations)
			shuffle(rnd, again.Observations)
			if got := forms(t, again); got != want {
				t.Fatalf("%s, run %d: another plan:\n%s\nwant:\n%s", filepath.Base(file), n, got, want)
			}
		}
	}
}

func shuffle[T any](rnd *rand.Rand, list []T) {
	rnd.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
}

// mixed copies a desired state with its lists in another order, but for those in which
// schema itself looks things up.
func mixed(rnd *rand.Rand, d *schema.Desired) *schema.Desired {
	out := *d
	out.Resources = slices.Clone(d.Resources)
	for i := range out.Resources {
		out.Resources[i].Attrs = slices.Clone(out.Resources[i].Attrs)
		shuffle(rnd, out.Resources[i].Attrs)
	}
	shuffle(rnd, out.Resources)
	out.Images = shuffledCopy(rnd, d.Images)
	out.Exports = shuffledCopy(rnd, d.Exports)
	out.Entries = shuffledCopy(rnd, d.Entries)
	out.Bootloaders = shuffledCopy(rnd, d.Bootloaders)
	out.Subnets = shuffledCopy(rnd, d.Subnets)
	out.Hosts = shuffledCopy(rnd, d.Hosts)
	out.Moved = shuffledCopy(rnd, d.Moved)
	return &out
}

func shuffledCopy[T any](rnd *rand.Rand, list []T) []T {
	out := slices.Clone(list)
	shuffle(rnd, out)
	return out
}

// digestEnv has the test binary print the digest of all stories' plans, and nothing
// else.
const digestEnv = "DLRECONCILE_TEST_PLAN_DIGEST"

// The plans are the same bytes in every time zone and language.
func TestEnvironmentDoesNotShow(t *testing.T) {
	var all strings.Builder
	for _, file := range storyFiles(t) {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, in, _ := read(t, ar)
		all.WriteString(forms(t, in))
	}
	digest := fmt.Sprintf("digest %x\n", sha256.Sum256([]byte(all.String())))
	if os.Getenv(digestEnv) != "" {
		fmt.Print(digest)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, env := range [][]string{
		{"TZ=Pacific/Kiritimati", "LC_ALL=tr_TR.UTF-8", "LANG=tr_TR.UTF-8", "GOMAXPROCS=1"},
		{"TZ=America/St_Johns", "LC_ALL=C", "GOMAXPROCS=8", "HOSTNAME=elsewhere", "NO_COLOR=1", "COLUMNS=40"},
		{"TZ=UTC", "LC_ALL=de_DE.ISO-8859-1", "GOMAXPROCS=2", "GODEBUG=randautoseed=0", "HOME=/nonexistent"},
	} {
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestEnvironmentDoesNotShow$")
		cmd.Env = append(append(os.Environ(), digestEnv+"=1"), env...)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), digest) {
			t.Errorf("%q: %v\n%s, want %s", env, err, out, digest)
		}
	}
}

// The order in which a file system lists a folder does not show.
func TestFileOrderDoesNotShow(t *testing.T) {
	tree := fstest.MapFS{}
	for n, text := range []string{"image \"debian\" {\n  debootstrap {\n    suite = \"bookworm\"\n    packages = [\"linux-image-amd64\", \"nbd-client\"]\n  }\n  filesystem \"squashfs\" {}\n}\n",
		"server \"main\" {\n  address = \"10.0.0.1\"\n}\n", "export \"nbd\" \"debian\" {\n  image = image.debian\n}\n", "locals {\n  a = 1\n}\n",
		"entry \"debian\" {\n  image = image.debian\n  root = export.nbd.debian\n}\n"} {
		tree[fmt.Sprintf("%c.hcl", 'a'+n)] = &fstest.MapFile{Data: []byte(text)}
	}
	want := forms(t, plan.Input{Want: load(t, tree)})
	for n := range 20 {
		if got := forms(t, plan.Input{Want: load(t, listed{tree, rand.New(rand.NewPCG(uint64(n), 2))})}); got != want {
			t.Fatalf("another plan:\n%s\nwant:\n%s", got, want)
		}
	}
}

// listed lists folders in any order.
type listed struct {
	fstest.MapFS
	rnd *rand.Rand
}

func (l listed) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := l.MapFS.ReadDir(name)
	shuffle(l.rnd, list)
	return list, err
}
