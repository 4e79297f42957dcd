package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// enterRoot makes the kernel's file systems for a chroot. It runs in a mount
// namespace of its own: nothing of it is ever seen outside, nothing of the host
// is in it, and it ends with the last process.
const enterRoot = `set -e
root=$1
shift
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=0755,nosuid dev "$root/dev"
mount -t tmpfs -o mode=0755,nosuid,nodev run "$root/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmp "$root/tmp"
mkdir "$root/dev/pts" "$root/dev/shm" "$root/run/lock"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/zero" c 1 5
mknod -m 666 "$root/dev/full" c 1 7
mknod -m 666 "$root/dev/random" c 1 8
mknod -m 666 "$root/dev/urandom" c 1 9
mknod -m 666 "$root/dev/tty" c 5 0
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
exec chroot "$root" "$@"`

// chroot runs a program of the image in it, without a network.
func (b *build) chroot(ctx context.Context, name string, argv ...string) error {
	return b.chrootPipe(ctx, name, nil, nil, argv...)
}

func (b *build) chrootPipe(ctx context.Context, name string, in io.Reader, out io.Writer, argv ...string) error {
	err := command{
		argv:  append([]string{"sh", "-c", enterRoot, "sh", b.tree.dir}, argv...),
		env:   append(plainEnv(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.epoch.Unix())),
		dir:   "/",
		stdin: in, stdout: out,
		line:    func(text string) { b.report(step{name: name, text: text}) },
		private: true, offline: true,
	}.run(ctx)
	var f *failure
	if errors.As(err, &f) {
		f.program = name
	}
	return err
}

// makeInitramfs runs the image's own mkinitramfs, and moves what it made out of
// the tree.
func (b *build) makeInitramfs(ctx context.Context) error {
	b.report(step{name: "mkinitramfs", text: "making the initramfs for Linux " + b.kernel.version})
	if err := b.removeInitrds(); err != nil {
		return err
	}
	const out = "boot/initrd.img-dlreconcile"
	err := b.chroot(ctx, "mkinitramfs", "mkinitramfs", "-o", "/"+out, b.kernel.version)
	var f *failure
	if errors.As(err, &f) {
		if _, full := f.said("No space left"); !full {
			return &mistake{attr: "initramfs", summary: "The initramfs cannot be made", detail: err.Error()}
		}
	}
	if err != nil {
		return err
	}
	file := filepath.Join(b.dir, initrdFile)
	if err := b.tree.moveOut(out, file); err != nil {
		return err
	}
	return padFile(file)
}

// padFile adds zeros up to a multiple of 4 bytes. iPXE for UEFI does not pad
// between two archives, and the kernel then loses the second without a word.
func padFile(file string) error {
	st, err := os.Stat(file)
	if err != nil {
		return err
	}
	return os.Truncate(file, (st.Size()+3)&^3)
}

// checkInitramfs looks into the finished initramfs: a machine that is told to boot
// it must be able to get to its root.
func (b *build) checkInitramfs(ctx context.Context) error {
	f, err := os.Open(filepath.Join(b.dir, initrdFile))
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := readInitrd(f, func(format string, r io.Reader) (io.Reader, func(), error) {
		return b.decompressInside(ctx, format, r)
	})
	var r *refused
	if errors.As(err, &r) {
		return fmt.Errorf("the initramfs that mkinitramfs made: %w", err)
	}
	if err != nil {
		return err
	}
	if got.compression != b.img.Initramfs.Compress {
		return &mistake{attr: "initramfs.compress", summary: "Compression cannot be had",
			detail: fmt.Sprintf("mkinitramfs used %s, not %s: Linux %s does not know it, or the image lacks the program",
				got.compression, b.img.Initramfs.Compress, b.kernel.version)}
	}
	if !slices.Equal(got.versions, []string{b.kernel.version}) {
		return &mistake{summary: "Kernel and initramfs do not belong together",
			detail: fmt.Sprintf("the image boots Linux %s, and its initramfs has modules for %s",
				b.kernel.version, orNone(got.versions))}
	}
	for _, want := range []string{"nbdroot", "scripts/local-top/dlreconcile", "scripts/local-bottom/dlreconcile"} {
		if !got.has(want) {
			return fmt.Errorf("the initramfs that mkinitramfs made lacks %s", want)
		}
	}
	builtin, err := b.tree.readFile("lib/modules/"+b.kernel.version+"/modules.builtin", 4<<20)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for line := range strings.Lines(string(builtin)) {
		got.modules[moduleName(strings.TrimSpace(line))] = true
	}
	need := []string{"nbd", b.img.Filesystem.Type}
	if b.img.Filesystem.Type == "squashfs" {
		need = append(need, "overlay")
	}
	for _, m := range need {
		if !got.modules[m] {
			return &mistake{attr: "debootstrap.packages", summary: "The kernel cannot mount the root",
				detail: fmt.Sprintf("Linux %s has no module %s; list another kernel package", b.kernel.version, m)}
		}
	}
	for _, m := range b.img.Initramfs.Modules {
		name, _, _ := strings.Cut(m, " ") // parameters may follow
		if !got.modules[moduleName(name)] {
			return &mistake{attr: "initramfs.modules", summary: "No such module",
				detail: fmt.Sprintf("Linux %s has no module %q", b.kernel.version, name)}
		}
	}
	return nil
}

// decompressInside runs the decompressor of the image: where mkinitramfs found one
// to compress with, the other half is there too.
func (b *build) decompressInside(ctx context.Context, format string, r io.Reader) (io.Reader, func(), error) {
	if format != "xz" && format != "lz4" {
		return nil, nil, refuse("it is compressed in an unknown way")
	}
	plain, done := pipe(ctx, func(ctx context.Context, out io.Writer) error {
		return b.chrootPipe(ctx, format, r, out, format, "-d", "-c")
	})
	return plain, done, nil
}

func orNone(s []string) string {
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, ", ")
}

// moduleName gives the name of a module's file as the kernel spells it: without
// endings, and with underscores.
func moduleName(file string) string {
	base, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(base, "-", "_")
}
