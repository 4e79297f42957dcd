package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Numbers of the NBD protocol (doc/proto.md of the NetworkBlockDevice project),
// all of them big endian on the wire.
const (
	magicInit   = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption = 0x49484156454f5054 // "IHAVEOPT"
	magicReply  = 0x3e889045565a9

	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1

	optAbort = 2
	optGo    = 7

	repAck         = 1
	repInfo        = 3
	repErrBit      = 1 << 31
	repErrUnsup    = repErrBit | 1
	repErrPolicy   = repErrBit | 2
	repErrUnknown  = repErrBit | 6
	repErrShutdown = repErrBit | 7

	infoExport    = 0
	infoBlockSize = 3

	// maxReply bounds one option reply; replies to GO are a few bytes, or an
	// error message of at most 4096.
	maxReply = 8 << 10
	// maxReplies bounds how many a server may send to one GO.
	maxReplies = 32
)

// exportInfo is what GO tells about an export.
type exportInfo struct {
	size  uint64 // bytes
	flags uint16 // transmission flags: bit 1 is read-only
}

// flagReadOnly is the transmission flag NBD_FLAG_READ_ONLY.
const flagReadOnly = 1 << 1

// canReplace reports whether a connection to e can serve a device that was made for
// have: the same bytes, written to or not as before, and everything that the kernel
// was told it may ask for (FLUSH, FUA, TRIM, ...). A server that offers more than it
// did, as after an upgrade, will do: the kernel does not use it.
func (e exportInfo) canReplace(have exportInfo) bool {
	return e.size == have.size && e.flags&flagReadOnly == have.flags&flagReadOnly && have.flags&^e.flags == 0
}

// refusal is an error reply of the server: it was reached, and says no.
type refusal struct {
	code    uint32
	message string
}

func (r refusal) Error() string {
	what := ""
	switch r.code {
	case repErrUnsup:
		what = "the server does not know GO"
	case repErrPolicy:
		what = "not allowed"
	case repErrUnknown:
		what = "no such export"
	case repErrShutdown:
		what = "the server is shutting down"
	default:
		what = "error " + strconv.FormatUint(uint64(r.code&^repErrBit), 10)
	}
	if r.message != "" {
		what += ": " + r.message
	}
	return what
}

// negotiate does the fixed newstyle handshake up to GO. It reads exactly what the
// server sends for that and nothing further, so the connection can be handed to
// the kernel afterwards. Limits on time are the caller's, on the connection.
func negotiate(rw io.ReadWriter, name string) (exportInfo, error) {
	var hello [18]byte
	if _, err := io.ReadFull(rw, hello[:]); err != nil {
		return exportInfo{}, fmt.Errorf("nbd handshake: %w", err)
	}
	if binary.BigEndian.Uint64(hello[:]) != magicInit || binary.BigEndian.Uint64(hello[8:]) != magicOption {
		return exportInfo{}, errors.New("nbd handshake: this is not a newstyle NBD server")
	}
	server := binary.BigEndian.Uint16(hello[16:])
	if server&flagFixedNewstyle == 0 {
		return exportInfo{}, errors.New("nbd handshake: the server lacks the fixed newstyle")
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(server&(flagFixedNewstyle|flagNoZeroes)))
	if _, err := rw.Write(appendGo(b, name)); err != nil {
		return exportInfo{}, fmt.Errorf("nbd handshake: %w", err)
	}
	e, err := readGo(rw)
	var no refusal
	if errors.As(err, &no) {
		// A soft disconnect keeps the refusal out of the server's error log.
		rw.Write(appendOption(nil, optAbort, nil))
	}
	return e, err
}

func appendOption(b []byte, opt uint32, data []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, magicOption)
	b = binary.BigEndian.AppendUint32(b, opt)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// appendGo asks for the export, and promises to honour its block sizes by asking
// for them.
func appendGo(b []byte, name string) []byte {
	var data []byte
	data = binary.BigEndian.AppendUint32(data, uint32(len(name)))
	data = append(data, name...)
	data = binary.BigEndian.AppendUint16(data, 1)
	data = binary.BigEndian.AppendUint16(data, infoBlockSize)
	return appendOption(b, optGo, data)
}

// readGo reads the replies to GO up to the acknowledgement.
func readGo(r io.Reader) (exportInfo, error) {
	var e exportInfo
	known := false
	for range maxReplies {
		var head [20]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return exportInfo{}, fmt.Errorf("nbd GO: %w", err)
		}
		opt, typ := binary.BigEndian.Uint32(head[8:]), binary.BigEndian.Uint32(head[12:])
		n := binary.BigEndian.Uint32(head[16:])
		if binary.BigEndian.Uint64(head[:]) != magicReply || opt != optGo || n > maxReply {
			return exportInfo{}, errors.New("nbd GO: malformed reply")
		}
		data := make([]byte, n)
		if _, err := io.ReadFull(r, data); err != nil {
			return exportInfo{}, fmt.Errorf("nbd GO: %w", err)
		}
		switch {
		case typ&repErrBit != 0:
			return exportInfo{}, fmt.Errorf("nbd GO: %w", refusal{code: typ, message: printable(data)})
		case typ == repAck:
			if !known || e.size < blockSize {
				return exportInfo{}, errors.New("nbd GO: acknowledged without a usable size")
			}
			return e, nil
		case typ == repInfo && len(data) >= 2:
			switch info := binary.BigEndian.Uint16(data); {
			case info == infoExport && len(data) == 12:
				e = exportInfo{size: binary.BigEndian.Uint64(data[2:]), flags: binary.BigEndian.Uint16(data[10:])}
				known = true
			case info == infoBlockSize && len(data) == 14:
				if least := binary.BigEndian.Uint32(data[2:]); least > blockSize {
					return exportInfo{}, fmt.Errorf("nbd GO: the server wants blocks of %d bytes, we use %d", least, blockSize)
				}
			}
		}
	}
	return exportInfo{}, errors.New("nbd GO: too many replies")
}

// printable makes a server's message fit for a console: one short line of ASCII.
func printable(b []byte) string {
	b = b[:min(len(b), 200)]
	out := make([]byte, len(b))
	for i, c := range b {
		if c < ' ' || c > '~' {
			c = '.'
		}
		out[i] = c
	}
	return string(out)
}
