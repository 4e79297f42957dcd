package cow

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Zero makes a range read as zeros and gives its space back.
func (o *Overlay) Zero(off, length int64) error { return o.ZeroRange(off, length, false, false) }

// ZeroRange makes a range read as zeros. With noHole it keeps, or takes, the space
// that writes to it will need; without, it gives it back. With fast, a file system
// that can do neither without writing zeros is EOPNOTSUPP, and nothing changes.
func (o *Overlay) ZeroRange(off, length int64, noHole, fast bool) error {
	if err := o.check(off, length); err != nil {
		return err
	}
	if length == 0 {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	end := off + length
	where := span{off / BlockSize, (end - 1) / BlockSize}
	edges, n := o.edges(off, end)
	fresh := [2]span{{0, -1}, {0, -1}} // edges that have to be copied from the base
	for i, block := range edges[:n] {
		if !o.present.has(block) {
			fresh[i] = span{block, block}
		}
	}
	reserved, hole := int64(0), false
	var err error
	if noHole {
		reserved, err = o.admit(where)
	} else {
		reserved, err = o.admit(fresh[:]...)
	}
	if err != nil {
		return err
	}
	if err = o.copyUpEdges(off, end); err == nil {
		hole, err = o.zero(off, length, noHole, fast, &reserved)
	}
	if err == nil {
		err = o.mark(where.first, where.last)
	}
	if err != nil {
		o.undone(where, reserved)
		return err
	}
	o.done(reserved, 0)
	if !hole {
		o.take(where.first, where.last)
		return nil
	}
	inner := where
	if slices.Contains(edges[:n], inner.first) {
		inner.first++
	}
	if slices.Contains(edges[:n], inner.last) {
		inner.last--
	}
	o.give(inner.first, inner.last)
	for _, s := range fresh {
		if s.blocks() > 0 {
			o.take(s.first, s.last)
		}
	}
	return nil
}

// zero zeros bytes of data. What zeros take that have to be written, as the file system
// makes no holes, is admitted first, and added to reserved. The caller holds mu.
func (o *Overlay) zero(off, length int64, noHole, fast bool, reserved *int64) (hole bool, err error) {
	o.unsynced = true
	wide := length
	if end := off + length; end == o.size && !noHole { // else half a block would stay behind
		wide = blocksOf(end)*BlockSize - off
	}
	hole, err = zeros(o.data, off, wide, noHole, true)
	if fast || !errors.Is(err, unix.EOPNOTSUPP) {
		return hole, err
	}
	if !noHole {
		more, err := o.admit(span{off / BlockSize, (off + length - 1) / BlockSize})
		if err != nil {
			return false, err
		}
		*reserved += more
		// To count is to give back what is not present.
		if err := o.copyUpEdges(off, off+length); err != nil {
			return false, err
		}
	}
	return zeros(o.data, off, length, noHole, false)
}

// zeros zeros the bytes of a range, whole blocks by making a hole, or by taking
// their space with noHole. On a file system that cannot, zeros are written, unless
// it has to be fast. hole says that whole blocks are one now.
func zeros(f *os.File, off, length int64, noHole, fast bool) (hole bool, err error) {
	mode := uint32(unix.FALLOC_FL_PUNCH_HOLE)
	if noHole {
		mode = unix.FALLOC_FL_ZERO_RANGE
	}
	for {
		err := unix.Fallocate(int(f.Fd()), mode|unix.FALLOC_FL_KEEP_SIZE, off, length)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EOPNOTSUPP) || fast:
			return !noHole, err
		}
		break
	}
	blank := make([]byte, min(length, 1<<20))
	for length > 0 {
		n, err := f.WriteAt(blank[:min(length, int64(len(blank)))], off)
		if err != nil {
			return false, err
		}
		off, length = off+int64(n), length-int64(n)
	}
	return false, nil
}
