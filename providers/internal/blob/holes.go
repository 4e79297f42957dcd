package blob

import (
	"os"

	"github.com/dlreconcile/dlreconcile/providers/internal/sparse"
)

// holes is what is known of one file.
type holes struct {
	of *os.File
	sparse.Map
}

// Extents says where the file has holes, from the first call on from memory. It
// calls yield for one piece of the range after the other, until yield says false.
// What is not known is data.
func (f *File) Extents(off, length int64, yield func(length int64, hole bool) bool) error {
	h, err := f.holesOf(f.file.Load())
	if err == nil {
		h.Map.Extents(off, length, yield)
	}
	return err
}

// holesOf scans a file that nobody has scanned before; whoever asks meanwhile waits for
// that, and does not have the disk do it again.
func (f *File) holesOf(now *os.File) (*holes, error) {
	if h := f.holes.Load(); h != nil && h.of == now {
		return h, nil
	}
	f.holesMu.Lock()
	defer f.holesMu.Unlock()
	h := f.holes.Load()
	if h != nil && h.of == now {
		return h, nil
	}
	m, err := sparse.Scan(now, f.Size)
	if err != nil {
		return nil, err // and the next call looks again
	}
	h = &holes{of: now, Map: m}
	f.holes.Store(h)
	return h, nil
}

// Cache has a range of the file fetched before it is read.
func (f *File) Cache(off, length int64) error { return sparse.Fetch(f.file.Load(), off, length) }
