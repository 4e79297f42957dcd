package nbdprobe

import (
	"encoding/binary"
	"fmt"
	"io"
	"syscall"
	"time"
)

// readBuffer is how much of what a server sends is read at once.
const readBuffer = 64 << 10

// piece is one request of READ on its way.
type piece struct {
	index  int64 // of the request in the whole
	offset int64
	buf    []byte // as long as the request
	got    int    // bytes of it that came
	sent   time.Time
}

// flight is what a connection has asked for and has no whole answer to. Handles are
// numbers of its own.
type flight struct {
	pieces map[uint64]*piece
	next   uint64
}

func (f *flight) add(p *piece) uint64 {
	f.next++
	f.pieces[f.next] = p
	return f.next
}

// answer reads one reply, or one chunk of one ("Simple reply message", "Structured reply
// chunk message"). done is the piece that is complete with it, nil for none.
func (l *link) answer(f *flight) (done *piece, err error) {
	var h [20]byte
	if _, err := io.ReadFull(l.in, h[:16]); err != nil {
		return nil, cut(err)
	}
	switch m := binary.BigEndian.Uint32(h[:]); {
	case m == simpleMagic && !l.export.Structured:
		return l.simple(f, binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint64(h[8:]))
	case m == simpleMagic:
		return nil, violation("a simple reply to READ, where structured ones were agreed on")
	case m == structuredMagic && l.export.Structured:
		if _, err := io.ReadFull(l.in, h[16:]); err != nil {
			return nil, cut(err)
		}
		return l.chunk(f, binary.BigEndian.Uint16(h[4:]), binary.BigEndian.Uint16(h[6:]), binary.BigEndian.Uint64(h[8:]), binary.BigEndian.Uint32(h[16:]))
	default:
		return nil, violation("a reply with magic %#x", m)
	}
}

func (l *link) simple(f *flight, errno uint32, handle uint64) (*piece, error) {
	p := f.pieces[handle]
	if p == nil {
		return nil, violation("a reply to nothing that was asked")
	}
	if errno != 0 {
		return nil, failure(p, errno, "")
	}
	var err error
	if p.got, err = io.ReadFull(l.in, p.buf); err != nil {
		return nil, cut(err)
	}
	delete(f.pieces, handle)
	return p, nil
}

func (l *link) chunk(f *flight, flags, typ uint16, handle uint64, n uint32) (*piece, error) {
	p := f.pieces[handle]
	if p == nil {
		return nil, violation("a chunk of a reply to nothing that was asked")
	}
	var err error
	switch typ {
	case chunkNone:
		if n != 0 || flags&chunkDone == 0 {
			err = violation("an empty chunk of %d bytes that ends nothing", n)
		}
	case chunkData:
		err = l.data(p, n)
	case chunkHole:
		err = l.hole(p, n)
	default:
		err = l.broken(p, typ, n)
	}
	if err != nil || flags&chunkDone == 0 {
		return nil, err
	}
	delete(f.pieces, handle)
	if p.got != len(p.buf) {
		return nil, violation("%d bytes where %d were asked for", p.got, len(p.buf))
	}
	return p, nil
}

// within gives where n bytes at an offset of the export are in a piece. That no byte
// comes twice is held by their number.
func (p *piece) within(offset uint64, n uint32) ([]byte, error) {
	at := offset - uint64(p.offset)
	if offset < uint64(p.offset) || at > uint64(len(p.buf)) || uint64(n) > uint64(len(p.buf))-at || n == 0 || int(n) > len(p.buf)-p.got {
		return nil, violation("a chunk of %d bytes at %d, which were not asked for", n, offset)
	}
	p.got += int(n)
	return p.buf[at : at+uint64(n)], nil
}

func (l *link) data(p *piece, n uint32) error {
	if n <= 8 {
		return violation("a chunk of data of %d bytes", n)
	}
	var b [8]byte
	if _, err := io.ReadFull(l.in, b[:]); err != nil {
		return cut(err)
	}
	to, err := p.within(binary.BigEndian.Uint64(b[:]), n-8)
	if err != nil {
		return err
	}
	have, err := io.ReadFull(l.in, to)
	p.got -= len(to) - have
	return cut(err)
}

func (l *link) hole(p *piece, n uint32) error {
	var b [12]byte
	if n != uint32(len(b)) {
		return violation("a hole of %d bytes", n)
	}
	if _, err := io.ReadFull(l.in, b[:]); err != nil {
		return cut(err)
	}
	to, err := p.within(binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint32(b[8:]))
	clear(to)
	return err
}

// broken reads an error chunk: errno, length of a text, text, and an offset. It gives
// what the server says, and nothing more is read from it.
func (l *link) broken(p *piece, typ uint16, n uint32) error {
	if typ&(1<<15) == 0 {
		return violation("a chunk of type %d", typ)
	}
	if n < 6 || n > maxChunkText {
		return violation("an error of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(l.in, b); err != nil {
		return cut(err)
	}
	text := b[6:]
	if k := int(binary.BigEndian.Uint16(b[4:])); k <= len(text) {
		text = text[:k]
	} else {
		return violation("an error whose text is longer than itself")
	}
	return failure(p, binary.BigEndian.Uint32(b), told(text))
}

func failure(p *piece, errno uint32, text string) error {
	if text != "" {
		text = fmt.Sprintf(" (%q)", text)
	}
	return fmt.Errorf("%d bytes at %d cannot be read: %w%s", len(p.buf), p.offset, syscall.Errno(errno), text)
}
