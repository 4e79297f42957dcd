package nbd

import "sync"

// pieceSize is how much of a payload is in memory at once. Reads up to it are
// complete before their reply begins, so that an error can still be said.
const pieceSize = 1 << 20

// Buffers come in three sizes: most requests of a booting machine have 4 to
// 128 KiB, and a storm of them should not cost a megabyte each.
const (
	smallBuffer  = 64<<10 + headRoom
	mediumBuffer = 256<<10 + headRoom
	largeBuffer  = pieceSize + headRoom
)

// buffers lends memory to connections while they work. The zero value is ready.
type buffers struct{ small, medium, large sync.Pool }

func (p *buffers) class(n int) (*sync.Pool, int) {
	switch {
	case n <= smallBuffer:
		return &p.small, smallBuffer
	case n <= mediumBuffer:
		return &p.medium, mediumBuffer
	}
	return &p.large, largeBuffer
}

// get lends an empty buffer with room for n bytes, n <= largeBuffer.
func (p *buffers) get(n int) []byte {
	pool, size := p.class(n)
	if b, ok := pool.Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, size)
}

// put takes a buffer of get back. A nil buffer is ignored.
func (p *buffers) put(b []byte) {
	if b == nil {
		return
	}
	pool, _ := p.class(cap(b))
	pool.Put(&b)
}
