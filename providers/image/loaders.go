package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Limits of boot programs, far beyond what the packages have.
const (
	maxLoader      = 16 << 20 // bytes of one file
	maxLoaderFiles = 2000     // in one folder
)

// loaderFile is a boot program where Debian's packages put it: shim-signed,
// grub-efi-amd64-signed, pxelinux, syslinux-common.
type loaderFile struct{ name, path string }

// sealLoaders puts the boot programs that the image's packages brought into the
// store. nil when there are none.
func (b *build) sealLoaders(ctx context.Context, p *Provider) (map[string]provider.Blob, error) {
	files := []loaderFile{
		{provider.LoaderShim, "usr/lib/shim/shimx64.efi.signed"},
		{provider.LoaderSignedGRUB, "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"},
		{provider.LoaderPXELINUX, "usr/lib/PXELINUX/pxelinux.0"},
		{provider.LoaderLPXELINUX, "usr/lib/PXELINUX/lpxelinux.0"},
	}
	const c32 = "usr/lib/syslinux/modules/bios"
	names, err := b.loaderNames(c32, func(n string) bool { return path.Ext(n) == ".c32" })
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		files = append(files, loaderFile{provider.LoaderC32Prefix + n, path.Join(c32, n)})
	}
	var out map[string]provider.Blob
	seal := func(name, file string) error {
		blob, err := p.Content.Seal(ctx, file)
		if err != nil {
			return err
		}
		if out == nil {
			out = map[string]provider.Blob{}
		}
		out[name] = blob
		return nil
	}
	tmp := filepath.Join(b.dir, "loader")
	for _, f := range files {
		ok, err := b.copyLoader(f.path, tmp)
		if err != nil {
			return nil, err
		}
		if ok {
			if err := seal(f.name, tmp); err != nil {
				return nil, err
			}
		}
	}
	for _, platform := range []string{"i386-pc", "i386-efi", "x86_64-efi", "arm64-efi"} {
		ok, err := b.packModules("usr/lib/grub/"+platform, tmp)
		if err != nil {
			return nil, err
		}
		if ok {
			if err := seal(provider.LoaderGRUBPrefix+platform, tmp); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// loaderNames lists the files of a folder of the tree that are wanted, sorted.
func (b *build) loaderNames(dir string, wanted func(string) bool) ([]string, error) {
	all, err := b.tree.list(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range all {
		if wanted(n) {
			names = append(names, n)
		}
	}
	if len(names) > maxLoaderFiles {
		return nil, fmt.Errorf("/%s has %d files", dir, len(names))
	}
	return names, nil
}

// copyLoader copies a file out of the tree, if it is there.
func (b *build) copyLoader(name, file string) (bool, error) {
	content, err := b.tree.readFile(name, maxLoader)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, os.WriteFile(file, content, 0o644)
}

// packModules makes a tar of what grub-mkimage and a running GRUB take from a
// platform's folder: modules, lists, and images to begin with. The same files give
// the same bytes.
func (b *build) packModules(dir, file string) (bool, error) {
	names, err := b.loaderNames(dir, func(n string) bool {
		switch path.Ext(n) {
		case ".mod", ".lst", ".img":
			return true
		}
		return n == "modinfo.sh" // grub-install and grub-mknetdir know the platform by it
	})
	if err != nil || len(names) == 0 {
		return false, err
	}
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return false, err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	for _, n := range names {
		if err := b.packModule(w, n, path.Join(dir, n)); err != nil {
			return false, err
		}
	}
	return true, errors.Join(w.Close(), out.Close())
}

func (b *build) packModule(w *tar.Writer, name, from string) error {
	content, err := b.tree.readFile(from, maxLoader)
	if errors.Is(err, fs.ErrNotExist) { // a link to nothing
		return nil
	}
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content)), Format: tar.FormatUSTAR}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}
