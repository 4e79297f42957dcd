package schema

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// TestSources holds what is handed to the rest of the system against what is written.
func TestSources(t *testing.T) {
	tree, opts := open(t, "../testdata/valid/sources")
	d := mustLoad(t, tree, opts)
	image := func(name string) Image {
		im := *find(t, d.Images, func(i *Image) Addr { return i.Addr }, "image."+name)
		im.Meta, im.Recipe, im.BaseRecipe, im.Filesystem = Meta{}, "", "", Filesystem{}
		return im
	}
	initramfs := Initramfs{Generator: InitramfsTools, Compress: "zstd"}
	for name, want := range map[string]Image{
		"least": {Source: SourcePacstrap, Pacstrap: &Pacstrap{Packages: []string{"base"}, Arch: "x86_64"}, Initramfs: Initramfs{Generator: Mkinitcpio, Compress: "zstd"}},
		"container": {Source: SourceOCI, OCI: &OCI{Reference: "registry.example:5000/base/debian:12@" + someDigest, Platform: "linux/arm64"},
			Initramfs: Initramfs{Generator: Dracut, Hooks: []string{"nbd", "network-manager"}, Modules: []string{"virtio_net"}, Compress: "zstd"}},
		"folder":  {Source: SourceDirectory, Directory: &Directory{Path: "root", Digest: image("folder").Directory.Digest}, Initramfs: Initramfs{Generator: OwnInitramfs}},
		"kept":    {Source: SourceDisk, Disk: &Disk{Path: "disk.qcow2", SHA256: image("kept").Disk.SHA256, Digest: "sha256:" + image("kept").Disk.SHA256, Format: "qcow2"}, Initramfs: initramfs},
		"fetched": {Source: SourceDisk, Disk: &Disk{URL: "https://images.example/debian-12.raw?x=1", SHA256: someDigest[7:], Digest: someDigest, Format: "raw", Partition: 1}, Initramfs: initramfs},
	} {
		if diff := cmp.Diff(want, image(name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	arch := image("arch")
	var paths []string
	for _, f := range arch.Pacstrap.Files {
		paths = append(paths, f.Path)
		if i := strings.Index(f.Path, "/"); !validDigest(f.Digest) || i < 0 {
			t.Errorf("%+v", f)
		}
	}
	if diff := cmp.Diff([]string{"packages/one-1-1-any.pkg.tar.zst", "packages/two-1-1-x86_64.pkg.tar"}, paths); diff != "" {
		t.Error(diff)
	}
	hook := *arch.Copies[0]
	if at := hook.At("replace"); at != (Range{File: "site.hcl", Line: 22, Column: 5}) {
		t.Errorf("replace was written at %s", at)
	}
	hook.Meta = Meta{}
	want := Copy{
		Path: "/usr/lib/initcpio/hooks/netnfs4", From: "/usr/lib/initcpio/hooks/net", Permissions: 0o755,
		Replace: map[string]string{"nfsmount": "mount.nfs4", "10.0.0.9": "10.0.0.1"},
	}
	if diff := cmp.Diff(want, hook); diff != "" || len(arch.Copies) != 2 || arch.Copies[1].Permissions != 0 {
		t.Errorf("%s %+v", diff, arch.Copies)
	}
	for name, want := range map[string]string{"least": "amd64", "arch": "arm64", "container": "arm64", "local": "amd64", "kept": "", "folder": ""} {
		im := image(name)
		if got := im.Architecture(); got != want {
			t.Errorf("%s is for %q, want %q", name, got, want)
		}
	}
}

// TestSourceRecipes changes one thing at a time, and says which recipes change with
// it.
func TestSourceRecipes(t *testing.T) {
	const config = `
image "pacstrap" {
  pacstrap {
    packages = ["base", "linux"]
    files    = ["p/one.pkg.tar", "p/two.pkg.tar"]
  }
  copy "/b" {
    from    = "/a"
    replace = { "x" = "y", "z" = "" }
  }
  initramfs {
    hooks    = ["base", "udev"]
    binaries = ["a", "b"]
  }
  filesystem "squashfs" {}
}
image "oci" {
  oci {
    reference = "registry.example/debian:12@` + someDigest + `"
  }
  filesystem "squashfs" {}
}
image "disk" {
  disk {
    path = "disk"
  }
  filesystem "squashfs" {}
}
`
	tree := func(config string) map[string]*Image {
		fsys := files("a.hcl", config, "p/one.pkg.tar", "1", "p/two.pkg.tar", "2", "q/one.pkg.tar", "1", "q/three.pkg.tar", "3", "disk", "disk", "disk2", "disk")
		all := map[string]*Image{}
		for _, im := range mustLoad(t, fsys, Options{}).Images {
			all[im.Addr.Name] = im
		}
		return all
	}
	was := tree(config)
	diskDigest := was["disk"].Disk.Digest
	for _, c := range []struct {
		name, image, old, new string
		base, whole           bool
	}{
		{"order of packages", "pacstrap", `["base", "linux"]`, `["linux", "base"]`, false, false},
		{"a package", "pacstrap", `["base", "linux"]`, `["base", "linux-lts"]`, true, true},
		{"mirror", "pacstrap", `packages =`, "mirror = \"https://mirror.example/$repo/os/$arch\"\n packages =", true, true},
		{"arch", "pacstrap", `packages =`, "arch = \"aarch64\"\n packages =", true, true},
		{"arch, the default", "pacstrap", `packages =`, "arch = \"x86_64\"\n packages =", false, false},
		{"a package file elsewhere", "pacstrap", `"p/one.pkg.tar"`, `"q/one.pkg.tar"`, false, false},
		{"another package file", "pacstrap", `"p/one.pkg.tar"`, `"q/three.pkg.tar"`, true, true},
		{"order of package files", "pacstrap", `["p/one.pkg.tar", "p/two.pkg.tar"]`, `["p/two.pkg.tar", "p/one.pkg.tar"]`, false, false},
		{"copy, from", "pacstrap", `"/a"`, `"/c"`, false, true},
		{"copy, path", "pacstrap", `"/b"`, `"/c"`, false, true},
		{"copy, permissions", "pacstrap", `from    =`, "permissions = \"0644\"\n from =", false, true},
		{"copy, replace", "pacstrap", `"z" = ""`, `"z" = "z"`, false, true},
		{"copy, order of replace", "pacstrap", `{ "x" = "y", "z" = "" }`, `{ "z" = "", "x" = "y" }`, false, false},
		{"order of hooks", "pacstrap", `["base", "udev"]`, `["udev", "base"]`, false, true},
		{"order of binaries", "pacstrap", `["a", "b"]`, `["b", "a"]`, false, false},
		{"generator, the default", "pacstrap", "initramfs {", `initramfs "mkinitcpio" {`, false, false},
		{"generator", "pacstrap", "initramfs {", `initramfs "dracut" {`, false, true},
		{"another registry and tag", "oci", "registry.example/debian:12", "mirror.example:5000/other/debian", false, false},
		{"digest", "oci", "0123456789abcdef\"", "0123456789abcdee\"", true, true},
		{"platform", "oci", "reference =", "platform = \"linux/arm64\"\n reference =", true, true},
		{"platform, the default", "oci", "reference =", "platform = \"linux/amd64\"\n reference =", false, false},
		{"the disk elsewhere", "disk", `path = "disk"`, `path = "disk2"`, false, false},
		{"the disk fetched", "disk", `path = "disk"`, "url = \"https://images.example/disk\"\n sha256 = \"" + strings.TrimPrefix(diskDigest, "sha256:") + "\"", false, false},
		{"format", "disk", `path = "disk"`, "path = \"disk\"\n format = \"qcow2\"", true, true},
		{"partition", "disk", `path = "disk"`, "path = \"disk\"\n partition = 2", true, true},
	} {
		if !strings.Contains(config, c.old) {
			t.Fatalf("%s: %q is not in the configuration", c.name, c.old)
		}
		for name, is := range tree(strings.ReplaceAll(config, c.old, c.new)) {
			here := name == c.image
			if got := is.BaseRecipe != was[name].BaseRecipe; got != (here && c.base) {
				t.Errorf("%s: base recipe of %s changed: %t", c.name, name, got)
			}
			if got := is.Recipe != was[name].Recipe; got != (here && c.whole) {
				t.Errorf("%s: recipe of %s changed: %t", c.name, name, got)
			}
		}
	}
}

// TestOCIReferences tries what people write.
func TestOCIReferences(t *testing.T) {
	for s, ok := range map[string]bool{
		"registry.example/a@" + someDigest:                                true,
		"registry.example:5000/a/b_c/d__e-f.g:V1.2-rc_3@" + someDigest:    true,
		"localhost/a@" + someDigest:                                       true,
		"192.0.2.1:80/a@" + someDigest:                                    true,
		"registry.example/a":                                              false,
		"registry.example/a:12":                                           false,
		"a@" + someDigest:                                                 false,
		"library/a@" + someDigest:                                         false,
		"registry.example/@" + someDigest:                                 false,
		"registry.example/a:@" + someDigest:                               false,
		"registry.example/a//b@" + someDigest:                             false,
		"registry.example/a/../b@" + someDigest:                           false,
		"registry.example/A@" + someDigest:                                false,
		"registry.example:port/a@" + someDigest:                           false,
		"me:secret@registry.example/a@" + someDigest:                      false,
		"registry.example/a@" + someDigest + "@" + someDigest:             false,
		"registry.example/a@sha512:" + someDigest[7:]:                     false,
		"registry.example/a@SHA256:" + someDigest[7:]:                     false,
		"registry.example/a b@" + someDigest:                              false,
		"registry.example/" + strings.Repeat("a", 500) + "@" + someDigest: false,
		"oci:registry.example/a@" + someDigest:                            false,
		"":                                                                false,
	} {
		if err := checkOCI(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		} else if err == nil {
			if got := (&OCI{Reference: s}).digest(); got != someDigest {
				t.Errorf("%q has digest %q", s, got)
			}
		}
	}
}
