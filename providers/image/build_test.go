package image

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/klauspost/compress/zstd"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/schema"
)

// tarImage is an image from an archive in files.
func tarImage(files fstest.MapFS, archive []byte, edit func(*schema.Image)) *schema.Image {
	files["root.tar"] = &fstest.MapFile{Data: archive}
	return newImage("fake", func(i *schema.Image) {
		i.Source = schema.SourceTar
		i.Tar = &schema.Tar{Path: "root.tar", Digest: sha(archive)}
		i.Initramfs.Compress = "gzip"
		i.Filesystem = schema.Filesystem{Type: "ext4", Size: 64 << 20, Label: "fake"}
		// Where the attributes of a block stand, as Load says it.
		i.Attrs = map[string]schema.Range{}
		for n, attr := range []string{"tar.path", "filesystem.size", "timezone", "mask", "initramfs.modules", "initramfs.compress"} {
			i.Attrs[attr] = schema.Range{File: "site.hcl", Line: 10 + n, Column: 3}
		}
		if edit != nil {
			edit(i)
		}
	})
}

func prepare(t *testing.T, p *Provider, files fstest.MapFS, img *schema.Image, report func(provider.Progress)) (provider.Artifact, error) {
	t.Helper()
	txn, err := p.Prepare(t.Context(), provider.Input{Want: &schema.Desired{Images: []*schema.Image{img}}, Files: files, Progress: report})
	if err != nil {
		return provider.Artifact{}, err
	}
	txn.Commit()
	txn.Abort()
	return *txn.Outputs()[img.Addr].Artifact, nil
}

func fakeProvider(t *testing.T) *Provider {
	providertest.NeedRoot(t)
	return newProvider(t, Config{Program: busybox(t)})
}

