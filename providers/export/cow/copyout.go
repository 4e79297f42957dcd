package cow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/providers/internal/sparse"
)

// Range is a piece of a disk, in bytes.
type Range struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// Ranges gives the ranges that are not the base's any more, in order: the first ones,
// at most most, and how many there are in all.
func (o *Overlay) Ranges(most int) (list []Range, all int) {
	if o.size == 0 {
		return nil, 0
	}
	o.present.each(0, blocksOf(o.size)-1, func(first, last int64) bool {
		if all++; len(list) < most {
			off := first * BlockSize
			list = append(list, Range{off, min((last+1)*BlockSize, o.size) - off})
		}
		return true
	})
	return list, all
}

// ErrBusy says that an overlay cannot be copied while its machine waits. It is wrapped in
// why.
var ErrBusy = errors.New("it cannot be copied while its machine waits")

// Patience is what a copy may cost a machine that has the disk. Zero fields are no bound.
type Patience struct {
	Bytes int64         // that are copied
	Wait  time.Duration // for which its writes wait, up to a piece of 1 MiB more
}

// CopyTo makes dst, which reads like the base or an earlier state of the disk, read like
// the disk: as it is at one moment, with every write that was answered before and none
// that was not begun, so what a machine finds after its power was cut. Writers wait
// meanwhile, or until a megabyte after ctx has ended; readers do not. With more to copy
// than is allowed nothing is copied, and where it takes too long only a part: the error
// is ErrBusy.
func (o *Overlay) CopyTo(ctx context.Context, dst *os.File, most Patience) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if most.Wait > 0 {
		ctx = &patient{Context: ctx, now: o.store.now, from: o.store.now(), wait: most.Wait}
	}
	if err := o.count(); err != nil {
		return err
	}
	if most.Bytes > 0 && o.held.n.Load()*BlockSize > most.Bytes {
		return fmt.Errorf("%w: it holds more than %d MiB", ErrBusy, most.Bytes>>20)
	}
	if o.size == 0 {
		return nil
	}
	var err error
	o.present.each(0, blocksOf(o.size)-1, func(first, last int64) bool {
		if err = ctx.Err(); err == nil {
			off := first * BlockSize
			err = overlay(ctx, dst, o.data, off, min((last+1)*BlockSize, o.size)-off)
		}
		return err == nil
	})
	if err != nil {
		return fmt.Errorf("overlay %s: copying it: %w", o.rec.Key, err)
	}
	return nil
}

// patient is a context that ends, for who asks, when a time is over by a clock.
type patient struct {
	context.Context
	now  func() time.Time
	from time.Time
	wait time.Duration
}

func (p *patient) Err() error {
	if err := p.Context.Err(); err != nil {
		return err
	}
	if p.now().Sub(p.from) > p.wait {
		return fmt.Errorf("%w: that takes more than %v", ErrBusy, p.wait)
	}
	return nil
}

// overlay copies a range, its holes as holes.
func overlay(ctx context.Context, dst, src *os.File, off, length int64) error {
	var err error
	more := sparse.Extents(src, off, length, func(n int64, hole bool) bool {
		if hole {
			_, err = zeros(dst, off, n, false, false)
		} else {
			err = CopyRange(ctx, dst, src, off, n)
		}
		off += n
		return err == nil
	})
	return errors.Join(err, more)
}

// copyPiece is how many bytes are copied between two looks at a context.
const copyPiece = 1 << 20

// CopyRange copies bytes of one file to the same place in another, by sharing them
// where the file system can, until ctx ends.
func CopyRange(ctx context.Context, dst, src *os.File, off, length int64) error {
	for length > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		from, to, piece := off, off, min(length, copyPiece)
		n, err := unix.CopyFileRange(int(src.Fd()), &from, int(dst.Fd()), &to, int(piece), 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
			copied, err := io.Copy(io.NewOffsetWriter(dst, off), io.NewSectionReader(src, off, piece))
			if err == nil && copied < piece {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				return err
			}
			n = int(piece)
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		off, length = off+int64(n), length-int64(n)
	}
	return nil
}
