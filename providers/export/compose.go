package export

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/providers/internal/sparse"
)

// mostLive and longestLive bound a copy of a disk while its machine waits: the kernel takes
// its connection for dead after 5 s.
const (
	mostLive    = 512 << 20 // bytes
	longestLive = 3 * time.Second
)

// copying is a copy of a disk that nobody has attached, under way. A machine that comes
// ends it: it does not wait for an operator's copy.
type copying struct {
	key cow.Key
	end func()
}

// compose makes a file at path that reads like the disk, with its holes. Without live it
// refuses a disk that is attached by then, and gives up when it is attached meanwhile;
// with live that is so of a disk only whose machine would wait too long.
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
	alone := ctx
	if !live {
		var done func()
		if alone, done, err = p.alone(ctx, f, "use --live, or "); err != nil {
			return err
		}
		defer done()
	}
	if err := p.copyBase(alone, dst, base, f.Size, o); err != nil {
		return fmt.Errorf("copying the image: %w", ended(alone, err))
	}
	if live {
		err := o.CopyTo(ctx, dst, cow.Patience{Bytes: mostLive, Wait: longestLive})
		if !errors.Is(err, cow.ErrBusy) {
			return ended(ctx, err)
		}
		var done func()
		if alone, done, err = p.alone(ctx, f, err.Error()+": "); err != nil {
			return err
		}
		defer done()
	}
	return ended(alone, o.CopyTo(alone, dst, cow.Patience{}))
}

// alone gives a context for what is done with a disk that nobody has attached: it ends
// when somebody attaches to it. The error is ErrAttached when somebody has; advice says
// why, or what he can do, before the order to switch the machine off. done is called at the end.
func (p *Provider) alone(ctx context.Context, f found, advice string) (_ context.Context, done func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.connsOf(f.key)) > 0 {
		return nil, nil, fmt.Errorf("%w: %s by %s; %sswitch it off", provider.ErrAttached, f.Export, f.Machine, advice)
	}
	came := fmt.Errorf("%w: %s by %s, which came while its disk was copied; %sswitch it off and try again", provider.ErrAttached, f.Export, f.Machine, advice)
	ctx, cancel := context.WithCancelCause(ctx)
	c := &copying{f.key, func() { cancel(came) }}
	p.copies[c] = struct{}{}
	return ctx, func() {
		p.mu.Lock()
		delete(p.copies, c)
		p.mu.Unlock()
		cancel(nil)
	}, nil
}

// ended gives why a context ended, where that is what an error says.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return context.Cause(ctx)
	}
	return err
}

// endCopies ends the copies of a disk that is attached now. The caller holds p.mu.
func (p *Provider) endCopies(key cow.Key) {
	for c := range p.copies {
		if c.key == key {
			c.end()
		}
	}
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
	at, failed := int64(0), error(nil)
	err := sparse.Extents(src, 0, size, func(n int64, hole bool) bool {
		if !hole {
			failed = cow.CopyRange(ctx, dst, src, at, n)
		}
		at += n
		return failed == nil
	})
	return errors.Join(failed, err)
}
