package image

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/schema"
)

// kernel is the kernel of an image.
type kernel struct {
	version string // as in its file names, in /lib/modules, and in itself
	path    string // in the tree
	signed  bool   // for UEFI Secure Boot
}

// maxKernel bounds what is taken for a kernel.
const maxKernel = 256 << 20

// findKernel finds the image's kernel (the newest of several), and sees that its
// modules are there and that it is what its name says.
func (b *build) findKernel(context.Context) error {
	t := b.tree
	attr, add := "debootstrap.packages", "list one, such as linux-image-amd64"
	if b.img.Source == schema.SourceTar {
		attr, add = "tar.path", "install one before packing the archive"
	}
	k, ok, err := newestKernel(t)
	if err != nil {
		return err
	}
	if !ok {
		return &mistake{attr: attr, summary: "No kernel in the image", detail: "there is no /boot/vmlinuz-*: " + add}
	}
	b.kernel = k
	version := k.version

	f, err := t.openRegular(b.kernel.path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if arch, signed := kernelFacts(f, st.Size()); arch != "" {
		// A 64-bit kernel may stand below 32-bit programs: what boots is the kernel.
		b.arch, b.kernel.signed = arch, signed
	}
	is, err := kernelVersion(f)
	var r *refused
	if errors.As(err, &r) {
		return &mistake{attr: attr, summary: "Not a kernel", detail: fmt.Sprintf("/%s: %s", b.kernel.path, r.what)}
	}
	if err != nil {
		return err
	}
	if is != version {
		return &mistake{attr: attr, summary: "Kernel and name do not belong together",
			detail: fmt.Sprintf("/%s is Linux %s: it could not load the modules of %s", b.kernel.path, is, version)}
	}
	modules, err := t.list("lib/modules")
	if err != nil {
		return err
	}
	if !t.isDir("lib/modules/" + version) {
		have := "there are none"
		if len(modules) > 0 {
			have = "there are those of " + strings.Join(modules, ", ")
		}
		return &mistake{attr: attr, summary: "Kernel and modules do not belong together",
			detail: fmt.Sprintf("the image boots Linux %s and has no modules for it in /lib/modules: %s", version, have)}
	}
	return nil
}

// newestKernel gives the newest kernel of a tree by its name.
func newestKernel(t *tree) (kernel, bool, error) {
	names, err := t.list("boot")
	if err != nil {
		return kernel{}, false, err
	}
	var versions []string
	for _, n := range names {
		if v, ok := strings.CutPrefix(n, "vmlinuz-"); ok && v != "" {
			versions = append(versions, v)
		}
	}
	if len(versions) == 0 {
		return kernel{}, false, nil
	}
	version := slices.MaxFunc(versions, compareVersions)
	return kernel{version: version, path: "boot/vmlinuz-" + version}, true, nil
}

// compareVersions orders kernel versions: numbers by value, everything else by
// its bytes, so 6.1.0-9 comes before 6.1.0-10.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		na, ra := leadingNumber(a)
		nb, rb := leadingNumber(b)
		switch {
		case na != "" && nb != "":
			if c := len(na) - len(nb); c != 0 {
				return c
			}
			if c := strings.Compare(na, nb); c != 0 {
				return c
			}
			a, b = ra, rb
		case a[0] != b[0]:
			return int(a[0]) - int(b[0])
		default:
			a, b = a[1:], b[1:]
		}
	}
	return len(a) - len(b)
}

// leadingNumber splits off the digits at the front, without leading zeros: "0" is
// one zero.
func leadingNumber(s string) (digits, rest string) {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	digits, rest = s[:n], s[n:]
	if t := strings.TrimLeft(digits, "0"); t != "" || digits == "" {
		return t, rest
	}
	return "0", rest
}

// kernelVersion reads the version that a kernel image carries: x86's bzImage says
// where it is (Documentation/arch/x86/boot.rst, field kernel_version); in others,
// and in their gzip form, it follows the words "Linux version".
func kernelVersion(f io.ReaderAt) (string, error) {
	head := make([]byte, 0x210)
	if n, err := f.ReadAt(head, 0); n < len(head) {
		if err == io.EOF {
			return "", refuse("it is too short")
		}
		return "", err
	}
	if string(head[0x202:0x206]) == "HdrS" {
		text := make([]byte, 128)
		at := int64(binary.LittleEndian.Uint16(head[0x20e:])) + 0x200
		if n, err := f.ReadAt(text, at); n == 0 {
			return "", errors.Join(refuse("its header leads nowhere"), ignoreEOF(err))
		}
		return firstWord(text)
	}
	var r io.Reader = io.NewSectionReader(f, 0, maxKernel)
	if bytes.HasPrefix(head, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(r)
		if err != nil {
			return "", refuse("it is a broken gzip file")
		}
		r = z
	}
	return searchVersion(io.LimitReader(r, maxKernel))
}

func ignoreEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// searchVersion looks for "Linux version X".
func searchVersion(r io.Reader) (string, error) {
	mark := []byte("Linux version ")
	const keep = 256
	buf := make([]byte, 0, 1<<20)
	for {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		for from := 0; ; {
			i := bytes.Index(buf[from:], mark)
			if i < 0 {
				break
			}
			at := from + i + len(mark)
			if len(buf)-at < 128 && err == nil {
				break // read on; it is within what is kept
			}
			// "%s" follows in the format string of the banner.
			if v, verr := firstWord(buf[at:min(len(buf), at+128)]); verr == nil {
				return v, nil
			}
			from = at
		}
		if err != nil {
			return "", refuse("it carries no version")
		}
		copy(buf[:keep], buf[len(buf)-keep:])
		buf = buf[:keep]
	}
}

// firstWord gives what stands before the first space, if it can be a version.
func firstWord(text []byte) (string, error) {
	end := bytes.IndexAny(text, " \x00\n")
	if end <= 0 || text[0] < '0' || text[0] > '9' {
		return "", refuse("it carries no version")
	}
	word := string(text[:end])
	if strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+~_-") != "" {
		return "", refuse("its version is not one")
	}
	return word, nil
}

// takeBootFiles puts kernel and initramfs beside the tree: nothing reads them from
// the root of a machine that got them over the network. The kernel stays there
// for people to see.
func (b *build) takeBootFiles(context.Context) error {
	src, err := b.tree.openRegular(b.kernel.path)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(filepath.Join(b.dir, kernelFile))
	if err != nil {
		return err
	}
	defer dst.Close()
	if _, err := io.Copy(dst, io.LimitReader(src, maxKernel)); err != nil {
		return err
	}
	if err := dst.Close(); err != nil {
		return err
	}
	return b.removeInitrds()
}

// removeInitrds removes every initramfs from the tree.
func (b *build) removeInitrds() error {
	names, err := b.tree.list("boot")
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasPrefix(n, "initrd.img") {
			if err := b.tree.remove("boot/"+n, followLinks); err != nil && !errors.Is(err, unix.EISDIR) {
				return err
			}
		}
	}
	return nil
}
