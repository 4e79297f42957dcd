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

	optExportName = uint32(1) // NBD_OPT_EXPORT_NAME

	repErrPolicy   = uint32(1<<31 | 2)
	repErrInvalid  = uint32(1<<31 | 3)
	repErrShutdown = uint32(1<<31 | 7)
	repErrTooBig   = uint32(1<<31 | 9)

	flagHasFlags        = uint16(1 << 0)
	flagReadOnly        = uint16(1 << 1)
	flagSendFlush       = uint16(1 << 2)
	flagSendFUA         = uint16(1 << 3)
	flagSendTrim        = uint16(1 << 5)
	flagSendWriteZeroes = uint16(1 << 6)

	cmdFlush       = uint16(3)
	cmdTrim        = uint16(4)
	cmdWriteZeroes = uint16(6)

	cmdFlagFUA    = uint16(1 << 0)
	cmdFlagNoHole = uint16(1 << 1)
)

// Sizes on the wire, and limits.
const (
	greetingSize    = 8 + 8 + 2
	optionSize      = 8 + 4 + 4
	optionReplySize = 8 + 4 + 4 + 4
	requestSize     = 4 + 2 + 2 + 8 + 8 + 4
	replySize       = 4 + 4 + 8

	// maxString is the longest string that "Conventions" allows.
	maxString = 4096
	// maxOptionKept bounds option data that is looked at: a name, and more kinds
	// of information than exist.
	maxOptionKept = 4 + maxString + 2 + 2*1024
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

// parseRequest reads a request header of requestSize bytes ("Request message").
func parseRequest(b []byte) protocol.TransmissionRequestHeader {
	return protocol.TransmissionRequestHeader{
		RequestMagic: binary.BigEndian.Uint32(b),
		CommandFlags: binary.BigEndian.Uint16(b[4:]),
		Type:         binary.BigEndian.Uint16(b[6:]),
		Handle:       binary.BigEndian.Uint64(b[8:]),
		Offset:       binary.BigEndian.Uint64(b[16:]),
		Length:       binary.BigEndian.Uint32(b[24:]),
	}
}

// putReply writes a simple reply's header into b, which has replySize bytes
// ("Simple reply message").
func putReply(b []byte, errno uint32, handle uint64) {
	binary.BigEndian.PutUint32(b, protocol.TRANSMISSION_MAGIC_REPLY)
	binary.BigEndian.PutUint32(b[4:], errno)
	binary.BigEndian.PutUint64(b[8:], handle)
}
