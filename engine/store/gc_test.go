package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// shed is a store with a clock that the test moves.
type shed struct {
	*Store
	t     *testing.T
	shift time.Duration
}

func newShed(t *testing.T) *shed {
	h := &shed{t: t}
	h.Store = mustOpen(t, t.TempDir(), Options{Now: func() time.Time { return time.Now().Add(h.shift) }})
	return h
}

func (h *shed) put(content string) provider.Blob {
	h.t.Helper()
	b, err := h.Content().Put(h.t.Context(), strings.NewReader(content))
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

func recipe(name string) string { return "sha256:" + digest([]byte(name)) }

// build makes an artifact under a recipe, with a base of its own.
func (h *shed) build(name string) provider.Artifact {
	h.t.Helper()
	a := provider.Artifact{Recipe: recipe(name), Root: h.put(name + " root"), Kernel: h.put("shared kernel"), Initrd: h.put(name + " initrd"),
		Loaders: map[string]provider.Blob{provider.LoaderShim: h.put("shared shim")}}
	if err := h.Content().SetArtifact(a); err != nil {
		h.t.Fatal(err)
	}
	if err := h.Content().SetBase(recipe(name+" base"), h.put(name+" base")); err != nil {
		h.t.Fatal(err)
	}
	return a
}

// serve records a generation that uses the images.
func (h *shed) serve(images ...string) *Record {
	h.t.Helper()
	rec := &Record{Revision: "r", Trigger: TriggerCommit, Artifacts: map[string]provider.Artifact{},
		Files: Files{"large": []byte(strings.Repeat(strings.Join(images, ","), largeFile))}}
	for _, name := range images {
		a := h.build(name)
		rec.Artifacts[a.Recipe] = a
		rec.Bases = append(rec.Bases, recipe(name+" base"))
	}
	return mustRecord(h.t, h.Store, rec)
}

func (h *shed) collect(roots Roots) Report {
	h.t.Helper()
	rep, err := h.GC(h.t.Context(), roots)
	if err != nil {
		h.t.Fatal(err)
	}
	return rep
}

func (h *shed) want(numbers []uint64, images ...string) {
	h.t.Helper()
	var got []uint64
	for _, r := range h.List() {
		got = append(got, r.Number)
		if _, err := h.Get(r.Number); err != nil {
			h.t.Error(err)
		}
	}
	if diff := cmp.Diff(numbers, got); diff != "" {
		h.t.Error("generations", diff)
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		_, artifact := h.Content().Artifact(recipe(name))
		_, base := h.Content().Base(recipe(name + " base"))
		wanted := strings.Contains(strings.Join(images, " "), name)
		if artifact != wanted || base != wanted {
			h.t.Errorf("image %s: artifact %v, base %v; want %v", name, artifact, base, wanted)
		}
	}
}

func TestCollect(t *testing.T) {
	h := newShed(t)
	h.serve("a")
	h.serve("a", "b")
	h.serve("b")
	h.serve("c")
	stray := h.put("never recorded")
	if rep := h.collect(Roots{Keep: 4}); rep != (Report{}) {
		t.Errorf("everything is needed or young, and it removed %+v", rep)
	}
	h.shift = 2 * time.Hour
	rep := h.collect(Roots{Keep: 4})
	if want := (Report{Blobs: 1, Bytes: stray.Size}); rep != want {
		t.Errorf("collected %+v, want the stray blob", rep)
	}
	h.want([]uint64{1, 2, 3, 4}, "a b c")

	// Generation 1 goes, and a stays for generation 2.
	h.collect(Roots{Keep: 3})
	h.want([]uint64{2, 3, 4}, "a b c")
	// A machine is pinned to 2; nobody needs 3, but b is needed by 2.
	h.collect(Roots{Keep: 1, Generations: map[uint64]bool{2: true}})
	h.want([]uint64{2, 4}, "a b c")
	a, _ := h.Content().Artifact(recipe("a"))
	h.collect(Roots{Keep: 1, Digests: map[string]bool{a.Root.Digest: true}})
	h.want([]uint64{4}, "c")
	if !h.Content().Has(a.Root) || h.Content().Has(a.Initrd) || !h.Content().Has(a.Kernel) {
		t.Error("of a, the root under an overlay and the shared kernel are to stay")
	}
	rep = h.collect(Roots{Keep: 1})
	if want := (Report{Blobs: 1, Bytes: a.Root.Size}); rep != want {
		t.Errorf("then collected %+v, want the root of a", rep)
	}
	if rec := h.serve("d"); rec.Number != 5 {
		t.Errorf("the next generation is %d", rec.Number)
	}
	if rep := h.collect(Roots{Keep: 1}); rep.Records != 1 {
		t.Errorf("%+v", rep)
	}
	h.want([]uint64{5}, "d")
}

func TestCollectKeepsFiveByDefault(t *testing.T) {
	h := newShed(t)
	for range 7 {
		h.serve("a")
	}
	h.shift = 2 * time.Hour
	h.collect(Roots{})
	h.want([]uint64{3, 4, 5, 6, 7}, "a")
}

func TestCollectWaitsForBuilds(t *testing.T) {
	h := newShed(t)
	h.serve("a")
	h.serve("b")
	h.shift = 2 * time.Hour
	one, two := h.Content().Pin(), h.Content().Pin()
	one()
	one()
	if rep := h.collect(Roots{Keep: 1}); rep.Skipped == "" || rep.Records != 0 {
		t.Errorf("during a build: %+v", rep)
	}
	h.want([]uint64{1, 2}, "a b")
	two()
	h.collect(Roots{Keep: 1})
	h.want([]uint64{2}, "b")
}

// While it is not known what somebody needs, nobody's blobs go.
func TestCollectWhileSomethingIsUnknown(t *testing.T) {
	h := newShed(t)
	h.serve("a")
	h.serve("b")
	h.serve("b")
	h.shift = 2 * time.Hour
	if rep := h.collect(Roots{Keep: 1, Unknown: errors.New("a disk cannot be read")}); rep.Records != 2 || rep.Blobs+rep.Recipes != 0 || rep.Skipped != "a disk cannot be read" {
		t.Errorf("%+v", rep)
	}
	h.want([]uint64{3}, "a b")
	if rep := h.collect(Roots{Keep: 1}); rep.Skipped != "" {
		t.Errorf("%+v", rep)
	}
	h.want([]uint64{3}, "b")
}

// What no record mentions may be about to be recorded.
func TestCollectKeepsWhatIsNew(t *testing.T) {
	h := newShed(t)
	h.serve("a")
	h.build("b")
	h.shift = 59 * time.Minute
	h.collect(Roots{})
	h.want([]uint64{1}, "a b")
	h.shift = 61 * time.Minute
	h.collect(Roots{})
	h.want([]uint64{1}, "a")
	// Old content that is sealed now is new: what counts is the sealing.
	dir, err := h.Content().Scratch("x")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, []byte("old content"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	b, err := h.Content().Seal(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	h.shift = 0
	h.collect(Roots{})
	if !h.Content().Has(b) {
		t.Error("a file was collected right after it was sealed")
	}
}

func TestCollectDoesNotGuess(t *testing.T) {
	h := newShed(t)
	h.serve("a")
	h.serve("b")
	h.serve("c")
	h.shift = 2 * time.Hour
	if err := os.Truncate(h.recordPath(2), 10); err != nil {
		t.Fatal(err)
	}
	if _, err := h.GC(t.Context(), Roots{Keep: 2}); err == nil {
		t.Error("nobody knows what generation 2 needs, and blobs were collected")
	}
	if _, ok := h.Content().Artifact(recipe("b")); !ok {
		t.Error("b is gone")
	}
	h.collect(Roots{Keep: 1}) // the damaged one is not to be kept
	h.want([]uint64{3}, "c")
	if err := h.Damage(); err != nil {
		t.Errorf("a damaged record that is gone is still told: %v", err)
	}
}

// The current record is damaged, so the one before is served: it stays.
func TestCollectKeepsTheFallback(t *testing.T) {
	h := newShed(t)
	h.serve("a")
	h.serve("b")
	h.shift = 2 * time.Hour
	if err := os.Truncate(h.recordPath(2), 10); err != nil {
		t.Fatal(err)
	}
	_, _ = h.GC(t.Context(), Roots{Keep: 1})
	if got := mustCurrent(t, h.Store).Number; got != 1 {
		t.Fatalf("current is %d", got)
	}
	if _, ok := h.Content().Artifact(recipe("a")); !ok {
		t.Error("a is gone")
	}
}

func TestBuilt(t *testing.T) {
	h := newShed(t)
	if built, err := h.Content().Built(); err != nil || len(built) != 0 {
		t.Fatalf("an empty store: %v, %v", built, err)
	}
	a, b := h.build("a"), h.build("b")
	if err := h.Content().Remove(b.Initrd.Digest); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.dir, "recipes", "artifact", ".tmp123"), []byte("x"), fs.FileMode(0o644)); err != nil {
		t.Fatal(err)
	}
	built, err := h.Content().Built()
	if diff := cmp.Diff(map[string]string{a.Recipe: a.Root.Digest}, built); diff != "" || err != nil {
		t.Fatal(diff, err)
	}
	ro, err := OpenReadOnly(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ro.Content().Built(); err != nil || fmt.Sprint(again) != fmt.Sprint(built) {
		t.Fatal(again, err)
	}
}

// What was made of a machine's disk cannot be built again: it has a week to be named.
func TestCollectKeepsThePromoted(t *testing.T) {
	h := newShed(t)
	h.serve("a")
	kept := h.build("b")
	kept.Promoted = true
	if err := h.Content().SetArtifact(kept); err != nil {
		t.Fatal(err)
	}
	h.build("c")
	if a, ok, err := h.Content().ArtifactOf(kept.Root.Digest); err != nil || !ok || !reflect.DeepEqual(a, kept) {
		t.Errorf("%+v, %v, %v", a, ok, err)
	}
	h.shift = KeepPromoted - time.Minute
	h.collect(Roots{})
	for _, b := range blobsOf(kept) {
		if !h.Content().Has(b) {
			t.Errorf("%s went within the week", b.Digest)
		}
	}
	if h.Content().Has(provider.Blob{Digest: recipe("c root"), Size: 6}) {
		t.Error("what can be built again stayed")
	}
	h.shift = KeepPromoted + time.Minute
	h.collect(Roots{})
	if h.Content().Has(kept.Root) {
		t.Error("it stayed after the week")
	}
	if _, ok, err := h.Content().ArtifactOf(kept.Root.Digest); err != nil || ok {
		t.Errorf("its recipe stayed, %v", err)
	}
}

// An image is served as what the record says, whatever recipe it had.
func TestCollectKeepsTheImagesOfARecord(t *testing.T) {
	h := newShed(t)
	a := h.build("a")
	mustRecord(t, h.Store, &Record{Revision: "r", Trigger: TriggerCommit,
		Images: map[schema.Addr]provider.Artifact{{Kind: "image", Name: "arch"}: a}})
	h.shift = 2 * time.Hour
	h.collect(Roots{Keep: 1})
	for _, b := range blobsOf(a) {
		if !h.Content().Has(b) {
			t.Errorf("%s is gone", b.Digest)
		}
	}
	if got := mustCurrent(t, h.Store).Images[schema.Addr{Kind: "image", Name: "arch"}]; !reflect.DeepEqual(got, a) {
		t.Errorf("the record has %+v, want %+v", got, a)
	}
}

// The boot programs of an artifact went although the artifact stayed, and its next
// generation could not be made.
func TestCollectTookTheLoaders(t *testing.T) {
	h := newShed(t)
	a := h.build("a")
	a.Loaders = map[string]provider.Blob{provider.LoaderShim: h.put("shim"), provider.LoaderGRUBPrefix + "i386-pc": h.put("modules")}
	if err := h.Content().SetArtifact(a); err != nil {
		t.Fatal(err)
	}
	collect := func() {
		h.shift += 2 * time.Hour
		h.collect(Roots{Keep: 1})
	}
	// The recipe is kept for being young once, and for the record's sake ever after.
	h.collect(Roots{Keep: 1})
	mustRecord(t, h.Store, &Record{Revision: "r", Trigger: TriggerCommit, Artifacts: map[string]provider.Artifact{a.Recipe: a}})
	collect()
	if got, ok := h.Content().Artifact(a.Recipe); !ok || !reflect.DeepEqual(got, a) {
		t.Errorf("the recipe gives %+v, %v", got, ok)
	}
	for name, b := range a.Loaders {
		if !h.Content().Has(b) {
			t.Errorf("%s is gone", name)
		}
	}
	if err := h.Content().Remove(a.Loaders[provider.LoaderShim].Digest); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.Content().Artifact(a.Recipe); ok {
		t.Error("an artifact without its shim counts as there")
	}
	mustRecord(t, h.Store, &Record{Revision: "r", Trigger: TriggerCommit})
	collect()
	if modules := a.Loaders[provider.LoaderGRUBPrefix+"i386-pc"]; h.Content().Has(modules) {
		t.Error("nothing needs the modules any more, and they stay")
	}
}

// Records of programs that knew nothing of it say nothing of it.
func TestArtifactOfAnOlderProgram(t *testing.T) {
	h := newShed(t)
	a := h.build("a")
	old := fmt.Sprintf(`{"recipe":%q,"root":{"digest":%q,"size":%d},"kernel":{"digest":%q,"size":%d},"initrd":{"digest":%q,"size":%d},"kernel_version":"6.1","filesystem":"ext4"}`,
		a.Recipe, a.Root.Digest, a.Root.Size, a.Kernel.Digest, a.Kernel.Size, a.Initrd.Digest, a.Initrd.Size)
	file := filepath.Join(h.dir, "recipes", "artifact", strings.TrimPrefix(a.Recipe, "sha256:")+".json")
	if err := os.WriteFile(file, []byte(old), 0o644); err != nil {
		t.Fatal(err)
	}
	want := provider.Artifact{Recipe: a.Recipe, Root: a.Root, Kernel: a.Kernel, Initrd: a.Initrd, KernelVersion: "6.1", Filesystem: "ext4"}
	if got, ok := h.Content().Artifact(a.Recipe); !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, ok)
	}
}

// A process that is killed while it writes a recipe must leave its work where the
// next start sweeps, not among the recipes.
func TestRecipeIsNotWrittenAmongTheRecipes(t *testing.T) {
	h := newShed(t)
	h.build("a") // makes the folders
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, filepath.Join(h.dir, "recipes", "artifact"), unix.IN_CREATE); err != nil {
		t.Fatal(err)
	}
	h.build("b")
	if n, err := unix.Read(fd, make([]byte, 4096)); n > 0 || err != unix.EAGAIN {
		t.Errorf("a file was made in the folder of recipes (%d bytes of events, %v)", n, err)
	}
	if _, ok := h.Content().Artifact(recipe("b")); !ok {
		t.Error("the recipe is not there")
	}
}