// debugfs asks about a file in an ext4 image.
func debugfs(t *testing.T, img, request string) string {
	t.Helper()
	out, err := exec.Command("debugfs", "-R", request, img).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func blob(t *testing.T, p *Provider, b provider.Blob) string {
	t.Helper()
	path, err := p.Content.Path(b.Digest)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBuildFromTar(t *testing.T) {
	providertest.Need(t, "mke2fs", "debugfs", "e2fsck", "dumpe2fs")
	p := fakeProvider(t)
	files := fstest.MapFS{"motd": {Data: []byte("hello\n")}}
	img := tarImage(files, makeTar(t, fakeRoot(t)...), func(i *schema.Image) {
		i.Timezone, i.Keymap, i.Locale = "Europe/Berlin", "de", "de_DE.UTF-8"
		i.Mask = []string{"apt-daily.timer"}
		i.Initramfs.Modules = []string{"one_more"}
		i.Files = []*schema.ImageFile{
			{Path: "/etc/motd", Source: "motd", Digest: sha([]byte("hello\n")), Permissions: 0o640, Owner: 3, Group: 4},
			{Path: "/var/run/below/an/absolute/link", Content: "c", Permissions: 0o644},
			{Path: "/etc/resolv.conf", Symlink: "/run/resolv.conf"},
		}
	})
	var seen stages
	a, err := prepare(t, p, files, img, seen.report)
	if err != nil {
		t.Fatal(err)
	}
	noScratch(t, p.Content)
	if a.KernelVersion != fakeVersion || a.Filesystem != "ext4" || a.Root.Size != 64<<20 || a.Initrd.Size%4 != 0 || a.Recipe != img.Recipe {
		t.Errorf("artifact %+v", a)
	}
	if seen.count("mkinitramfs") < 2 || seen.count("mke2fs") == 0 || seen.count("unpack") == 0 || seen.count("seal") == 0 {
		t.Errorf("steps %v", seen.m)
	}
	root := blob(t, p, a.Root)
	if out, err := exec.Command("e2fsck", "-fn", root).CombinedOutput(); err != nil {
		t.Fatalf("e2fsck: %s", out)
	}
	for request, want := range map[string]string{
		"cat /etc/hostname":                                    "fake\n",
		"cat /etc/machine-id":                                  "",
		"cat /etc/timezone":                                    "Europe/Berlin\n",
		"cat /etc/default/locale":                              "LANG=de_DE.UTF-8\n",
		"cat /etc/vconsole.conf":                               "KEYMAP=de\n",
		"cat /etc/motd":                                        "hello\n",
		"cat /run/below/an/absolute/link":                      "c",
		"cat /usr/share/initramfs-tools/modules.d/dlreconcile": "# Written by dlreconcile: loaded at boot.\none_more\n",
	} {
		if got := debugfs(t, root, request); got != want {
			t.Errorf("%s: %q, want %q", request, got, want)
		}
	}
	for request, want := range map[string]string{
		"stat /etc/motd":                           "Mode:  0640",
		"stat /etc/motd ":                          "User:     3   Group:     4",
		"stat /etc/resolv.conf":                    `Fast link dest: "/run/resolv.conf"`,
		"stat /etc/localtime":                      `Fast link dest: "/usr/share/zoneinfo/Europe/Berlin"`,
		"stat /etc/systemd/system/apt-daily.timer": `Fast link dest: "/dev/null"`,
		"stat /etc/systemd/system/multi-user.target.wants/dlreconcile-phone-home.service": "Type: symlink",
		"stat /usr/lib/dlreconcile/phone-home":                                            "Mode:  0755",
		"stat /usr/bin/su":                                                                "Mode:  04755",
		"stat /usr/bin/ping":                                                              "Links: 2",
		"stat /srv/owned":                                                                 "User:  1000   Group:  1001",
		"ea_list /usr/bin/ping4":                                                          "security.capability (20)",
		"stat /":                                                                          "Mode:  0755",
		"stat /usr/share/zoneinfo/Europe/Berlin":                                          fmt.Sprintf("mtime: %#x", packed.Unix()),
		"stat /etc/hostname":                                                              fmt.Sprintf("mtime: %#x", packed.Unix()),
		"stat /var/lib/dbus/machine-id":                                                   `Fast link dest: "/etc/machine-id"`,
	} {
		if got := debugfs(t, root, request); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %q", request, got, want)
		}
	}
	for _, gone := range []string{"/boot/initrd.img-" + fakeVersion, "/var/lib/systemd/random-seed", "/dev/console", "/var/tmp/i", "/boot/initrd.img-dlreconcile"} {
		if out := debugfs(t, root, "stat "+gone); strings.Contains(out, "Inode:") {
			t.Errorf("%s is still there", gone)
		}
	}
	out, err := exec.Command("dumpe2fs", "-h", root).Output()
	if err != nil || !strings.Contains(string(out), "Filesystem volume name:   fake") || strings.Contains(string(out), "orphan_file") {
		t.Errorf("dumpe2fs: %v: %s", err, out)
	}

	// Known recipes are not built again; this one could not be.
	delete(files, "root.tar")
	again, err := prepare(t, p, files, img, nil)
	if err != nil || !reflect.DeepEqual(again, a) {
		t.Errorf("second time: %+v, %v", again, err)
	}
}

func TestSquashfsIsReproducible(t *testing.T) {
	providertest.Need(t, "mksquashfs", "unsquashfs")
	archive := makeTar(t, fakeRoot(t)...)
	var zst, gz bytes.Buffer
	z, _ := zstd.NewWriter(&zst)
	z.Write(archive)
	z.Close()
	g := gzip.NewWriter(&gz)
	g.Write(archive)
	g.Close()
	providertest.Need(t, "xz")
	xz := exec.Command("xz", "-c", "-0")
	xz.Stdin = bytes.NewReader(archive)
	xzOut, err := xz.Output()
	if err != nil {
		t.Fatal(err)
	}
	var first provider.Artifact
	for i, packing := range [][]byte{archive, gz.Bytes(), zst.Bytes(), xzOut} {
		p := fakeProvider(t)
		files := fstest.MapFS{}
		a, err := prepare(t, p, files, tarImage(files, packing, func(i *schema.Image) {
			i.Filesystem = schema.Filesystem{Type: "squashfs", Compress: "lz4"}
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = a
			out, err := exec.Command("unsquashfs", "-cat", blob(t, p, a.Root), "etc/hostname").Output()
			if err != nil || string(out) != "fake\n" {
				t.Errorf("unsquashfs: %q, %v", out, err)
			}
		}
		if a.Root != first.Root || a.Kernel != first.Kernel {
			t.Errorf("packing %d: %+v, want %+v", i, a, first)
		}
	}
}

// TestMistakes holds what an author can do wrong, with the place that is blamed.
func TestMistakes(t *testing.T) {
	modules := func(v string) string { return "usr/lib/modules/" + v + "/kernel/nbd.ko" }
	tests := []struct {
		name    string
		root    func([]entry) []entry
		edit    func(*schema.Image)
		line    int // 1 is the block
		summary string
		detail  string
	}{
		{name: "no kernel", root: func(r []entry) []entry { return without(r, "boot/vmlinuz-"+fakeVersion) },
			line: 10, summary: "No kernel in the image", detail: "install one before packing"},
		{name: "newest kernel has no modules", root: func(r []entry) []entry {
			return with(r, entry{name: "boot/vmlinuz-6.1.0-10-test", body: fakeKernel("6.1.0-10-test")})
		}, line: 10, summary: "Kernel and modules do not belong together", detail: "boots Linux 6.1.0-10-test and has no modules for it in /lib/modules: there are those of 6.1.0-9-test"},
		{name: "kernel under another name", root: func(r []entry) []entry {
			return with(r, entry{name: "boot/vmlinuz-" + fakeVersion, body: fakeKernel("5.10.0-1-test")})
		}, line: 10, summary: "Kernel and name do not belong together", detail: "is Linux 5.10.0-1-test"},
		{name: "kernel is text", root: func(r []entry) []entry {
			return with(r, entry{name: "boot/vmlinuz-" + fakeVersion, body: strings.Repeat("x", 5000)})
		}, line: 10, summary: "Not a kernel", detail: "carries no version"},
		{name: "initramfs of another kernel", root: func(r []entry) []entry {
			return with(r, entry{name: modules("6.6.6"), body: "x"}, entry{name: "usr/sbin/mkinitramfs", body: strings.Replace(mkinitramfs, "$3", "6.6.6", 1)})
		}, line: 1, summary: "Kernel and initramfs do not belong together", detail: "has modules for 6.6.6"},
		{name: "no nbd", root: func(r []entry) []entry {
			return without(r, "usr/lib/modules/"+fakeVersion+"/kernel/drivers/block/nbd.ko")
		}, line: 1, summary: "The kernel cannot mount the root", detail: "has no module nbd"},
		{name: "no such module", edit: func(i *schema.Image) { i.Initramfs.Modules = []string{"e1001"} },
			line: 14, summary: "No such module", detail: `no module "e1001"`},
		{name: "another compression", edit: func(i *schema.Image) { i.Initramfs.Compress = "zstd" },
			line: 15, summary: "Compression cannot be had", detail: "used gzip, not zstd"},
		{name: "mkinitramfs fails", root: func(r []entry) []entry {
			return with(r, entry{name: "usr/sbin/mkinitramfs", body: "#!/bin/sh\necho 'E: no space for coffee' >&2\nexit 3\n"})
		}, line: 1, summary: "The initramfs cannot be made", detail: "exit status 3: E: no space for coffee"},
		{name: "no mkinitramfs", root: func(r []entry) []entry { return without(r, "usr/sbin/mkinitramfs") },
			line: 10, summary: "The image cannot boot", detail: "install initramfs-tools"},
		{name: "no init", root: func(r []entry) []entry { return without(r, "usr/sbin/init") },
			line: 10, summary: "The image cannot boot", detail: "no /sbin/init"},
		{name: "proc is a link", root: func(r []entry) []entry {
			return with(r, entry{name: "proc", kind: '2', link: "/etc"})
		}, line: 1, summary: "Not a root file system", detail: "/proc is not a folder"},
		{name: "time zone", edit: func(i *schema.Image) { i.Timezone = "Europe/Berlim" },
			line: 12, summary: "Unknown time zone", detail: "check the spelling"},
		{name: "time zone outside", edit: func(i *schema.Image) { i.Timezone = "../../../etc/passwd" },
			line: 12, summary: "Unknown time zone", detail: "not a name"},
		{name: "mask", edit: func(i *schema.Image) { i.Mask = []string{"../../x"} },
			line: 13, summary: "Not the name of a unit", detail: "slash"},
		{name: "files larger than the file system", edit: func(i *schema.Image) { i.Filesystem.Size = 1 << 20 },
			line: 11, summary: "File system too small", detail: "files alone take more than the 1 MiB"},
		{name: "file system full", root: func(r []entry) []entry {
			return append(r, entry{name: "big", body: strings.Repeat("z", 5<<20)})
		}, edit: func(i *schema.Image) { i.Filesystem.Size = 8 << 20 },
			line: 11, summary: "File system too small", detail: "do not fit into 8 MiB"},
		{name: "file in place of a folder", edit: func(i *schema.Image) {
			i.Files = []*schema.ImageFile{{Path: "/usr/share", Content: "x", Meta: schema.Meta{Range: schema.Range{File: "more.hcl", Line: 3, Column: 3}}}}
		}, line: 3, summary: "File cannot be put there", detail: "is a directory"},
		{name: "file below a file", edit: func(i *schema.Image) {
			i.Files = []*schema.ImageFile{{Path: "/etc/hostname/x", Content: "x", Meta: schema.Meta{Range: schema.Range{File: "more.hcl", Line: 3, Column: 3}}}}
		}, line: 3, summary: "File cannot be put there", detail: "not a directory"},
		{name: "hostile archive", root: func(r []entry) []entry { return append(r, entry{name: "../etc/passwd", body: "x"}) },
			line: 10, summary: "Archive refused", detail: `"../etc/passwd" leads out of the image`},
	}
	p := fakeProvider(t)
	root := fakeRoot(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := root
			if tt.root != nil {
				r = tt.root(root)
			}
			files := fstest.MapFS{}
			_, err := prepare(t, p, files, tarImage(files, makeTar(t, r...), tt.edit), nil)
			var diags hcl.Diagnostics
			if !errors.As(err, &diags) || len(diags) != 1 {
				t.Fatalf("got %v", err)
			}
			d := diags[0]
			if d.Summary != tt.summary || !strings.Contains(d.Detail, tt.detail) || !strings.HasPrefix(d.Detail, "image.fake: ") ||
				d.Subject.Start.Line != tt.line || d.Subject.Filename == "" {
				t.Errorf("got %v", d)
			}
			noScratch(t, p.Content)
		})
	}
}

// An archive without an init and with something else for a kernel was refused twice, one
// commit after the other.
func TestMistakesOfAnArchiveAreToldTogether(t *testing.T) {
	p := fakeProvider(t)
	root := with(without(fakeRoot(t), "usr/sbin/init"), entry{name: "boot/vmlinuz-" + fakeVersion, body: strings.Repeat("x", 5000)})
	files := fstest.MapFS{}
	_, err := prepare(t, p, files, tarImage(files, makeTar(t, root...), nil), nil)
	var diags hcl.Diagnostics
	if !errors.As(err, &diags) || len(diags) != 2 || diags[0].Summary != "The image cannot boot" || diags[1].Summary != "Not a kernel" {
		t.Errorf("got %v", err)
	}
	noScratch(t, p.Content)
}

func TestWrongDigestIsNoArtifact(t *testing.T) {
	p := fakeProvider(t)
	files := fstest.MapFS{}
	img := tarImage(files, makeTar(t, fakeRoot(t)...), func(i *schema.Image) { i.Tar.Digest = "sha256:" + strings.Repeat("0", 64) })
	_, err := prepare(t, p, files, img, nil)
	if err == nil || !strings.Contains(err.Error(), "the recipe was made from sha256:000") {
		t.Fatal(err)
	}
	if _, ok := p.Content.Artifact(img.Recipe); ok {
		t.Error("it was recorded")
	}
	noScratch(t, p.Content)
}

func TestOffline(t *testing.T) {
	c := newContent(t)
	p := newProvider(t, Config{Content: c})
	img := newImage("arch", func(i *schema.Image) { i.Source = schema.SourceTar; i.Tar = &schema.Tar{} })
	put := func(s string) provider.Blob {
		b, err := c.Put(context.Background(), strings.NewReader(s))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	recorded := provider.Artifact{Recipe: img.Recipe, Root: put("root"), Kernel: put("kernel"), Initrd: put("initrd!!"), KernelVersion: "6", Filesystem: "ext4"}
	in := provider.Input{Want: &schema.Desired{Images: []*schema.Image{img}}, Offline: true}
	if _, err := p.Prepare(t.Context(), in); err == nil || !strings.Contains(err.Error(), "image.arch") {
		t.Errorf("nothing in the store: %v", err)
	}
	in.Artifacts = map[string]provider.Artifact{img.Recipe: recorded}
	txn, err := p.Prepare(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(recorded, *txn.Outputs()[img.Addr].Artifact); diff != "" {
		t.Error(diff)
	}
	if err := c.Remove(recorded.Kernel.Digest); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Prepare(t.Context(), in); err == nil {
		t.Error("an artifact without its kernel was taken")
	}
}

func TestNoProgram(t *testing.T) {
	p := newProvider(t, Config{})
	// Nobody builds this one.
	if _, err := p.program("s390x"); err == nil || !strings.Contains(err.Error(), "carries no nbdroot-s390x") || !strings.Contains(err.Error(), "make build") {
		t.Errorf("got %v", err)
	}
	p.Program = []byte("#!/bin/sh\n")
	if _, err := p.program("amd64"); err == nil || !strings.Contains(err.Error(), "is no program") {
		t.Errorf("got %v", err)
	}
	p.Program = busybox(t)
	if _, err := p.program("arm64"); err == nil || !strings.Contains(err.Error(), "the image for arm64") {
		t.Errorf("got %v", err)
	}
}

func TestOwnInitramfs(t *testing.T) {
	providertest.Need(t, "mke2fs", "debugfs")
	p := fakeProvider(t)
	own := func(i *schema.Image) { i.Initramfs = schema.Initramfs{Generator: "none"} }
	pack := func(initrd string) []byte {
		root := without(fakeRoot(t), "usr/sbin/mkinitramfs", "boot/initrd.img-"+fakeVersion)
		if initrd != "" {
			root = append(root, entry{name: "boot/initrd.img-" + fakeVersion, body: initrd})
		}
		return makeTar(t, root...)
	}
	mine := string(makeCpio("init=mine", "lib/modules/"+fakeVersion+"/x.ko")) + "\x00" // of odd size
	files := fstest.MapFS{}
	a, err := prepare(t, p, files, tarImage(files, pack(mine), own), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(blob(t, p, a.Initrd))
	if err != nil || !strings.HasPrefix(string(got), mine) || len(got)%4 != 0 {
		t.Errorf("%d bytes of %d, %v", len(got), len(mine), err)
	}
	if out := debugfs(t, blob(t, p, a.Root), "stat /usr/lib/dlreconcile"); strings.Contains(out, "Inode:") {
		t.Error("something of ours is in the image")
	}
	for initrd, want := range map[string]string{
		"": "No initramfs in the archive",
		string(makeCpio("lib/modules/5.10.0-1/x.ko")): "Kernel and initramfs do not belong together",
	} {
		_, err := prepare(t, p, files, tarImage(files, pack(initrd), own), nil)
		var diags hcl.Diagnostics
		if !errors.As(err, &diags) || diags[0].Summary != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	noScratch(t, p.Content)
}
