package cow

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lender is a base that says where its bytes are; see blob.File.
type lender interface {
	Lend(off int64, n int) ([]byte, *os.File)
	Fetch(off, n int64) error
}

// nowReader is a base that reads only what does not wait.
type nowReader interface {
	ReadNow(p []byte, off int64) bool
}

// Lend gives a first part of [off, off+n) in place: b, which is nil unless that part is
// the base's and in memory, and file, which has the same bytes from off on unless it is
// nil. So what was never written is read at the price that it has without an overlay.
// It takes no lock, as ReadAt; a write that comes later does not show in what was lent.
func (o *Overlay) Lend(off int64, n int) (b []byte, file *os.File) {
	base, ok := o.base.(lender)
	if !ok || n <= 0 || o.check(off, int64(n)) != nil {
		return nil, nil
	}
	from, length := o.run(off, int64(n))
	if from == io.ReaderAt(o.data) {
		return nil, nil
	}
	return base.Lend(off, int(length))
}

// Fetch waits until the base's part of [off, off+n) is in memory, for Lend to find it
// there. Blocks of the overlay's own are left out.
func (o *Overlay) Fetch(off, n int64) error {
	if err := o.check(off, n); err != nil {
		return err
	}
	base, ok := o.base.(lender)
	for ok && n > 0 {
		from, length := o.run(off, n)
		if from != io.ReaderAt(o.data) {
			if err := base.Fetch(off, length); err != nil {
				return err
			}
		}
		off, n = off+length, n-length
	}
	return nil
}

// ReadNow fills p from off on, or reports false when that would wait for the disk;
// then p has anything.
func (o *Overlay) ReadNow(p []byte, off int64) bool {
	if o.check(off, int64(len(p))) != nil {
		return false
	}
	for len(p) > 0 {
		from, n := o.run(off, int64(len(p)))
		if from == io.ReaderAt(o.data) {
			bufs := [1][]byte{p[:n]}
			if got, err := unix.Preadv2(int(o.data.Fd()), bufs[:], off, unix.RWF_NOWAIT); err != nil || int64(got) != n {
				return false
			}
		} else if base, ok := from.(nowReader); !ok || !base.ReadNow(p[:n], off) {
			return false
		}
		p, off = p[n:], off+n
	}
	return true
}

// WriteWaits reports whether a write to [off, off+n), of bytes or of zeros, has to wait
// for a disk to read of the base what it leaves of a block.
func (o *Overlay) WriteWaits(off, n int64) bool {
	base, ok := o.base.(lender)
	if !ok || n <= 0 || o.check(off, n) != nil {
		return false
	}
	edges, count := o.edges(off, off+n)
	for _, block := range edges[:count] {
		if o.present.has(block) {
			continue
		}
		for at, end := block*BlockSize, min((block+1)*BlockSize, o.size); at < end; {
			b, _ := base.Lend(at, int(end-at))
			if len(b) == 0 {
				return true
			}
			at += int64(len(b))
		}
	}
	return false
}

// FetchForWrite waits for that. It takes no lock, so that others can write meanwhile.
func (o *Overlay) FetchForWrite(off, n int64) error {
	if err := o.check(off, n); err != nil || n == 0 {
		return err
	}
	base, fetches := o.base.(lender)
	edges, count := o.edges(off, off+n)
	for _, block := range edges[:count] {
		at := block * BlockSize
		length := min(BlockSize, o.size-at)
		if o.present.has(block) || fetches && base.Fetch(at, length) == nil {
			continue
		}
		if _, err := o.base.ReadAt(make([]byte, length), at); err != nil && err != io.EOF {
			return err
		}
	}
	return nil
}
