package wire

import (
	"net/netip"
)

const (
	maxDatagrams = 256     // that wait for fragments; the oldest goes first
	maxDatagram  = 1 << 16 // bytes
	maxPieces    = 1 << 13 // of one datagram: a fragment carries 8 bytes or more
)

// fragmentKey names a datagram whose fragments belong together (RFC 791 section 3.2).
type fragmentKey struct {
	src, dst netip.Addr
	proto    byte
	id       uint16
}

// datagram is one that is not whole yet.
type datagram struct {
	data   []byte
	pieces []piece
	total  int // length, 0 while the last fragment has not come
}

// piece is a range of bytes that has come.
type piece struct{ from, to int }

// fragments puts IPv4 fragments together.
type fragments struct {
	open map[fragmentKey]*datagram
	age  []fragmentKey // oldest first; may name what is no longer open
}

// add takes one fragment and gives the datagram once it is whole, for the caller to
// keep.
func (f *fragments) add(key fragmentKey, offset int, more bool, b []byte) ([]byte, bool) {
	end := offset + len(b)
	if end > maxDatagram || len(b) == 0 {
		delete(f.open, key)
		return nil, false
	}
	g := f.open[key]
	if g == nil {
		f.evict()
		g = &datagram{}
		f.open[key] = g
		f.age = append(f.age, key)
	}
	if len(g.pieces) >= maxPieces {
		delete(f.open, key)
		return nil, false
	}
	if end > len(g.data) {
		g.data = append(g.data, make([]byte, end-len(g.data))...)
	}
	copy(g.data[offset:], b)
	g.pieces = append(g.pieces, piece{offset, end})
	if !more {
		g.total = end
	}
	if g.total == 0 || !g.whole() {
		return nil, false
	}
	delete(f.open, key)
	return g.data[:g.total], true
}

// whole reports whether the pieces cover the datagram. They mostly come in order,
// so this is one pass; each further pass covers more or ends it.
func (g *datagram) whole() bool {
	covered := 0
	for covered < g.total {
		before := covered
		for _, p := range g.pieces {
			if p.from <= covered && p.to > covered {
				covered = p.to
			}
		}
		if covered == before {
			return false
		}
	}
	return true
}

func (f *fragments) evict() {
	for len(f.open) >= maxDatagrams && len(f.age) > 0 {
		delete(f.open, f.age[0])
		f.age = f.age[1:]
	}
	if len(f.age) > 4*maxDatagrams { // names of what became whole
		kept := f.age[:0]
		for _, k := range f.age {
			if f.open[k] != nil {
				kept = append(kept, k)
			}
		}
		f.age = kept
	}
}
