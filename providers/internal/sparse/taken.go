package sparse

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's struct fiemap and its extents; see Documentation/filesystems/fiemap.rst.
type (
	fiemap struct {
		start, length uint64
		flags         uint32
		mapped        uint32 // extents that were filled in
		count         uint32 // of extents that there is room for
		_             uint32
		extents       [fiemapRoom]fiemapExtent
	}
	fiemapExtent struct {
		logical, physical, length uint64
		_                         [2]uint64
		flags                     uint32
		_                         [3]uint32
	}
)

const (
	fiemapRoom  = 64
	fiemapIoctl = 0xc020660b // FS_IOC_FIEMAP
	fiemapLast  = 1          // FIEMAP_EXTENT_LAST
)

// Taken calls yield for each piece of [off, off+length) of f that takes space, in order:
// data, also what is on its way to the disk, and what is reserved and reads as zeros. A
// file system that cannot tell of the latter has it as holes, as Extents does.
func Taken(f *os.File, off, length int64, yield func(off, length int64)) error {
	end := off + length
	for off < end {
		m := fiemap{start: uint64(off), length: uint64(end - off), count: fiemapRoom}
		switch err := askFiemap(f, &m); {
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTTY):
			return Extents(f, off, end-off, func(n int64, hole bool) bool {
				if !hole && n > 0 {
					yield(off, n)
				}
				off += n
				return true
			})
		case err != nil:
			return err
		}
		for _, e := range m.extents[:min(m.mapped, fiemapRoom)] {
			from, to := max(int64(e.logical), off), min(int64(e.logical+e.length), end)
			if from < to {
				yield(from, to-from)
				off = to
			}
			if e.flags&fiemapLast != 0 {
				return nil
			}
		}
		if m.mapped < fiemapRoom {
			return nil
		}
	}
	return nil
}

func askFiemap(f *os.File, m *fiemap) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fiemapIoctl, uintptr(unsafe.Pointer(m)))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}
