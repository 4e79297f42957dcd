package cow

import (
	"math"
	"math/bits"
	"sync/atomic"
)

// bitmap is a set of blocks: of those that are present, whose bits are set and never
// cleared, or of those that take space. Anyone may read it; one goroutine at a time
// may change it. form says how it stands in a file.
type bitmap struct {
	words []atomic.Uint64
	n     atomic.Int64 // bits set
}

// pageSize is the unit in which flushed is written, in bytes of file.
const pageSize = 4096

// newBitmap makes an empty bitmap for that many blocks.
func newBitmap(blocks int64) *bitmap {
	return &bitmap{words: make([]atomic.Uint64, (blocks+63)/64)}
}

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

// lacks gives the first block that is present in o and not in m, which is as large.
func (m *bitmap) lacks(o *bitmap) (block int64, found bool) {
	for w := range m.words {
		if v := o.words[w].Load() &^ m.words[w].Load(); v != 0 {
			return int64(w)*64 + int64(bits.TrailingZeros64(v)), true
		}
	}
	return 0, false
}
