package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/schema"
)

// scripts are what goes into every image: our part of its initramfs, and the unit
// that reports its boot.
//
//go:embed initramfs
var scripts embed.FS

// customise makes the packages' root the one that is described, and one that many
// machines can boot from at once.
func (b *build) customise(ctx context.Context) error {
	b.report(step{name: "customise", text: "customising"})
	steps := []func(context.Context) error{
		b.checkRoot, b.forgetMachine, b.settings, b.locale, b.units, b.ourFiles, b.userFiles,
	}
	for _, f := range steps {
		if err := f(ctx); err != nil {
			return err
		}
	}
	return nil
}

// checkRoot refuses trees that are no root file system.
func (b *build) checkRoot(context.Context) error {
	for _, dir := range []string{"proc", "sys", "dev", "run", "tmp"} {
		// Mount points must be folders, or a mount ends up elsewhere.
		if err := b.tree.mkdirAll(dir, refuseLinks); err != nil {
			return &mistake{summary: "Not a root file system", detail: fmt.Sprintf("/%s is not a folder", dir)}
		}
	}
	attr, add := "debootstrap.packages", "add %s to the packages"
	if b.img.Source == schema.SourceTar {
		attr, add = "tar.path", "install %s before packing the archive"
	}
	for _, need := range []struct{ file, pkg string }{
		{"usr/sbin/mkinitramfs", "initramfs-tools"}, {"sbin/init", "an init system, such as systemd-sysv,"},
	} {
		if b.ownInitramfs() && need.pkg == "initramfs-tools" {
			continue
		}
		// The link may be absolute and lead into a file system of its own.
		if _, err := b.tree.lstat(need.file, followLinks); err != nil {
			return &mistake{attr: attr, summary: "The image cannot boot",
				detail: fmt.Sprintf("it has no /%s; "+add, need.file, need.pkg)}
		}
	}
	return nil
}

// forgetMachine removes what must differ between machines, and what came from the
// machine that builds.
func (b *build) forgetMachine(context.Context) error {
	t := b.tree
	// Present and empty: made anew at each boot, and no "first boot" either.
	if err := t.text("etc/machine-id", ""); err != nil {
		return err
	}
	for _, name := range []string{"var/lib/systemd/random-seed", "var/lib/systemd/credential.secret"} {
		if err := t.remove(name, followLinks); err != nil {
			return err
		}
	}
	if err := b.forgetHostKeys(); err != nil {
		return err
	}
	if t.isDir("var/lib/dbus") {
		if err := t.symlink("var/lib/dbus/machine-id", "/etc/machine-id", 0, 0); err != nil {
			return err
		}
	}
	// Empty, the initramfs fills it from DHCP; a link is some resolver's own.
	if st, err := t.lstat("etc/resolv.conf", followLinks); err != nil || st.Mode&unix.S_IFMT == unix.S_IFREG {
		if err := t.text("etc/resolv.conf", ""); err != nil {
			return err
		}
	}
	// The root is mounted by the initramfs, rw or below an overlay: fstab has no
	// say in that. Without an entry there is nothing to check or remount either.
	return t.text("etc/fstab", "# The root file system is attached and mounted by the initramfs.\n")
}

// forgetHostKeys removes the ssh host keys that the package made when it was
// installed: with them, every machine could pass for every other.
func (b *build) forgetHostKeys() error {
	names, err := b.tree.list("etc/ssh")
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasPrefix(n, "ssh_host_") {
			if err := b.tree.remove("etc/ssh/"+n, followLinks); err != nil {
				return err
			}
		}
	}
	return nil
}

