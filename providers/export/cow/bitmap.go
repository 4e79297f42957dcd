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

// bitmap says which blocks are present. Bits are set and never cleared. Anyone
// may read it; one goroutine at a time may set bits.
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
		old := m.words[w].Load()
		now := old | mask(w, first, last)
		m.words[w].Store(now)
		m.n.Add(int64(bits.OnesCount64(now) - bits.OnesCount64(old)))
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
	b := make([]byte, m.bytes())
	if _, err := f.ReadAt(b, 0); err != nil && m.bytes() > 0 {
		return err
	}
	n := int64(0)
	for w := range m.words {
		v := binary.LittleEndian.Uint64(b[w*8:])
		if last := blocks - 1 - int64(w)*64; last < 63 && v>>(last+1) != 0 {
			return fmt.Errorf("%s: blocks beyond the end", f.Name())
		}
		m.words[w].Store(v)
		n += int64(bits.OnesCount64(v))
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
