package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// ownInitramfs reports whether the archive brings its initramfs: then nothing of
// ours goes into the image but what makes ssh host keys, and nothing of the image is
// run.
func (b *build) ownInitramfs() bool { return b.img.Initramfs.Generator == "none" }

// takeInitramfs copies the archive's initramfs out of the tree. One that has
// modules for another kernel is refused; one that cannot be looked into is taken.
func (b *build) takeInitramfs(context.Context) error {
	name := "boot/initrd.img-" + b.kernel.version
	src, err := b.tree.openRegular(name)
	if errors.Is(err, os.ErrNotExist) {
		return &mistake{attr: "initramfs.generator", summary: "No initramfs in the archive",
			detail: fmt.Sprintf("there is no /%s; pack one, or leave out initramfs \"none\" to have one made", name)}
	}
	if err != nil {
		return err
	}
	defer src.Close()
	file := filepath.Join(b.dir, initrdFile)
	dst, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err := errors.Join(err, dst.Close()); err != nil {
		return err
	}
	if err := padFile(file); err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := readInitrd(f, func(string, io.Reader) (io.Reader, func(), error) {
		return nil, nil, refuse("it is compressed in a way that is not looked into")
	})
	var r *refused
	switch {
	case errors.As(err, &r):
		return nil
	case err != nil:
		return err
	case len(got.versions) > 0 && !slices.Contains(got.versions, b.kernel.version):
		return &mistake{attr: "tar.path", summary: "Kernel and initramfs do not belong together",
			detail: fmt.Sprintf("the archive boots Linux %s, and its initramfs has modules for %s", b.kernel.version, orNone(got.versions))}
	}
	return nil
}
