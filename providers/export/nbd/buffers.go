package nbd

import (
	"sync"
	"sync/atomic"
	"unsafe"
)

// pieceSize is how much of a payload that has to be copied is in memory at once, at
// most. Reads up to it are complete before their reply begins, so that an error can
// still be said. smallPiece is the same when too much of it is lent already.
const (
	pieceSize  = 1 << 20
	smallPiece = 64 << 10
)

// Buffers come in four sizes: most requests of a booting machine have 4 to 128 KiB,
// and a storm of them should not cost a megabyte each; the headers of a turn need
// little.
const (
	headBuffer   = 4 << 10
	smallBuffer  = smallPiece + headRoom
	mediumBuffer = 256<<10 + headRoom
	largeBuffer  = pieceSize + headRoom
)

// buffers lends memory to connections while they work. The zero value is ready, and
// lends nothing above smallBuffer by piece.
type buffers struct {
	heads, small, medium, large sync.Pool

	budget int64        // of buffers above smallBuffer, in bytes
	spent  atomic.Int64 // of it
}

func (p *buffers) class(n int) (*sync.Pool, int) {
	switch {
	case n <= headBuffer:
		return &p.heads, headBuffer
	case n <= smallBuffer:
		return &p.small, smallBuffer
	case n <= mediumBuffer:
		return &p.medium, mediumBuffer
	}
	return &p.large, largeBuffer
}

// piece says how many of n bytes may be copied at once. What is held by clients that
// take nothing must not grow with the length of what they asked for; so above a budget
// that all share, pieces are small.
func (p *buffers) piece(n int) int {
	n = min(n, pieceSize)
	if n > smallPiece {
		if _, size := p.class(n + headRoom); p.spent.Load()+int64(size) > p.budget {
			return smallPiece
		}
	}
	return n
}

// get lends an empty buffer with room for n bytes, n <= largeBuffer.
func (p *buffers) get(n int) []byte {
	pool, size := p.class(n)
	if size > smallBuffer {
		p.spent.Add(int64(size))
	}
	if b, ok := pool.Get().(*byte); ok { // a slice in an interface would be an allocation
		return unsafe.Slice(b, size)[:0]
	}
	return make([]byte, 0, size)
}

// put takes a buffer of get back, from its beginning on. A nil buffer is ignored.
func (p *buffers) put(b []byte) {
	if b == nil {
		return
	}
	pool, size := p.class(cap(b))
	if size > smallBuffer {
		p.spent.Add(-int64(size))
	}
	pool.Put(unsafe.SliceData(b))
}