// settings writes host name, time zone and keyboard.
func (b *build) settings(context.Context) error {
	t, img := b.tree, b.img
	hostname := img.Hostname
	if hostname == "" && img.Source == schema.SourceDebootstrap {
		hostname = "localhost" // not that of the building machine, which is there now
	}
	if hostname != "" {
		if err := t.text("etc/hostname", hostname+"\n"); err != nil {
			return err
		}
		hosts := "127.0.0.1\tlocalhost\n127.0.1.1\t" + hostname + "\n\n" +
			"::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
		if err := t.text("etc/hosts", hosts); err != nil {
			return err
		}
	}
	if img.Timezone != "" {
		zone := path.Join("usr/share/zoneinfo", img.Timezone)
		if !strings.HasPrefix(zone, "usr/share/zoneinfo/") {
			return &mistake{attr: "timezone", summary: "Unknown time zone", detail: fmt.Sprintf("%q is not a name", img.Timezone)}
		}
		switch {
		case t.exists(zone):
			if err := t.symlink("etc/localtime", "/"+zone, 0, 0); err != nil {
				return err
			}
		case img.Timezone != "UTC" && img.Timezone != "Etc/UTC": // without a file it is UTC
			return &mistake{attr: "timezone", summary: "Unknown time zone",
				detail: fmt.Sprintf("the image has no /%s; check the spelling, and that tzdata is among its packages", zone)}
		}
		if err := t.text("etc/timezone", img.Timezone+"\n"); err != nil {
			return err
		}
	}
	if img.Keymap != "" {
		if err := t.text("etc/vconsole.conf", "KEYMAP="+img.Keymap+"\n"); err != nil {
			return err
		}
		if err := t.text("etc/default/keyboard", "XKBMODEL=\"pc105\"\nXKBLAYOUT=\""+img.Keymap+"\"\nBACKSPACE=\"guess\"\n"); err != nil {
			return err
		}
	}
	return nil
}

// locale sets the locale, and generates it where the package that can is there.
func (b *build) locale(ctx context.Context) error {
	t, want := b.tree, b.img.Locale
	if want == "" {
		return nil
	}
	for _, file := range []string{"etc/default/locale", "etc/locale.conf"} {
		if err := t.text(file, "LANG="+want+"\n"); err != nil {
			return err
		}
	}
	if !t.exists("usr/sbin/locale-gen") || want == "C.UTF-8" || want == "C" || want == "POSIX" {
		return nil
	}
	// SUPPORTED has lines like "en_US.UTF-8 UTF-8".
	supported, err := t.readFile("usr/share/i18n/SUPPORTED", 1<<20)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(supported)) {
		if name, _, _ := strings.Cut(line, " "); name == want {
			if err := t.text("etc/locale.gen", line); err != nil {
				return err
			}
			return b.chroot(ctx, "locale-gen", "locale-gen")
		}
	}
	return &mistake{attr: "locale", summary: "Unknown locale",
		detail: fmt.Sprintf("%q is not in the image's /usr/share/i18n/SUPPORTED", want)}
}

// units masks units and enables ours, where systemd is the init system.
func (b *build) units(context.Context) error {
	t := b.tree
	if !t.isDir("etc/systemd/system") {
		if t.exists("usr/sbin/sshd") {
			b.report(step{name: "customise", text: "without systemd nobody makes ssh host keys: the image has none"})
		}
		if len(b.img.Mask) > 0 {
			return &mistake{attr: "mask", summary: "Nothing to mask", detail: "the image has no systemd"}
		}
		return nil
	}
	// e2scrub_reap looks at every ext4 for snapshots of LVM, for seconds.
	for _, unit := range append([]string{"e2scrub_reap.service"}, b.img.Mask...) {
		if strings.ContainsRune(unit, '/') {
			return &mistake{attr: "mask", summary: "Not the name of a unit", detail: fmt.Sprintf("%q has a slash", unit)}
		}
		if err := t.symlink("etc/systemd/system/"+unit, "/dev/null", 0, 0); err != nil {
			return err
		}
	}
	// Also beside an initramfs of the image's own: forgetHostKeys has been there.
	if t.exists("usr/sbin/sshd") {
		if err := b.unit("identity.service"); err != nil {
			return err
		}
	}
	if b.ownInitramfs() {
		return nil
	}
	return b.unit("phone-home.service")
}

