package bootloader

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// equipping is a family of which only what it wants counts.
type equipping struct {
	family
	list []wanted
}

func (f equipping) wants(*schema.Bootloader) []wanted { return f.list }

// compilerOf is a compiler at work on one bootloader.
func (b *bench) compilerOf(in provider.Input, f family) (*compiler, *offer) {
	b.t.Helper()
	boot := in.Want.Bootloaders[0]
	c := &compiler{
		ctx: context.Background(), in: in, loaders: b.loaders, host: map[schema.Addr]programs{},
		equipped: map[equipment]equipped{}, refused: map[mistake]bool{},
	}
	var err error
	if c.host[boot.Addr], err = c.found(boot, f); err != nil {
		b.t.Fatal(err)
	}
	return c, &offer{boot: boot, family: f, arch: "amd64"}
}

// What the image's packages have comes before what this host's have, and what neither
// has is missed by those alone whom it could help.
func TestProgramsOfTheImageComeFirst(t *testing.T) {
	b := newBench(t)
	own := b.put("the image's shim")
	b.art.Loaders = map[string]provider.Blob{provider.LoaderShim: own, "": b.put("nothing")}
	if err := os.WriteFile(filepath.Join(b.dir, "host.efi"), []byte("the host's"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := equipping{list: []wanted{
		{name: "shim", image: provider.LoaderShim, paths: []string{"host.efi"}},
		{name: "host only", paths: []string{"none.efi", filepath.Join(b.dir, "host.efi")}},
		{name: "image has none", image: provider.LoaderPXELINUX, paths: []string{"host.efi"}},
		{name: "nowhere", paths: []string{"none"}, platform: schema.PlatformX64, pkg: "some"},
		{name: "nobody's", paths: []string{"none"}, platform: schema.PlatformARM64},
	}}
	c, o := b.compilerOf(b.input(site()), f)
	c.equip(o, &b.art)
	host := b.put("the host's")
	if d := cmp.Diff(programs{"shim": own, "host only": host, "image has none": host}, o.programs); d != "" {
		t.Error(d)
	}
	if len(o.lacks) != 1 || o.lacks[0].name != "nowhere" {
		t.Errorf("missed: %+v", o.lacks)
	}
	// Offline, the host counts as it was, whatever it has by now.
	in := b.input(site())
	in.Offline, in.Blobs = true, map[schema.Addr]map[string]provider.Blob{menu: c.host[menu]}
	if err := os.WriteFile(filepath.Join(b.dir, "host.efi"), []byte("a newer one"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, o = b.compilerOf(in, f)
	c.equip(o, &b.art)
	if o.programs["host only"] != host {
		t.Error("a generation that is prepared again has another program")
	}
}

// A folder of the host is one tar: the same as long as its files are the same.
func TestFolderOfPrograms(t *testing.T) {
	b := newBench(t)
	dir := filepath.Join(b.dir, "modules")
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("b.mod", "two")
	write("a.mod", "one")
	write("sub/c.mod", "not in it")
	load := func() provider.Blob {
		t.Helper()
		found, err := b.loaders.load(t.Context(), []wanted{{name: "m", paths: []string{"none", "modules"}, folder: true}, {name: "file", paths: []string{"modules/a.mod"}}})
		if err != nil || len(found) != 2 {
			t.Fatal(found, err)
		}
		return found["m"]
	}
	first := load()
	f, err := b.content.Open(first)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, got := tar.NewReader(f), []string{}
	for h, err := r.Next(); err == nil; h, err = r.Next() {
		text, _ := io.ReadAll(r)
		got = append(got, h.Name+" "+string(text))
	}
	if d := cmp.Diff([]string{"a.mod one", "b.mod two"}, got); d != "" {
		t.Error(d)
	}
	if again := load(); again != first {
		t.Error("the same files, another tar")
	}
	write("a.mod", "new")
	if load() == first {
		t.Error("another file, the same tar")
	}
	if _, err := b.loaders.load(t.Context(), []wanted{{name: "m", paths: []string{"modules"}}}); err == nil {
		t.Error("a folder is taken for a file")
	}
}

// What is made of a program is made once, recorded, and not made again for a
// generation that has it.
func TestMadePrograms(t *testing.T) {
	b := newBench(t)
	made := 0
	grind := func(_ context.Context, f *os.File) ([]byte, error) {
		made++
		p, err := io.ReadAll(f)
		return []byte(strings.ToUpper(string(p))), err
	}
	from := b.put("modules")
	c, o := b.compilerOf(b.input(site()), equipping{})
	one, ok := c.made(o, "core.0", from, grind)
	if !ok || one != b.put("MODULES") {
		t.Fatalf("%+v %v", one, c.err)
	}
	if again, _ := c.made(o, "core.0", from, grind); again != one || made != 1 {
		t.Errorf("made %d times", made)
	}
	if other, _ := c.made(o, "core.efi", from, grind); other != one || made != 2 {
		t.Error("another name is another program")
	}
	recorded := c.host[menu]
	c, o = b.compilerOf(b.input(site()), equipping{}) // the next generation
	if again, _ := c.made(o, "core.0", from, grind); again != one || made != 2 || c.host[menu]["core.0@"+provider.ShortDigest(from.Digest)] != one {
		t.Errorf("made %d times, recorded %v", made, c.host[menu])
	}
	// After a restart, without the tools.
	b.loaders.made = map[string]provider.Blob{}
	in := b.input(site())
	in.Offline, in.Blobs = true, map[schema.Addr]map[string]provider.Blob{menu: recorded}
	broken := func(context.Context, *os.File) ([]byte, error) { return nil, errors.New("no grub-mkimage") }
	c, o = b.compilerOf(in, equipping{})
	if again, ok := c.made(o, "core.0", from, broken); !ok || again != one {
		t.Errorf("offline: %+v %v", again, c.err)
	}
	if _, ok := c.made(o, "new", from, broken); ok || c.err == nil || !strings.Contains(c.err.Error(), "bootloader.ipxe.menu: making new: no grub-mkimage") {
		t.Errorf("%v", c.err)
	}
}

// A commit that would leave firmware of a kind without a boot program, because a
// package is gone, was applied and said nothing.
func TestMissingPackageIsRefused(t *testing.T) {
	b := newBench(t)
	b.Provider.loaders.dirs = []string{t.TempDir()}
	_, err := b.Prepare(t.Context(), b.input(site()))
	if err == nil || !strings.Contains(err.Error(), "bootloader.ipxe.menu has no ipxe.efi, snponly.efi, undionly.kpxe: install the package ipxe") {
		t.Errorf("%v", err)
	}
	var author hcl.Diagnostics
	if errors.As(err, &author) {
		t.Error("that is nothing that the author could mend")
	}
}
