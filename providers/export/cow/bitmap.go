package cow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// bitmap is a set of blocks: of those that are present, whose bits are set and never
// cleared, or of those that take space. Anyone may read it; one goroutine at a time
// may change it.
//
// In a file, block n is bit n%8 of byte n/8.
type bitmap struct {
	words []atomic.Uint64
	n     atomic.Int64 // bits set
}

// pageSize is the unit in which flushed is written, in bytes of bitmap.
const pageSize = 4096

// newBitmap makes an empty bitmap for that many blocks.
func newBitmap(blocks int64) *bitmap {
	return &bitmap{words: make([]atomic.Uint64, (blocks+63)/64)}
}

// bytes gives the size of the file form, a multiple of 8.
func (m *bitmap) bytes() int64 { return int64(len(m.words)) * 8 }

func (m *bitmap) has(block int64) bool {
	return m.words[block/64].Load()&(1<<(block%64)) != 0
}

// mask gives the bits of word w that lie in blocks [first, last].
func mask(w, first, last int64) uint64 {
	bits := uint64(math.MaxUint64)
	if lo := first - w*64; lo > 0 {
		bits &= math.MaxUint64 << lo
	}
	if hi := last - w*64; hi < 63 {
		bits &= 1<<(hi+1) - 1
	}
	return bits
}

// all reports whether blocks first to last are all present.
func (m *bitmap) all(first, last int64) bool {
	for w := first / 64; w <= last/64; w++ {
		k := mask(w, first, last)
		if m.words[w].Load()&k != k {
			return false
		}
	}
	return true
}

// with gives the file form of the words that blocks first to last touch, as it
// will be once they are set, and where in the file it goes.
func (m *bitmap) with(first, last int64) (b []byte, off int64) {
	for w := first / 64; w <= last/64; w++ {
		b = binary.LittleEndian.AppendUint64(b, m.words[w].Load()|mask(w, first, last))
	}
	return b, first / 64 * 8
}

// set makes blocks first to last present.
func (m *bitmap) set(first, last int64) {
	for w := first / 64; w <= last/64; w++ {
		m.or(w, mask(w, first, last))
	}
}

func (m *bitmap) or(w int64, more uint64) {
	old := m.words[w].Load()
	m.words[w].Store(old | more)
	m.n.Add(int64(bits.OnesCount64(more &^ old)))
}

// add makes the blocks present that are so in b, which is the file form of whole words at
// off in the file.
func (m *bitmap) add(b []byte, off int64) {
	for w := off / 8; len(b) >= 8; w, b = w+1, b[8:] {
		m.or(w, binary.LittleEndian.Uint64(b))
	}
}

// clear takes blocks first to last out.
func (m *bitmap) clear(first, last int64) {
	for w := first / 64; w <= last/64; w++ {
		old := m.words[w].Load()
		now := old &^ mask(w, first, last)
		m.words[w].Store(now)
		m.n.Add(int64(bits.OnesCount64(now) - bits.OnesCount64(old)))
	}
}

// among counts the blocks first to last that are present.
func (m *bitmap) among(first, last int64) int64 {
	n := 0
	for w := first / 64; w <= last/64; w++ {
		n += bits.OnesCount64(m.words[w].Load() & mask(w, first, last))
	}
	return int64(n)
}

// each calls f for each run of present blocks among first to last, in order, until f
// says false.
func (m *bitmap) each(first, last int64, f func(first, last int64) bool) {
	for at := first; at <= last; {
		v := m.words[at/64].Load() & mask(at/64, at, last)
		if v == 0 {
			at = (at/64 + 1) * 64
			continue
		}
		from := at/64*64 + int64(bits.TrailingZeros64(v))
		to := from
		for to < last && m.has(to+1) {
			to++
		}
		if !f(from, to) {
			return
		}
		at = to + 1
	}
}

// page gives the file form of one page, which may be short at the end.
func (m *bitmap) page(i int64) []byte {
	const words = pageSize / 8
	var b []byte
	for w := i * words; w < min((i+1)*words, int64(len(m.words))); w++ {
		b = binary.LittleEndian.AppendUint64(b, m.words[w].Load())
	}
	return b
}

// load takes the bits of a file. Bits beyond the last block are an error.
func (m *bitmap) load(f *os.File, blocks int64) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() != m.bytes() {
		return fmt.Errorf("%s: %d bytes, want %d", f.Name(), st.Size(), m.bytes())
	}
	n, b := int64(0), make([]byte, min(m.bytes(), 64<<10))
	for w := range m.words {
		at := w * 8 % len(b)
		if at == 0 {
			b = b[:min(int64(len(b)), m.bytes()-int64(w)*8)]
			if _, err := f.ReadAt(b, int64(w)*8); err != nil {
				return err
			}
		}
		v := binary.LittleEndian.Uint64(b[at:])
		if last := blocks - 1 - int64(w)*64; last < 63 && v>>(last+1) != 0 {
			return fmt.Errorf("%s: blocks beyond the end", f.Name())
		}
		if v != 0 { // memory that is all zeros is not touched
			m.words[w].Store(v)
			n += int64(bits.OnesCount64(v))
		}
	}
	m.n.Store(n)
	return nil
}

// allocate makes f n bytes long, all zeros, with their space taken, so that a full
// disk stops a write of data and not the marking of it.
func allocate(f *os.File, n int64) error {
	if n == 0 {
		return nil
	}
	err := unix.Fallocate(int(f.Fd()), 0, 0, n)
	if errors.Is(err, unix.EOPNOTSUPP) { // then it is only sparse
		err = f.Truncate(n)
	}
	return err
}
