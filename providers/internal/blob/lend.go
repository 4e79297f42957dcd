package blob

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// errNotMapped says that bytes can only be read, and not lent.
var errNotMapped = errors.New("the file cannot be mapped")

// blank is what holes are lent as, the longest READ of them in 32 pieces. Nobody writes to
// it, so it takes no memory.
var blank [1 << 20]byte

// Lend gives a first part of [off, off+n) in place, which lies within the file, when
// it is in memory; nil when it is not, or not known to be. It waits for no disk.
//
// The bytes may only be handed to the kernel: a file that is cut off under its
// mapping ends the process that touches it, but is only an error (EFAULT) of a system
// call. They stay in place until the last Release. The kernel may have dropped them
// since they were last looked at, a moment ago: then the call waits for the disk.
//
// file, if it is not nil, has them at off, too.
func (f *File) Lend(off int64, n int) (b []byte, file *os.File) {
	m := f.mapping.Load()
	if m == nil || m.of != f.file.Load() {
		return nil, nil
	}
	length, hole := m.holes.At(off, int64(n))
	if hole {
		return blank[:min(length, int64(len(blank)))], nil
	}
	if length = m.resident(off, length, time.Since(m.born)); length == 0 {
		return nil, nil
	}
	return m.bytes[off : off+length : off+length], m.of
}

// Fetch has Lend give [off, off+n), when the disk is willing. It waits for the disk,
// and takes no memory of this process.
func (f *File) Fetch(off, n int64) error {
	m, err := f.mapped()
	if err != nil {
		return err
	}
	for n > 0 {
		length, hole := m.holes.At(off, n)
		if !hole {
			if err := m.fetch(off, length); err != nil {
				return err
			}
		}
		off, n = off+length, n-length
	}
	return nil
}

// ReadNow fills p from off on, or reports false when that would wait for the disk;
// then p has anything. It does so, too, of a file of which nobody fetched anything yet:
// whoever reads here and there, and only what is in memory, would never be lent anything.
func (f *File) ReadNow(p []byte, off int64) bool {
	now := f.file.Load()
	return f.tried.Load() == now && ReadNow(now, p, off)
}

// ReadNow is File.ReadNow of any file.
func ReadNow(f *os.File, p []byte, off int64) bool {
	bufs := [1][]byte{p}
	n, err := unix.Preadv2(int(f.Fd()), bufs[:], off, unix.RWF_NOWAIT)
	return err == nil && n == len(p)
}
