package cow

import (
	"io"

	"github.com/dlreconcile/dlreconcile/providers/internal/sparse"
)

// Extents says where the disk has holes: in its own blocks, what was zeroed and
// not written since; elsewhere, what the base says. It calls yield for one piece of
// the range after the other, until yield says false. It takes no lock, as ReadAt.
func (o *Overlay) Extents(off, length int64, yield func(length int64, hole bool) bool) error {
	if err := o.check(off, length); err != nil {
		return err
	}
	if base, ok := o.base.(mapper); ok && length > 0 {
		if from, n := o.run(off, length); from != io.ReaderAt(o.data) && n == length { // most of them, and it costs nothing
			return base.Extents(off, length, yield)
		}
	}
	return o.extents(off, length, yield)
}

// mapper is a base that knows its holes.
type mapper interface {
	Extents(off, length int64, yield func(length int64, hole bool) bool) error
}

// extents is Extents of what is in several places.
func (o *Overlay) extents(off, length int64, yield func(length int64, hole bool) bool) error {
	more := true
	pass := func(n int64, hole bool) bool {
		more = yield(n, hole)
		return more
	}
	base, _ := o.base.(mapper)
	for more && length > 0 {
		from, n := o.run(off, length)
		var err error
		switch {
		case from == io.ReaderAt(o.data):
			err = sparse.Extents(o.data, off, n, pass)
		case base != nil:
			err = base.Extents(off, n, pass)
		default:
			pass(n, false)
		}
		if err != nil {
			return err
		}
		off, length = off+n, length-n
	}
	return nil
}

// Cache has a range fetched before it is read, the own blocks of it and the base's.
func (o *Overlay) Cache(off, length int64) error {
	if err := o.check(off, length); err != nil {
		return err
	}
	if base, ok := o.base.(interface{ Cache(off, length int64) error }); ok {
		if err := base.Cache(off, length); err != nil {
			return err
		}
	}
	return sparse.Fetch(o.data, off, length)
}