// unit installs one of our units, and has every boot start it.
func (b *build) unit(name string) error {
	unit := "dlreconcile-" + name
	if err := b.script(name, "usr/lib/systemd/system/"+unit, 0o644); err != nil {
		return err
	}
	return b.tree.symlink("etc/systemd/system/multi-user.target.wants/"+unit, "/usr/lib/systemd/system/"+unit, 0, 0)
}

// script puts one of our embedded files into the image.
func (b *build) script(name, dst string, perm uint32) error {
	text, err := scripts.ReadFile("initramfs/" + name)
	if err != nil {
		return err
	}
	return b.tree.write(dst, bytes.NewReader(text), perm, 0, 0)
}

// ourFiles installs nbdroot and our part of the initramfs.
func (b *build) ourFiles(context.Context) error {
	if b.ownInitramfs() {
		return nil
	}
	const share = "usr/share/initramfs-tools/"
	for _, f := range []struct {
		name, dst string
		perm      uint32
	}{
		{"phone-home", "usr/lib/dlreconcile/phone-home", 0o755},
		{"hook", share + "hooks/dlreconcile", 0o755},
		{"local-top", share + "scripts/local-top/dlreconcile", 0o755},
		{"local-bottom", share + "scripts/local-bottom/dlreconcile", 0o755},
		// What is in /etc goes before the same name in /usr/share.
		{"nothing", "etc/initramfs-tools/scripts/local-top/nbd", 0o755},
	} {
		if err := b.script(f.name, f.dst, f.perm); err != nil {
			return err
		}
	}
	if err := b.tree.write("usr/lib/dlreconcile/nbdroot", bytes.NewReader(b.program), 0o755, 0, 0); err != nil {
		return err
	}
	conf, err := scripts.ReadFile("initramfs/initramfs.conf")
	if err != nil {
		return err
	}
	text := string(conf) + "COMPRESS=" + b.img.Initramfs.Compress + "\n"
	if err := b.tree.text("etc/initramfs-tools/conf.d/zz-dlreconcile", text); err != nil {
		return err
	}
	modules := "# Written by dlreconcile: loaded at boot.\n" + strings.Join(b.img.Initramfs.Modules, "\n") + "\n"
	return b.tree.text(share+"modules.d/dlreconcile", modules)
}

// userFiles puts the image's file blocks in place.
func (b *build) userFiles(context.Context) error {
	for _, f := range b.img.Files {
		err := b.userFile(f)
		var m *mistake
		switch {
		case errors.As(err, &m):
			return err
		case errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EEXIST), errors.Is(err, unix.ELOOP):
			return &mistake{file: f.Path, summary: "File cannot be put there", detail: err.Error()}
		case err != nil:
			return err
		}
	}
	return nil
}

func (b *build) userFile(f *schema.ImageFile) error {
	if f.Symlink != "" {
		return b.tree.symlink(f.Path, f.Symlink, f.Owner, f.Group)
	}
	if f.Source == "" {
		return b.tree.write(f.Path, strings.NewReader(f.Content), f.Permissions, f.Owner, f.Group)
	}
	src, err := b.files.Open(f.Source)
	if errors.Is(err, fs.ErrNotExist) {
		return &mistake{file: f.Path, summary: "Source cannot be read", detail: err.Error()}
	}
	if err != nil {
		return err
	}
	defer src.Close()
	h := sha256.New()
	if err := b.tree.write(f.Path, io.TeeReader(src, h), f.Permissions, f.Owner, f.Group); err != nil {
		return err
	}
	if is := "sha256:" + hex.EncodeToString(h.Sum(nil)); f.Digest != "" && is != f.Digest {
		return fmt.Errorf("%s: digest %s, the recipe was made from %s", f.Source, is, f.Digest)
	}
	return nil
}
