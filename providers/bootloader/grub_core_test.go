package bootloader

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/schema"
)

// needGRUB gives the platforms whose modules this host's packages have.
func needGRUB(t *testing.T) []grubPlatform {
	t.Helper()
	providertest.Need(t, "grub-mkimage")
	var list []grubPlatform
	for _, p := range grubPlatforms()[:2] {
		providertest.NeedFile(t, "/usr/lib/grub/"+string(p.platform), p.pkg)
		list = append(list, p)
	}
	return list
}

// Two hosts with the same packages make the same core images, and so the same trees;
// nothing is left behind.
func TestGRUBCoresAreTheSameTwice(t *testing.T) {
	platforms := needGRUB(t)
	var trees []*tree
	for range 2 {
		b := newBench(t)
		d := b.grubSite()
		b.art.Loaders, b.loaders.made = nil, map[string]provider.Blob{}
		o := b.compiled(d).offers[provider.TreeKey{Subnet: lan}][0]
		trees = append(trees, o.tree)
		if left := b.scratch(); len(left) > 0 {
			t.Errorf("left in scratch: %q", left)
		}
	}
	if trees[0].id != trees[1].id {
		t.Errorf("trees %s and %s", trees[0].id, trees[1].id)
	}
	for _, p := range platforms {
		core, again := trees[0].file(p.core), trees[1].file(p.core)
		if core == nil || again == nil || core.digest != again.digest || core.size < 100_000 || core.size > 1_000_000 {
			t.Errorf("%s: %+v and %+v", p.core, core, again)
		}
	}
}

// scratch lists what is in the store's scratch space.
func (b *bench) scratch() []string {
	dir, err := b.content.Scratch("probe")
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.Remove(dir); err != nil {
		b.t.Fatal(err)
	}
	entries, err := os.ReadDir(strings.TrimSuffix(dir, dir[strings.LastIndexByte(dir, '/'):]))
	if err != nil {
		b.t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// A generation that is prepared again from its record needs neither tool nor modules,
// and has the same tree.
func TestGRUBOfflineNeedsNoTool(t *testing.T) {
	needGRUB(t)
	b := newBench(t)
	d := b.grubSite()
	b.art.Loaders, b.loaders.made = nil, map[string]provider.Blob{}
	in := b.input(d)
	x := b.prepareInput(loopedIn(t, in))
	defer x.Abort()
	boot := d.Bootloaders[0].Addr
	out := x.Outputs()[boot]
	b.loaders.made, b.loaders.seen = map[string]provider.Blob{}, map[string]imported{}
	t.Setenv("PATH", "")
	in.Offline, in.Blobs = true, map[schema.Addr]map[string]provider.Blob{boot: out.Blobs}
	y := b.prepareInput(in)
	defer y.Abort()
	for key, tree := range out.Trees {
		if again := y.Outputs()[boot].Trees[key]; again.ID != tree.ID {
			t.Errorf("%v: tree %s, was %s", key, again.ID, tree.ID)
		}
	}
}

// loopedIn moves the input's server to loopback.
func loopedIn(t *testing.T, in provider.Input) provider.Input {
	loopback(t, in.Want)
	return in
}

func TestGRUBWithoutTheTool(t *testing.T) {
	b := newBench(t)
	d := b.grubSite()
	clear(b.loaders.made)
	t.Setenv("PATH", "")
	_, err := b.compile(d)
	if err == nil || !strings.Contains(err.Error(), "bootloader.grub.menu: making core.0: grub-mkimage is not installed on this host; it is in the package grub-common") {
		t.Errorf("%v", err)
	}
	if _, err := b.compile(site()); err != nil {
		t.Errorf("nobody asked for GRUB: %v", err)
	}
}

// What the tool says is told: these modules are none.
func TestGRUBModulesThatAreNone(t *testing.T) {
	providertest.Need(t, "grub-mkimage")
	b := newBench(t)
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	if err := w.WriteHeader(&tar.Header{Name: "moddep.lst", Mode: 0o644, Size: 0}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	_, err := grubCore(t.Context(), b.content.Scratch, grubPlatforms()[0], "", &files)
	if err == nil || !strings.Contains(err.Error(), "grub-mkimage for i386-pc: exit status 1: ") {
		t.Errorf("%v", err)
	}
	if left := b.scratch(); len(left) > 0 {
		t.Errorf("left in scratch: %q", left)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := grubCore(ctx, b.content.Scratch, grubPlatforms()[0], "", bytes.NewReader(make([]byte, 1024))); err == nil || !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("cancelled: %v", err)
	}
}

// Whatever a tar holds, nothing is written outside the folder.
func FuzzGRUBModules(f *testing.F) {
	for _, name := range []string{"a.mod", "../a.mod", "/a.mod", "a/b.mod", "."} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: 1}); err != nil {
			f.Fatal(err)
		}
		w.Write([]byte("x"))
		w.Close()
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		folder := dir + "/modules"
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		err := unpackModules(folder, bytes.NewReader(b))
		entries, _ := os.ReadDir(dir)
		if len(entries) != 1 {
			t.Fatalf("%v: %v", err, entries)
		}
		inside, _ := os.ReadDir(folder)
		for _, e := range inside {
			if !e.Type().IsRegular() {
				t.Fatalf("%s is no file", e.Name())
			}
		}
	})
}
