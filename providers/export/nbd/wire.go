package nbd

import (
	"encoding/binary"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// What proto.md defines and package protocol does not.
const (
	handshakeNoZeroes = uint16(1 << 1) // NBD_FLAG_NO_ZEROES

	clientFixedNewstyle = uint32(1 << 0) // NBD_FLAG_C_FIXED_NEWSTYLE
	clientNoZeroes      = uint32(1 << 1) // NBD_FLAG_C_NO_ZEROES

	optExportName      = uint32(1) // NBD_OPT_EXPORT_NAME
	optStartTLS        = uint32(5)
	optStructuredReply = uint32(8)
	optListMeta        = uint32(9)  // NBD_OPT_LIST_META_CONTEXT
	optSetMeta         = uint32(10) // NBD_OPT_SET_META_CONTEXT
	optExtendedHeaders = uint32(11)

	repMetaContext      = uint32(4)
	repErrPolicy        = uint32(1<<31 | 2)
	repErrInvalid       = uint32(1<<31 | 3)
	repErrTLSRequired   = uint32(1<<31 | 5) // NBD_REP_ERR_TLS_REQD
	repErrShutdown      = uint32(1<<31 | 7)
	repErrTooBig        = uint32(1<<31 | 9)
	repErrExtHeaderReqd = uint32(1<<31 | 10)

	flagHasFlags        = uint16(1 << 0)
	flagReadOnly        = uint16(1 << 1)
	flagSendFlush       = uint16(1 << 2)
	flagSendFUA         = uint16(1 << 3)
	flagSendTrim        = uint16(1 << 5)
	flagSendWriteZeroes = uint16(1 << 6)
	flagSendDF          = uint16(1 << 7)
	flagSendCache       = uint16(1 << 10)
	flagSendFastZero    = uint16(1 << 11)

	cmdRead        = uint16(0)
	cmdWrite       = uint16(1)
	cmdDisc        = uint16(2)
	cmdFlush       = uint16(3)
	cmdTrim        = uint16(4)
	cmdCache       = uint16(5)
	cmdWriteZeroes = uint16(6)
	cmdBlockStatus = uint16(7)

	cmdFlagFUA        = uint16(1 << 0)
	cmdFlagNoHole     = uint16(1 << 1)
	cmdFlagDF         = uint16(1 << 2)
	cmdFlagReqOne     = uint16(1 << 3)
	cmdFlagFastZero   = uint16(1 << 4)
	cmdFlagPayloadLen = uint16(1 << 5)

	magicExtendedRequest = uint32(0x21e41c71)
	magicStructuredReply = uint32(0x668e33ef)
	magicExtendedReply   = uint32(0x6e8a278c)

	chunkFlagDone = uint16(1 << 0)

	chunkNone           = uint16(0)
	chunkOffsetData     = uint16(1)
	chunkOffsetHole     = uint16(2)
	chunkBlockStatus    = uint16(5)
	chunkBlockStatusExt = uint16(6)
	chunkError          = uint16(1<<15 | 1)
	chunkErrorOffset    = uint16(1<<15 | 2)
)

// Sizes on the wire, and limits.
const (
	greetingSize    = 8 + 8 + 2
	optionSize      = 8 + 4 + 4
	optionReplySize = 8 + 4 + 4 + 4
	requestSize     = 4 + 2 + 2 + 8 + 8 + 4
	replySize       = 4 + 4 + 8

	extendedRequestSize = 4 + 2 + 2 + 8 + 8 + 8
	structuredChunkSize = 4 + 2 + 2 + 8 + 4
	extendedChunkSize   = 4 + 2 + 2 + 8 + 8 + 8
	// headRoom is what comes before a payload at most: the header of a chunk of
	// data and the offset of it. No reply without a payload is longer.
	headRoom = extendedChunkSize + 8
	// errorSize is the payload of an error chunk without a message.
	errorSize = 4 + 2

	// maxString is the longest string that "Conventions" allows.
	maxString = 4096
	// maxOptionKept bounds option data that is looked at: a name, and more kinds
	// of information or queries for metadata than anybody has a use for.
	maxOptionKept = 16 << 10
	// maxOptionSkipped bounds option data that is read and thrown away so that
	// the client can be told; more than that is an attack.
	maxOptionSkipped = 64 << 10
	// maxOptions bounds the options of one handshake.
	maxOptions = 256

	minBlock       = 1 // ext4 with 1 KiB blocks does not mount on a device with larger ones
	preferredBlock = 4096
	// maxPayload is the longest READ or WRITE: below 32 MiB nothing may be called
	// an attack ("Block size constraints").
	maxPayload = 32 << 20
)

// appendGreeting adds what the server says first ("Newstyle negotiation").
func appendGreeting(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, protocol.NEGOTIATION_MAGIC_OLDSTYLE)
	b = binary.BigEndian.AppendUint64(b, protocol.NEGOTIATION_MAGIC_OPTION)
	return binary.BigEndian.AppendUint16(b, protocol.NEGOTIATION_HANDSHAKE_FLAG_FIXED_NEWSTYLE|handshakeNoZeroes)
}

// parseOption reads an option header of optionSize bytes.
func parseOption(b []byte) protocol.NegotiationOptionHeader {
	return protocol.NegotiationOptionHeader{
		OptionMagic: binary.BigEndian.Uint64(b),
		ID:          binary.BigEndian.Uint32(b[8:]),
		Length:      binary.BigEndian.Uint32(b[12:]),
	}
}

// appendOptionReply adds one reply to an option ("Fixed newstyle negotiation").
func appendOptionReply(b []byte, option, typ uint32, data ...[]byte) []byte {
	n := 0
	for _, d := range data {
		n += len(d)
	}
	b = binary.BigEndian.AppendUint64(b, protocol.NEGOTIATION_MAGIC_REPLY)
	b = binary.BigEndian.AppendUint32(b, option)
	b = binary.BigEndian.AppendUint32(b, typ)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	for _, d := range data {
		b = append(b, d...)
	}
	return b
}
