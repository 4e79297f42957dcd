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
	// pageBits says how large the kernel's pages are: it is asked for whole ones, and
	// answers for each.
	pageBits int
	// windows says, for each windowSize bytes, which pages the kernel had in memory
	// when it was asked last.
	windows []window
}

const (
	// windowSize is what the kernel is asked for at once: 512 pages of 4 KiB, 32 of
	// 64 KiB.
	windowSize  = 2 << 20
	leastPage   = 12 // bits
	largestPage = 21
	maxPages    = windowSize >> leastPage
)

// kernelPages gives the bits of the kernel's pages, false where they are of a size that
// nobody has.
func kernelPages() (pageBits int, ok bool) {
	size := os.Getpagesize()
	pageBits = bits.TrailingZeros(uint(size))
	return pageBits, size == 1<<pageBits && pageBits >= leastPage && pageBits <= largestPage
}

// window is what is known of one part of a mapping. Races between those who fill it
// in are harmless: each writes what was true a moment ago.
type window struct {
	// asked is when, counted from mapping.born; 0: never.
	asked atomic.Int64
	pages [maxPages / 64]atomic.Uint64 // pages beyond the window are never there
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
	defer f.tried.Store(now)
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
	pageBits, ok := kernelPages()
	if f.Size > int64(^uint(0)>>1) || !ok {
		return nil, errNotMapped
	}
	b, err := unix.Mmap(int(now.Fd()), 0, int(f.Size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(errNotMapped, err)
	}
	m := newMapping(b, pageBits)
	m.of, m.holes = now, &h.Map
	f.mappings = append(f.mappings, m)
	f.mapping.Store(m)
	return m, nil
}

// newMapping makes the books of mapped bytes, which begin at a page.
func newMapping(b []byte, pageBits int) *mapping {
	return &mapping{
		bytes: b, pageBits: pageBits, born: time.Now().Add(-time.Nanosecond),
		windows: make([]window, (len(b)+windowSize-1)/windowSize),
	}
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
		first := at % windowSize >> m.pageBits
		last := (min(off+n, (at/windowSize+1)*windowSize) - 1) % windowSize >> m.pageBits
		have := w.run(first, last)
		if have <= last-first { // it ends within
			end := at/windowSize*windowSize + (first+have)<<m.pageBits
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
	var vec [maxPages]byte // a page each
	b := m.bytes[i*windowSize : min((i+1)*windowSize, int64(len(m.bytes)))]
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(unsafe.Pointer(&vec)))
	if errno != 0 {
		clear(vec[:])
	}
	m.windows[i].learn(&vec, now)
}

// learn takes in what the kernel said of a window, a byte for each of its pages.
func (w *window) learn(vec *[maxPages]byte, now time.Duration) {
	for j := range w.pages {
		var have uint64
		for k, v := range vec[j*64 : j*64+64] {
			have |= uint64(v&1) << k
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
	b := m.whole(off, n)
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
	m.fetched(off, n)
	return nil
}

// whole gives a range from the beginning of its first page on: "The address addr […]
// must be page-aligned" (madvise(2)).
func (m *mapping) whole(off, n int64) []byte {
	return m.bytes[off>>m.pageBits<<m.pageBits : off+n]
}

// fetched notes that the pages of a range are in memory.
func (m *mapping) fetched(off, n int64) {
	for p := off >> m.pageBits; p<<m.pageBits < off+n; p++ {
		i, at := p<<m.pageBits/windowSize, p<<m.pageBits%windowSize>>m.pageBits
		w := &m.windows[i]
		if w.asked.Load() == 0 {
			m.ask(i, time.Since(m.born))
		}
		w.pages[at/64].Or(1 << (at % 64))
	}
}
