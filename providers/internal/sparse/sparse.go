// Package sparse says where files have holes, and has their bytes fetched early.
package sparse

import (
	"errors"
	"io"
	"os"
	"sort"

	"golang.org/x/sys/unix"
)

// Extents calls yield for one piece of [off, off+length) of f after the other, data
// or hole, without gaps, until the end or until yield says false. The range lies
// within the file. A file system that does not know has data everywhere.
func Extents(f *os.File, off, length int64, yield func(length int64, hole bool) bool) error {
	for end := off + length; off < end; {
		data, err := seek(f, off, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO): // none up to the end of the file
			// A file that was cut off has no hole there: reading it is an error.
			if st, err := f.Stat(); err != nil || st.Size() < end {
				return errors.Join(io.ErrUnexpectedEOF, err)
			}
			data = end
		case err != nil:
			return err
		}
		data = min(data, end)
		if data > off && !yield(data-off, true) || data == end {
			return nil
		}
		hole, err := seek(f, data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		hole = min(hole, end)
		if !yield(hole-data, false) {
			return nil
		}
		off = hole
	}
	return nil
}

// seek moves the file's offset, which readers by offset do not use.
func seek(f *os.File, off int64, whence int) (int64, error) {
	for {
		at, err := unix.Seek(int(f.Fd()), off, whence)
		if !errors.Is(err, unix.EINTR) {
			return at, err
		}
	}
}

// Fetch has the kernel read a range into the page cache.
func Fetch(f *os.File, off, length int64) error {
	return unix.Fadvise(int(f.Fd()), off, length, unix.FADV_WILLNEED)
}

// Map is where a file that does not change has its holes. The zero value has none.
// Safe for concurrent use.
type Map struct{ holes []span } // in order, apart

type span struct{ from, to int64 }

// maxHoles bounds a Map to 1 MiB; what comes after them counts as data.
const maxHoles = 1 << 16

// Scan finds the holes of the first size bytes of f.
func Scan(f *os.File, size int64) (Map, error) {
	var m Map
	at := int64(0)
	err := Extents(f, 0, size, func(n int64, hole bool) bool {
		if hole {
			m.holes = append(m.holes, span{at, at + n})
		}
		at += n
		return len(m.holes) < maxHoles
	})
	return m, err
}

// Extents is the function Extents, from memory.
func (m Map) Extents(off, length int64, yield func(length int64, hole bool) bool) {
	end := off + length
	i := sort.Search(len(m.holes), func(i int) bool { return m.holes[i].to > off })
	for off < end {
		from, to := end, end
		if i < len(m.holes) {
			from, to = min(max(m.holes[i].from, off), end), min(m.holes[i].to, end)
			i++
		}
		if from > off && !yield(from-off, false) || to > from && !yield(to-from, true) {
			return
		}
		off = to
	}
}

// At says how long what is at off goes on, at most length bytes, and whether it is a
// hole.
func (m *Map) At(off, length int64) (n int64, hole bool) {
	i := sort.Search(len(m.holes), func(i int) bool { return m.holes[i].to > off })
	switch {
	case i == len(m.holes):
		return length, false
	case m.holes[i].from <= off:
		return min(length, m.holes[i].to-off), true
	}
	return min(length, m.holes[i].from-off), false
}
