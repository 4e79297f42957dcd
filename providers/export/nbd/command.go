package nbd

import (
	"encoding/binary"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// form is how requests and replies look in the transmission phase of a connection.
// The zero value is what a client gets that asks for nothing.
type form int

const (
	simple     form = iota
	structured      // NBD_OPT_STRUCTURED_REPLY
	extended        // NBD_OPT_EXTENDED_HEADERS, which has structured replies in it
)

// requestSize gives the length of a request's header.
func (f form) requestSize() int {
	if f == extended {
		return extendedRequestSize
	}
	return requestSize
}

// chunkSize gives the length of a chunk's header. simple has none.
func (f form) chunkSize() int {
	if f == extended {
		return extendedChunkSize
	}
	return structuredChunkSize
}

// command is a request's header. What it says is the client's word: nothing of it
// is checked.
type command struct {
	magic          uint32
	flags, typ     uint16
	cookie         uint64
	offset, length uint64
}

// parse reads a request's header of f.requestSize() bytes ("Compact request
// message", "Extended request message").
func (f form) parse(b []byte) command {
	c := command{
		magic: binary.BigEndian.Uint32(b), flags: binary.BigEndian.Uint16(b[4:]), typ: binary.BigEndian.Uint16(b[6:]),
		cookie: binary.BigEndian.Uint64(b[8:]), offset: binary.BigEndian.Uint64(b[16:]),
	}
	if f == extended {
		c.length = binary.BigEndian.Uint64(b[24:])
	} else {
		c.length = uint64(binary.BigEndian.Uint32(b[24:]))
	}
	return c
}

// magic gives what a request begins with.
func (f form) magic() uint32 {
	if f == extended {
		return magicExtendedRequest
	}
	return protocol.TRANSMISSION_MAGIC_REQUEST
}

// putReply writes a simple reply's header into b, which has replySize bytes
// ("Simple reply message").
func putReply(b []byte, errno uint32, cookie uint64) {
	binary.BigEndian.PutUint32(b, protocol.TRANSMISSION_MAGIC_REPLY)
	binary.BigEndian.PutUint32(b[4:], errno)
	binary.BigEndian.PutUint64(b[8:], cookie)
}

// putChunk writes the header of a chunk with n bytes of payload into b, which has
// f.chunkSize() bytes ("Structured reply chunk message", "Extended reply chunk
// message"). f is not simple.
func (f form) putChunk(b []byte, flags, typ uint16, c command, n int) {
	binary.BigEndian.PutUint16(b[4:], flags)
	binary.BigEndian.PutUint16(b[6:], typ)
	binary.BigEndian.PutUint64(b[8:], c.cookie)
	if f == extended {
		binary.BigEndian.PutUint32(b, magicExtendedReply)
		binary.BigEndian.PutUint64(b[16:], c.offset)
		binary.BigEndian.PutUint64(b[24:], uint64(n))
		return
	}
	binary.BigEndian.PutUint32(b, magicStructuredReply)
	binary.BigEndian.PutUint32(b[16:], uint32(n))
}

// putAnswer writes the whole reply to c that has no payload but an error, into b,
// which has headRoom bytes, and gives its length.
//
// "Structured reply chunk message": READ is never answered by a simple reply once
// chunks are negotiated, errors should not be, and all else may; with extended
// headers nothing is.
func (f form) putAnswer(b []byte, errno uint32, c command) int {
	switch {
	case f == simple, f == structured && errno == errnoNone && c.typ != cmdRead:
		putReply(b, errno, c.cookie)
		return replySize
	case errno == errnoNone:
		f.putChunk(b, chunkFlagDone, chunkNone, c, 0)
		return f.chunkSize()
	}
	f.putChunk(b, chunkFlagDone, chunkError, c, errorSize)
	putError(b[f.chunkSize():], errno)
	return f.chunkSize() + errorSize
}

// putError writes the payload of an error chunk, without a message.
func putError(b []byte, errno uint32) {
	binary.BigEndian.PutUint32(b, errno)
	binary.BigEndian.PutUint16(b[4:], 0)
}
