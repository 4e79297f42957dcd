package image

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/schema"
)

func TestArtifactTellsWhatBootsIt(t *testing.T) {
	providertest.Need(t, "mksquashfs", "unsquashfs")
	p := fakeProvider(t)
	squashfs := func(i *schema.Image) { i.Filesystem = schema.Filesystem{Type: "squashfs", Compress: "lz4"} }
	build := func(root []entry, edit ...func(*schema.Image)) provider.Artifact {
		t.Helper()
		files := fstest.MapFS{}
		a, err := prepare(t, p, files, tarImage(files, makeTar(t, root...), func(i *schema.Image) {
			for _, e := range append(edit, squashfs) {
				e(i)
			}
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := build(fakeRoot(t))
	if a.Arch != "amd64" || a.Signed || !a.Settles || a.Loaders != nil {
		t.Errorf("a plain image: %+v", a)
	}

	modules := []entry{
		{name: "usr/lib/grub/i386-pc/normal.mod", body: "normal"}, {name: "usr/lib/grub/i386-pc/fs.lst", body: "ext2\n"},
		{name: "usr/lib/grub/i386-pc/kernel.img", body: "kernel", mode: 0o600}, {name: "usr/lib/grub/i386-pc/modinfo.sh", body: "#!"},
		{name: "usr/lib/grub/i386-pc/config.h", body: "#define"}, {name: "usr/lib/grub/i386-pc/gone.mod", kind: tar.TypeSymlink, link: "/nowhere.mod"},
		{name: "usr/lib/grub/i386-pc/linked.mod", kind: tar.TypeSymlink, link: "/srv/real.mod"}, {name: "srv/real.mod", body: "real"},
	}
	loaders := []entry{
		{name: "usr/lib/shim/shimx64.efi.signed", body: "shim"}, {name: "usr/lib/shim/fbx64.efi.signed", body: "fallback"},
		{name: "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed", body: "grub"},
		{name: "usr/lib/PXELINUX/pxelinux.0", body: "pxe"}, {name: "usr/lib/PXELINUX/lpxelinux.0", body: "lpxe"},
		{name: "usr/lib/syslinux/modules/bios/ldlinux.c32", body: "ld"}, {name: "usr/lib/syslinux/modules/bios/README", body: "read"},
	}
	kernel := makePE(0x8664, true, certificate(0x200, 2, pkcs7))
	kernel = append(kernel, "Linux version "+fakeVersion+" (x)"+strings.Repeat("\x00", 200)...)
	root := with(slices.Concat(fakeRoot(t), modules, loaders), entry{name: "boot/vmlinuz-" + fakeVersion, body: string(kernel)})
	a = build(root)
	if a.Arch != "amd64" || !a.Signed || !a.Settles {
		t.Errorf("a signed kernel: %+v", a)
	}
	got := map[string]string{}
	for name, b := range a.Loaders {
		content, err := os.ReadFile(blob(t, p, b))
		if err != nil {
			t.Fatal(err)
		}
		got[name] = string(content)
	}
	modulesTar := got[provider.LoaderGRUBPrefix+"i386-pc"]
	delete(got, provider.LoaderGRUBPrefix+"i386-pc")
	want := map[string]string{
		provider.LoaderShim: "shim", provider.LoaderSignedGRUB: "grub", provider.LoaderPXELINUX: "pxe", provider.LoaderLPXELINUX: "lpxe",
		provider.LoaderC32Prefix + "ldlinux.c32": "ld",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var names []string
	for r := tar.NewReader(strings.NewReader(modulesTar)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		if _, err := io.Copy(&body, r); err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 0 || h.Mode != 0o644 || h.Uid != 0 || h.Typeflag != tar.TypeReg {
			t.Errorf("%+v", h)
		}
		names = append(names, h.Name+"="+body.String())
	}
	if diff := cmp.Diff([]string{"fs.lst=ext2\n", "kernel.img=kernel", "linked.mod=real", "modinfo.sh=#!", "normal.mod=normal"}, names); diff != "" {
		t.Error(diff)
	}

	// The same files in another order and at another time are the same bytes.
	slices.Reverse(modules)
	for i := range modules {
		modules[i].more = func(h *tar.Header) { h.ModTime = packed.AddDate(1, 0, 0) }
	}
	again := build(with(slices.Concat(fakeRoot(t), loaders, modules), entry{name: "boot/vmlinuz-" + fakeVersion, body: string(kernel)}))
	if again.Recipe == a.Recipe || !cmp.Equal(again.Loaders, a.Loaders) {
		t.Errorf("%+v, want %+v", again.Loaders, a.Loaders)
	}

	own := build(root, func(i *schema.Image) { i.Initramfs = schema.Initramfs{Generator: "none"} })
	if own.Settles || !own.Signed || !cmp.Equal(own.Loaders, a.Loaders) {
		t.Errorf("an initramfs of its own: %+v", own)
	}
}

func TestArchiveForAnotherArchitecture(t *testing.T) {
	p := fakeProvider(t)
	files := fstest.MapFS{}
	root := with(fakeRoot(t), entry{name: "boot/vmlinuz-" + fakeVersion,
		body: string(makePE(0xaa64, true, nil)) + "Linux version " + fakeVersion + " (x)" + strings.Repeat("\x00", 200)})
	// The program that the test gives is for amd64: it would not run there.
	_, err := prepare(t, p, files, tarImage(files, makeTar(t, root...), nil), nil)
	if err == nil || !strings.Contains(err.Error(), "the image for arm64") {
		t.Errorf("got %v", err)
	}
	a, err := prepare(t, p, files, tarImage(files, makeTar(t, root...), func(i *schema.Image) {
		i.Initramfs = schema.Initramfs{Generator: "none"}
	}), nil)
	if err != nil || a.Arch != "arm64" {
		t.Errorf("%+v, %v", a, err)
	}
}

// Every machine that booted the image had the same ssh host keys.
func TestImageHadHostKeys(t *testing.T) {
	providertest.Need(t, "mke2fs", "debugfs")
	p := fakeProvider(t)
	keys := []entry{{name: "etc/ssh/sshd_config", body: "Port 22\n"}, {name: "etc/ssh/ssh_host_rsa_key", body: "secret", mode: 0o600},
		{name: "etc/ssh/ssh_host_rsa_key.pub", body: "public"}, {name: "var/lib/systemd/credential.secret", body: "secret"}}
	const unit = "/etc/systemd/system/multi-user.target.wants/dlreconcile-identity.service"
	for _, tt := range []struct {
		name  string
		more  []entry
		unit  bool
		edit  func(*schema.Image)
		wants string
	}{
		{"with sshd", []entry{{name: "usr/sbin/sshd", body: "sshd"}}, true, nil, ""},
		{"initramfs of its own", []entry{{name: "usr/sbin/sshd", body: "sshd"}}, true, func(i *schema.Image) { i.Initramfs = schema.Initramfs{Generator: "none"} }, ""},
		{"without", nil, false, nil, ""},
		{"given by the author", []entry{{name: "usr/sbin/sshd", body: "sshd"}}, true, func(i *schema.Image) {
			i.Files = []*schema.ImageFile{{Path: "/etc/ssh/ssh_host_ed25519_key", Content: "given", Permissions: 0o600}}
		}, "given"},
	} {
		files := fstest.MapFS{}
		a, err := prepare(t, p, files, tarImage(files, makeTar(t, slices.Concat(fakeRoot(t), keys, tt.more)...), tt.edit), nil)
		if err != nil {
			t.Fatal(err)
		}
		root := blob(t, p, a.Root)
		there := func(name string) bool { return strings.Contains(debugfs(t, root, "stat "+name), "Inode:") }
		if there("/etc/ssh/ssh_host_rsa_key") || there("/etc/ssh/ssh_host_rsa_key.pub") || there("/var/lib/systemd/credential.secret") || !there("/etc/ssh/sshd_config") {
			t.Errorf("%s: the wrong files are there", tt.name)
		}
		if there(unit) != tt.unit {
			t.Errorf("%s: the unit is there: %v", tt.name, !tt.unit)
		}
		if tt.wants != "" && debugfs(t, root, "cat /etc/ssh/ssh_host_ed25519_key") != tt.wants {
			t.Errorf("%s: the key that was given is not there", tt.name)
		}
	}
}
