package nbdprobe

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
)

// "Fixed newstyle negotiation", "Option types", "Option reply types".
const (
	greetMagic  = 0x4e42444d41474943 // "NBDMAGIC"
	optionMagic = 0x49484156454f5054 // "IHAVEOPT"
	oldMagic    = 0x00420281861253   // what stands there in "Oldstyle negotiation"
	replyMagic  = 0x3e889045565a9

	flagFixed    = 1 << 0 // of the server and of the client
	flagNoZeroes = 1 << 1

	optExportName = 1
	optStartTLS   = 5
	optGo         = 7
	optStructured = 8

	repAck    = 1
	repInfo   = 3
	repErr    = 1 << 31
	repUnsup  = repErr + 1
	repPolicy = repErr + 2
	repTLS    = repErr + 5
	repNone   = repErr + 6 // NBD_REP_ERR_UNKNOWN

	infoExport    = 0
	infoName      = 1
	infoDescribe  = 2
	infoBlockSize = 3
)

// "Transmission phase", "Structured reply chunk types".
const (
	flagReadOnly  = 1 << 1
	flagMultiConn = 1 << 8

	requestMagic    = 0x25609513
	simpleMagic     = 0x67446698
	structuredMagic = 0x668e33ef
	cmdRead         = 0
	cmdDisconnect   = 2

	chunkDone  = 1 << 0
	chunkNone  = 0
	chunkData  = 1
	chunkHole  = 2
	chunkError = 1<<15 + 1
	chunkErrAt = 1<<15 + 2
)

// Bounds of what a server may say.
const (
	maxReplies   = 64       // to one option
	maxReply     = 64 << 10 // bytes of one
	maxText      = 4096     // bytes of a name, a description or a reason
	maxChunkText = 4096 + 14
)

func appendOption(b []byte, id uint32, data []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, optionMagic)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

func appendRequest(b []byte, cmd uint16, handle, offset uint64, n uint32) []byte {
	b = binary.BigEndian.AppendUint32(b, requestMagic)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint16(b, cmd)
	b = binary.BigEndian.AppendUint64(b, handle)
	b = binary.BigEndian.AppendUint64(b, offset)
	return binary.BigEndian.AppendUint32(b, n)
}

// told makes a server's text fit for a terminal.
func told(b []byte) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, string(b[:min(len(b), maxText)]))
}

// RefusedError is the answer of a server that does not do what an option asks.
type RefusedError struct {
	Export string
	Type   uint32 // NBD_REP_ERR_*
	Text   string // the server's; may be empty
}

func (e *RefusedError) Error() string {
	why := fmt.Sprintf("error %#x", e.Type)
	switch e.Type {
	case repUnsup:
		why = "it does not support that"
	case repPolicy:
		why = "its policy does not allow that"
	case repTLS:
		why = "it wants TLS: use --tls"
	case repNone:
		why = "there is no such export, or it is not for this client"
	}
	if e.Text != "" {
		why += fmt.Sprintf(" (%q)", e.Text)
	}
	return fmt.Sprintf("the server refuses %q: %s", e.Export, why)
}
