package export

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/providers/internal/sparse"
	"github.com/dlreconcile/dlreconcile/schema"
)

// mostLive bounds what is copied of a disk while its machine waits: less than the 5 s
// after which the kernel takes its connection for dead.
const mostLive = 512 << 20

// PromoteOverlay implements provider.Overlays.
func (p *Provider) PromoteOverlay(ctx context.Context, q provider.OverlayQuery, live bool) (provider.Promoted, error) {
	var none provider.Promoted
	list, err := p.meant(q)
	if err != nil {
		return none, err
	}
	if list = slices.DeleteFunc(list, func(f found) bool { return f.Refused }); len(list) == 0 {
		return none, fmt.Errorf("%w: it was discarded", provider.ErrNoOverlay)
	}
	if len(list) > 1 {
		var names []string
		for _, f := range list {
			names = append(names, f.Family())
		}
		return none, fmt.Errorf("%w: there are %d (%s); say which with --export", provider.ErrNoOverlay, len(list), strings.Join(names, ", "))
	}
	f := list[0]
	if len(f.Attached) > 0 && !live {
		return none, fmt.Errorf("%w: %s by %s; switch the machine off first, or use --live, which takes the disk as after a power cut", provider.ErrAttached, f.Export, f.Machine)
	}
	base, err := p.artifactOf(f)
	if err != nil {
		return none, err
	}
	defer p.content.Pin()()
	made := provider.Promoted{Overlay: f.Overlay, Sealed: base}
	err = p.opened(f, func(o *cow.Overlay) error {
		dir, err := p.content.Scratch("promote")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "root")
		if err := p.compose(ctx, f, o, path, live); err != nil {
			return err
		}
		made.Sealed.Root, err = p.content.Seal(ctx, path)
		return err
	})
	if err != nil {
		return none, err
	}
	made.Sealed.Recipe = schema.SealedRecipe(made.Sealed.Root.Digest, made.Sealed.Filesystem)
	made.Sealed.Promoted = true
	if err := p.content.SetArtifact(made.Sealed); err != nil {
		return none, err
	}
	made.Until = p.now().Add(store.KeepPromoted).UTC()
	return made, nil
}

// artifactOf gives the artifact that an overlay lies over: its kernel and its initrd go
// with what is made of it.
func (p *Provider) artifactOf(f found) (provider.Artifact, error) {
	for _, t := range p.pub.Load().ByGen {
		for _, s := range t.byAddr {
			if s.Artifact.Root.Digest == f.Artifact {
				return s.Artifact, nil
			}
		}
	}
	a, ok, err := p.content.ArtifactOf(f.Artifact)
	if err == nil && !ok {
		err = fmt.Errorf("nothing is recorded any more of %s, so its kernel is not known: boot the machine from an image that is there", f.Artifact)
	}
	return a, err
}

// compose makes a file at path that reads like the disk, with its holes. Without live it
// refuses a disk that is attached by then.
func (p *Provider) compose(ctx context.Context, f found, o *cow.Overlay, path string, live bool) error {
	base, err := p.content.Open(provider.Blob{Digest: f.Artifact, Size: f.Size})
	if err != nil {
		return err
	}
	defer base.Close()
	dst, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := p.copyBase(ctx, dst, base, f.Size, o); err != nil {
		return fmt.Errorf("copying the image: %w", err)
	}
	// Asked now: the machine may have come while the image was copied.
	p.mu.Lock()
	attached := len(p.connsOf(f.key)) > 0
	p.mu.Unlock()
	most := int64(-1)
	if attached {
		if most = mostLive; !live {
			return fmt.Errorf("%w: %s by %s, which came meanwhile", provider.ErrAttached, f.Export, f.Machine)
		}
	}
	err = o.CopyTo(ctx, dst, most)
	if errors.Is(err, cow.ErrBusy) {
		return fmt.Errorf("%w: it holds more than %d MiB, and the machine would have to wait too long while they are copied; switch it off", provider.ErrAttached, mostLive>>20)
	}
	return err
}

// copyBase copies a sealed file, unless the overlay and what cannot be shared of the file
// would take what is kept for leases and records.
func (p *Provider) copyBase(ctx context.Context, dst, src *os.File, size int64, o *cow.Overlay) error {
	need, err := o.Used()
	if err != nil {
		return err
	}
	st, err := src.Stat()
	if err != nil {
		return err
	}
	shared := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && !shared {
		need += sys.Blocks * 512
	}
	switch spare, err := p.overlays.Spare(); {
	case err != nil:
		return err
	case need > spare:
		return fmt.Errorf("%w: it takes about %d MiB, and %d MiB are free below the state directory beside what is kept for leases and records", unix.ENOSPC, need>>20, spare>>20)
	case shared:
		return nil
	}
	return copySparse(ctx, dst, src, size)
}

// copySparse copies the first size bytes of a file, its holes as holes.
func copySparse(ctx context.Context, dst, src *os.File, size int64) error {
	if err := dst.Truncate(size); err != nil {
		return err
	}
	const piece = 256 << 20 // between looks at ctx
	at, failed := int64(0), error(nil)
	err := sparse.Extents(src, 0, size, func(n int64, hole bool) bool {
		end := at + n
		for ; !hole && at < end && failed == nil; at += min(piece, end-at) {
			if failed = ctx.Err(); failed == nil {
				failed = cow.CopyRange(dst, src, at, min(piece, end-at))
			}
		}
		at = end
		return failed == nil
	})
	return errors.Join(failed, err)
}
