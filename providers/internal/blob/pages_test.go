package blob

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// eachPage runs a test with the page sizes of kernels that there are, and the largest
// that is taken.
func eachPage(t *testing.T, f func(t *testing.T, pageBits int, m *mapping)) {
	for _, pageBits := range []int{12, 14, 16, largestPage} {
		t.Run(fmt.Sprintf("%d KiB", 1<<pageBits>>10), func(t *testing.T) {
			b, err := unix.Mmap(-1, 0, 2*windowSize+3*windowSize/4+1000, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Munmap(b)
			f(t, pageBits, newMapping(b, pageBits))
		})
	}
}

// What the kernel says of its pages, whatever their size, is believed of the bytes that
// they hold, and of no others.
func TestPagesOfAnySize(t *testing.T) {
	eachPage(t, func(t *testing.T, pageBits int, m *mapping) {
		r := rand.New(rand.NewPCG(1, uint64(pageBits)))
		size := int64(len(m.bytes))
		there := make([]bool, (size-1)>>pageBits+1)
		for p := range there {
			there[p] = r.IntN(4) > 0
		}
		for i := range m.windows { // as mincore does: a byte for each page, and no more
			var vec [maxPages]byte
			pages := there[i*windowSize>>pageBits : min((i+1)*windowSize>>pageBits, len(there))]
			for j, in := range pages {
				if vec[j] = 0xfe; in { // the other bits are undefined
					vec[j] = 0xff
				}
			}
			m.windows[i].learn(&vec, time.Second)
		}
		check := func() {
			t.Helper()
			for range 2000 {
				off := r.Int64N(size)
				n := 1 + r.Int64N(min(size-off, 1+r.Int64N(windowSize)))
				want := int64(0)
				for want < n && there[(off+want)>>pageBits] {
					want = min(n, (off+want)>>pageBits<<pageBits+1<<pageBits-off)
				}
				if got := m.resident(off, n, time.Second); got != want {
					t.Fatalf("%d bytes at %d: %d are in memory, want %d", n, off, got, want)
				}
			}
		}
		check()
		for range 5 {
			off := r.Int64N(size)
			n := 1 + r.Int64N(min(size-off, 3<<pageBits))
			m.fetched(off, n)
			for p := off >> pageBits; p <= (off+n-1)>>pageBits; p++ {
				there[p] = true
			}
			check()
		}
	})
}

// The kernel is asked to fetch whole pages.
func TestWholePagesAreFetched(t *testing.T) {
	eachPage(t, func(t *testing.T, pageBits int, m *mapping) {
		for _, off := range []int64{0, 1, 4096, 5000, 16<<10 - 1, 64 << 10, 100_000, windowSize + 4096, windowSize + 70_000} {
			b := m.whole(off, 5000)
			at := int64(uintptr(unsafe.Pointer(&b[0])) - uintptr(unsafe.Pointer(&m.bytes[0])))
			if at%(1<<pageBits) != 0 || at > off || off-at >= 1<<pageBits || at+int64(len(b)) != off+5000 {
				t.Errorf("5000 bytes at %d: %d at %d", off, len(b), at)
			}
		}
	})
}

// This kernel's are of its size.
func TestKernelPages(t *testing.T) {
	if b, ok := kernelPages(); !ok || 1<<b != os.Getpagesize() {
		t.Errorf("pages of %d bits, %t; they have %d bytes", b, ok, os.Getpagesize())
	}
}
