package schema

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

const folderImage = "image \"a\" {\n directory {\n path = \"root\"\n }\n filesystem \"squashfs\" {}\n}\n"

// TestFolderDigest changes one thing in a folder at a time, and says whether the
// image made of it is another one.
func TestFolderDigest(t *testing.T) {
	tree := func(change func(fstest.MapFS)) fstest.MapFS {
		fsys := files("a.hcl", folderImage, "root/etc/motd", "hello\n", "root/usr/bin/x", "#!/bin/sh\n", "rooted/y", "y")
		fsys["root/usr/bin/x"].Mode = 0o755
		fsys["root/etc/motd"].Mode = 0o644
		fsys["root/bin"] = &fstest.MapFile{Data: []byte("usr/bin"), Mode: fs.ModeSymlink | 0o777}
		change(fsys)
		return fsys
	}
	load := func(change func(fstest.MapFS)) *Desired { return mustLoad(t, tree(change), Options{}) }
	was := load(func(fstest.MapFS) {})
	if got := was.Files; len(got) != 2 || got[1].Path != "root/" || got[1].Config || got[1].Size != 16 || got[1].Digest != was.Images[0].Directory.Digest {
		t.Errorf("%+v", got)
	}
	for name, c := range map[string]struct {
		change func(fstest.MapFS)
		other  bool
	}{
		"bytes":            {func(f fstest.MapFS) { f["root/etc/motd"].Data = []byte("hullo\n") }, true},
		"a file more":      {func(f fstest.MapFS) { f["root/etc/issue"] = &fstest.MapFile{} }, true},
		"a file less":      {func(f fstest.MapFS) { delete(f, "root/etc/motd") }, true},
		"a file moved":     {func(f fstest.MapFS) { f["root/etc/motd2"] = f["root/etc/motd"]; delete(f, "root/etc/motd") }, true},
		"executable":       {func(f fstest.MapFS) { f["root/etc/motd"].Mode = 0o755 }, true},
		"link leads else":  {func(f fstest.MapFS) { f["root/bin"].Data = []byte("usr/sbin") }, true},
		"link made a file": {func(f fstest.MapFS) { f["root/bin"].Mode = 0o644 }, true},
		// What Git does not keep is not in it, or a work tree would differ from its commit.
		"other permissions": {func(f fstest.MapFS) { f["root/etc/motd"].Mode = 0o600; f["root/usr/bin/x"].Mode = 0o700 }, false},
		"an empty folder":   {func(f fstest.MapFS) { f["root/srv"] = &fstest.MapFile{Mode: fs.ModeDir | 0o755} }, false},
		"outside of it":     {func(f fstest.MapFS) { f["rooted/y"].Data = nil }, false},
	} {
		is := load(c.change).Images[0]
		if got := is.BaseRecipe != was.Images[0].BaseRecipe; got != c.other || got != (is.Directory.Digest != was.Images[0].Directory.Digest) {
			t.Errorf("%s: another image: %t, want %t", name, got, c.other)
		}
	}
	// The same folder elsewhere is the same image, and one folder is hashed once.
	moved := strings.ReplaceAll(folderImage, `"root"`, `"copy"`) + strings.Replace(folderImage, `"a"`, `"b"`, 1) + strings.Replace(folderImage, `"a"`, `"c"`, 1)
	two := load(func(f fstest.MapFS) {
		f["a.hcl"].Data = []byte(moved)
		for _, p := range []string{"etc/motd", "usr/bin/x", "bin"} {
			f["copy/"+p] = f["root/"+p]
		}
	})
	for _, im := range two.Images {
		if im.Recipe != was.Images[0].Recipe {
			t.Errorf("%s is another image than before", im.Addr)
		}
	}
	if len(two.Files) != 3 {
		t.Errorf("%+v", two.Files)
	}
	if want := "sha256:cf8a6722"; !strings.HasPrefix(was.Images[0].Directory.Digest, want) {
		t.Errorf("the digest of this folder was %s…, and is %s: images of folders would be built again, everywhere", want, was.Images[0].Directory.Digest)
	}
}

// TestFolderOffline loads without the folder, as a generation is loaded again.
func TestFolderOffline(t *testing.T) {
	d := mustLoad(t, files("a.hcl", folderImage, "root/x", "x"), Options{})
	kept := map[string]File{}
	for _, f := range d.Files {
		kept[f.Path] = f
	}
	again := mustLoad(t, files("a.hcl", folderImage), Options{Digests: kept})
	if again.Images[0].Recipe != d.Images[0].Recipe {
		t.Error("another recipe")
	}
	// A recorded folder is no file, and a recorded file no folder.
	mustFail(t, files("a.hcl", strings.Replace(folderImage, "directory", "tar", 1)), Options{Digests: kept})
	kept = map[string]File{"root": {Path: "root", Digest: d.Files[1].Digest}}
	mustFail(t, files("a.hcl", folderImage), Options{Digests: kept})
}

func TestFolderRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(fstest.MapFS)
		want   string
	}{
		"nothing in it": {func(f fstest.MapFS) {
			f["root/etc"] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
		}, `"root" holds no files`},
		"a device": {func(f fstest.MapFS) {
			f["root/dev/null"] = &fstest.MapFile{Mode: fs.ModeDevice | 0o666}
		}, `"root/dev/null" is neither a file nor a folder`},
		"too deep": {func(f fstest.MapFS) {
			f["root"+strings.Repeat("/a", maxFolderDepth+2)] = &fstest.MapFile{}
		}, `"root" is too deep`},
		"too many": {func(f fstest.MapFS) {
			for i := range maxFolderFiles + 1 {
				f[fmt.Sprintf("root/%d", i)] = &fstest.MapFile{}
			}
		}, "use too many files"},
	} {
		fsys := files("a.hcl", folderImage)
		c.change(fsys)
		if got := mustFail(t, fsys, Options{}); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestFolderOfWorkTree takes a folder of a real file system, where links lead out of
// it and a file cannot be read.
func TestFolderOfWorkTree(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "root"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.hcl"), []byte(folderImage), 0o600); err != nil {
		t.Fatal(err)
	}
	// Where a link leads is noted, and not followed: in the image it is another place.
	for link, to := range map[string]string{"passwd": "/etc/passwd", "up": "../../..", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(dir, "root", link)); err != nil {
			t.Fatal(err)
		}
	}
	d := mustLoad(t, os.DirFS(dir), Options{})
	if f := d.Files[1]; f.Path != "root/" || f.Size != 0 {
		t.Errorf("%+v", f)
	}
}
