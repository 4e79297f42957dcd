package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// A frame of the journal:
//
//	 0  "dlj1"            so that the next one is found again behind a damaged one
//	 4  length, uint32    of the payload in bytes, big endian
//	 8  CRC-32C, uint32   of the length as it stands there, and the payload
//	12  payload           JSON: a journalEntry
const (
	frameMagic  = "dlj1"
	frameHeader = 12
	// maxFrame bounds a payload, in bytes: a step names a few things, not many.
	maxFrame = 64 << 10
)

var (
	errTorn      = errors.New("the frame is not whole")
	errFrameSize = errors.New("an entry is too large")
)

func frameSum(header, payload []byte) uint32 {
	t := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(header[4:8], t), t, payload)
}

// appendFrame adds a frame to b.
func appendFrame(b, payload []byte) ([]byte, error) {
	if len(payload) == 0 || len(payload) > maxFrame {
		return b, errFrameSize
	}
	at := len(b)
	b = append(b, frameMagic...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, frameSum(b[at:], payload))
	return append(b, payload...), nil
}

// nextFrame takes the frame that b begins with apart. When there is none, or it is
// not what was written, the error says so, and nothing else is given.
func nextFrame(b []byte) (payload, rest []byte, err error) {
	if len(b) < frameHeader || string(b[:4]) != frameMagic {
		return nil, nil, errTorn
	}
	n := binary.BigEndian.Uint32(b[4:])
	if n == 0 || n > maxFrame || int(n) > len(b)-frameHeader {
		return nil, nil, errTorn
	}
	payload = b[frameHeader : frameHeader+int(n)]
	if binary.BigEndian.Uint32(b[8:]) != frameSum(b, payload) {
		return nil, nil, errTorn
	}
	return payload, b[frameHeader+int(n):], nil
}

// readFrames gives the payloads of all frames that are whole. cut counts the bytes
// behind the last of them: what a crash left of one that was being written, and
// nobody relied on. lost counts those that stand before a whole one: they were
// written, and something has happened to them since.
func readFrames(b []byte) (payloads [][]byte, lost, cut int) {
	for bad := 0; ; {
		payload, rest, err := nextFrame(b)
		if err == nil {
			payloads = append(payloads, payload)
			lost, bad, b = lost+bad, 0, rest
			continue
		}
		if len(b) == 0 {
			return payloads, lost, bad
		}
		skip := bytes.Index(b[1:], []byte(frameMagic)) + 1
		if skip == 0 {
			skip = len(b)
		}
		bad, b = bad+skip, b[skip:]
	}
}
