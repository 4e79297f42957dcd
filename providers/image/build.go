package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// build is one build of one image. Everything of it is below one scratch folder.
type build struct {
	img     *schema.Image
	files   fs.FS // of the commit
	dir     string
	tree    *tree  // dir/root
	arch    string // Debian architecture
	program []byte // nbdroot; nil with an initramfs of the image's own
	report  func(step)

	unpacked contents
	// epoch is the time that everything made here gets: the latest in the
	// source, so that the same source gives the same bytes.
	epoch  time.Time
	kernel kernel
}

// errNeedsRoot is a missing right: fs.ErrPermission. No other try mends that.
var errNeedsRoot = fmt.Errorf("building an image needs root: it makes files of any owner and runs the image's own programs in a chroot: %w", syscall.EPERM)

// build makes an artifact and records it. When it fails, or is killed, nothing of
// it is in the store but perhaps the base, which is whole.
func (p *Provider) build(ctx context.Context, img *schema.Image, files fs.FS, report func(step)) (provider.Artifact, error) {
	var none provider.Artifact
	if img.Source == schema.SourceSealed {
		return none, notSealedHere(img)
	}
	if os.Geteuid() != 0 {
		return none, errNeedsRoot
	}
	if files == nil {
		return none, fmt.Errorf("recipe %s must be built, and the files of the commit are not there", img.Recipe)
	}
	if err := p.place(ctx, img.Recipe, report); err != nil {
		return none, err
	}
	defer p.slots.Release(1)
	started := time.Now()

	b := &build{img: img, files: files, report: report}
	if img.Debootstrap != nil { // before hundreds of packages are fetched
		if err := b.targets(p, img.Debootstrap.Arch); err != nil {
			return none, err
		}
	}
	dir, err := p.Content.Scratch("image")
	if err != nil {
		return none, err
	}
	defer os.RemoveAll(dir)
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return none, err
	}
	t, err := openTree(root)
	if err != nil {
		return none, err
	}
	defer t.Close()
	b.dir, b.tree = dir, t

	if err := b.fill(ctx, p); err != nil {
		return none, err
	}
	a, err := b.finish(ctx, p)
	if err != nil {
		return none, explainFull(err, dir, 2*b.unpacked.bytes+filesystemOverhead, "the image")
	}
	p.Log.Info("image built", "image", img.Addr.String(), "recipe", img.Recipe, "artifact", a.Root.Digest,
		"kernel", a.KernelVersion, "seconds", int(time.Since(started).Seconds()))
	return a, nil
}

// targets sets the architecture that the image is for, and takes the program of its
// initramfs.
func (b *build) targets(p *Provider, arch string) (err error) {
	b.arch = arch
	if !b.ownInitramfs() {
		b.program, err = p.program(arch)
	}
	return err
}

// place takes one of p.slots for the build of a recipe.
func (p *Provider) place(ctx context.Context, recipe string, report func(step)) error {
	if p.slots.TryAcquire(1) {
		return nil
	}
	report(step{name: "wait", text: "waiting for a free place to build"})
	defer p.builds.queue(recipe)()
	return p.slots.Acquire(ctx, 1)
}

// filesystemOverhead is room for what an image has beside its files: kernel and
// initramfs once more, inode tables, the journal.
const filesystemOverhead = 300 << 20

// fill puts the image's source into the tree.
func (b *build) fill(ctx context.Context, p *Provider) (err error) {
	switch b.img.Source {
	case schema.SourceDebootstrap:
		base, err := p.base(ctx, b.img, b.files, b.report)
		if err != nil {
			return err
		}
		// The archive is not compressed: its files, and the image of them.
		need := 2*base.Size + filesystemOverhead
		if err := needSpace(b.dir, need, "the image"); err != nil {
			return err
		}
		f, err := p.Content.Open(base)
		if err != nil {
			return err
		}
		defer f.Close()
		b.unpacked, err = b.unpack(ctx, f, base.Size)
		if err != nil {
			return explainFull(err, b.dir, need, "the image")
		}
	case schema.SourceTar:
		b.unpacked, err = b.fromTar(ctx, b.files)
		if err != nil {
			return explainFull(err, b.dir, filesystemOverhead, "the image")
		}
		arch, err := b.archiveArch()
		if err != nil {
			return err
		}
		if err := b.targets(p, arch); err != nil {
			return err
		}
	default:
		return fmt.Errorf("unknown source %q", b.img.Source)
	}
	b.epoch = b.unpacked.newest.Truncate(time.Second)
	return nil
}

// finish makes the image of what is in the tree.
func (b *build) finish(ctx context.Context, p *Provider) (provider.Artifact, error) {
	var none provider.Artifact
	initramfs := []func(context.Context) error{b.makeInitramfs, b.checkInitramfs}
	if b.ownInitramfs() {
		initramfs = []func(context.Context) error{b.takeInitramfs}
	}
	steps := slices.Concat([]func(context.Context) error{b.customise, b.findKernel}, initramfs,
		[]func(context.Context) error{b.takeBootFiles, b.makeFilesystem})
	for i, s := range steps {
		err := s(ctx)
		var m *mistake
		if i == 0 && errors.As(err, &m) {
			// Told together: each costs its author a commit.
			if kerr := b.findKernel(ctx); errors.As(kerr, &m) {
				err = errors.Join(err, kerr)
			}
		}
		if err != nil {
			return none, err
		}
	}
	b.report(step{name: "seal", text: "sealing"})
	a := provider.Artifact{Recipe: b.img.Recipe, KernelVersion: b.kernel.version, Filesystem: b.img.Filesystem.Type,
		Arch: b.arch, Signed: b.kernel.signed, Settles: !b.ownInitramfs()}
	for _, out := range []struct {
		file string
		blob *provider.Blob
	}{{rootFile, &a.Root}, {kernelFile, &a.Kernel}, {initrdFile, &a.Initrd}} {
		var err error
		if *out.blob, err = p.Content.Seal(ctx, filepath.Join(b.dir, out.file)); err != nil {
			return none, err
		}
	}
	var err error
	if a.Loaders, err = b.sealLoaders(ctx, p); err != nil {
		return none, err
	}
	if err := p.Content.SetArtifact(a); err != nil {
		return none, err
	}
	return a, nil
}

// What a build leaves in its scratch folder to be sealed.
const (
	rootFile   = "root.img"
	kernelFile = "vmlinuz"
	initrdFile = "initrd.img"
)
