package nbd

import "os"

// Lender is a backend that can say where its bytes are, so that READs of them are
// answered without a copy. Where it gives none, READs are answered from elsewhere
// than the request loop, so that what waits for a disk holds up nothing else.
type Lender interface {
	// Lend gives a first part of [off, off+n), n > 0, in place, if it can be sent
	// without waiting for a disk; nil if not. The server hands it to the kernel and
	// never touches it itself, and no more once Detached was called. Whether writes
	// that come later show in it is the backend's affair: both were under way at once.
	// file has the same bytes at off, and stays open as long, or it is nil.
	Lend(off int64, n int) (b []byte, file *os.File)
	// Fetch waits for the disk, so that Lend has no need to. What Lend does not give after
	// it is read with ReadAt, which then waits.
	Fetch(off, n int64) error
}

// NowReader is a backend that can be asked to read only if that does not wait.
type NowReader interface {
	// ReadNow fills p from off on, or reports false and leaves anything in p.
	ReadNow(p []byte, off int64) bool
}

// maxLent bounds the pieces in which one READ is lent.
const maxLent = 64

// lent gathers [off, off+n), n > 0, in place. It reports false when not all of it is
// to be had. The slices are good until the next call.
func (w *worker) lent(off int64, n int) bool {
	w.pieces = w.pieces[:0]
	return w.inPlace && w.lendMore(off, n)
}

// lendMore adds to pieces.
func (w *worker) lendMore(off int64, n int) bool {
	for n > 0 {
		b, file := w.lender.Lend(off, n)
		if len(b) == 0 || len(w.pieces) == maxLent {
			return false
		}
		w.pieces = append(w.pieces, part{b, file, off})
		off, n = off+int64(len(b)), n-len(b)
	}
	return true
}

// hot reports whether [off, off+n) can be lent, in however many pieces: then it can be
// read without waiting, too.
func (t *transmission) hot(off int64, n int) bool {
	for n > 0 {
		b, _ := t.lender.Lend(off, n)
		if len(b) == 0 {
			return false
		}
		off, n = off+int64(len(b)), n-len(b)
	}
	return true
}
