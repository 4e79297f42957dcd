package blob

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/providers/internal/sparse"
)

// mapping is a sealed file in this process's address space.
type mapping struct {
	of    *os.File
	bytes []byte // never touched by this process itself: see File.Lend
	holes *sparse.Map
	born  time.Time
	// windows says, for each windowSize bytes, which pages the kernel had in memory
	// when it was asked last.
	windows []window
}

// The kernel is asked for this much at once.
const (
	windowSize  = 2 << 20
	windowPages = windowSize >> pageBits
	pageBits    = 12 // a kernel with larger pages has several bits for one
)

// window is what is known of one part of a mapping. Races between those who fill it
// in are harmless: each writes what was true a moment ago.
type window struct {
	// asked is when, counted from mapping.born; 0: never.
	asked atomic.Int64
	pages [windowPages / 64]atomic.Uint64
}

// believed is for how long the kernel's answer is taken for true. What is dropped from
// memory meanwhile costs whoever sends it a wait, and nobody else. A fleet that reads
// 8 GiB asks 4096 times in that time.
const believed = time.Second

// mapped gives the mapping of the present file, and makes it when there is none.
func (f *File) mapped() (*mapping, error) {
	now := f.file.Load()
	if m := f.mapping.Load(); m != nil && m.of == now {
		return m, nil
	}
	f.mapMu.Lock()
	defer f.mapMu.Unlock()
	if m := f.mapping.Load(); m != nil && m.of == now {
		return m, nil
	}
	st, err := now.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() != f.Size || f.Size == 0 {
		return nil, fmt.Errorf("%s: %w: it has %d bytes, and should have %d", now.Name(), errNotMapped, st.Size(), f.Size)
	}
	h, err := f.holesOf(now)
	if err != nil {
		return nil, err
	}
	if f.Size > int64(^uint(0)>>1) {
		return nil, errNotMapped
	}
	b, err := unix.Mmap(int(now.Fd()), 0, int(f.Size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(errNotMapped, err)
	}
	m := &mapping{of: now, bytes: b, holes: &h.Map, born: time.Now().Add(-time.Nanosecond), windows: make([]window, (f.Size+windowSize-1)/windowSize)}
	f.mappings = append(f.mappings, m)
	f.mapping.Store(m)
	return m, nil
}

// unmap takes all mappings away. Nobody has the file any more.
func (f *File) unmap() {
	f.mapMu.Lock()
	defer f.mapMu.Unlock()
	f.mapping.Store(nil)
	for _, m := range f.mappings {
		// It can only fail for a range that is no mapping.
		_ = unix.Munmap(m.bytes)
	}
	f.mappings = nil
}

// resident gives how much of [off, off+n) from off on was in memory a moment ago. now
// is counted from born.
func (m *mapping) resident(off, n int64, now time.Duration) int64 {
	done := int64(0)
	for done < n {
		at := off + done
		w := &m.windows[at/windowSize]
		if asked := w.asked.Load(); asked == 0 || int64(now)-asked > int64(believed) {
			m.ask(at/windowSize, now)
		}
		first := at % windowSize >> pageBits
		last := (min(off+n, (at/windowSize+1)*windowSize) - 1) % windowSize >> pageBits
		have := w.run(first, last)
		if have <= last-first { // it ends within
			end := at/windowSize*windowSize + (first+have)<<pageBits
			return max(0, end-off)
		}
		done = (at/windowSize+1)*windowSize - off
	}
	return n
}

// run counts the pages from first to last that are in memory, up to one that is not.
func (w *window) run(first, last int64) int64 {
	for p := first; p <= last; {
		absent := ^w.pages[p/64].Load() >> (p % 64)
		if absent != 0 {
			return min(p+int64(bits.TrailingZeros64(absent)), last+1) - first
		}
		p = (p/64 + 1) * 64
	}
	return last + 1 - first
}

// ask has the kernel say what is in memory of one window.
func (m *mapping) ask(i int64, now time.Duration) {
	var vec [windowPages]byte
	b := m.bytes[i*windowSize : min((i+1)*windowSize, int64(len(m.bytes)))]
	w := &m.windows[i]
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(unsafe.Pointer(&vec)))
	for j := range w.pages {
		var have uint64
		for k, v := range vec[j*64 : j*64+64] {
			have |= uint64(v&1) << k
		}
		if errno != 0 {
			have = 0
		}
		w.pages[j].Store(have)
	}
	w.asked.Store(int64(now))
}

// fetch has the kernel read a range, and waits for it.
func (m *mapping) fetch(off, n int64) error {
	if err := sparse.Fetch(m.of, off, n); err != nil { // all of it at once
		return err
	}
	from, to := off>>pageBits<<pageBits, off+n
	b := m.bytes[from:to]
	for {
		err := unix.Madvise(b, unix.MADV_POPULATE_READ)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EFAULT): // it was cut off, or the disk failed: whoever reads it is told
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
		break
	}
	for p := from >> pageBits; p<<pageBits < to; p++ {
		w := &m.windows[p/windowPages]
		if w.asked.Load() == 0 {
			m.ask(p/windowPages, time.Since(m.born))
		}
		w.pages[p%windowPages/64].Or(1 << (p % 64))
	}
	return nil
}
