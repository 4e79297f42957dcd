package wire

import (
	"bytes"
	"strconv"
)

// bodyKind says how a message tells the length of its body (RFC 9112 section 6.3).
type bodyKind int

const (
	bodyLength  bodyKind = iota // Content-Length
	bodyChunked                 // Transfer-Encoding: chunked
	bodyToClose                 // until the connection closes
)

// bodyState is what taking bytes led to.
type bodyState int

const (
	bodyMore   bodyState = iota
	bodyEnd              // the message is whole
	bodyBroken           // it is no body of that kind
)

// body finds the end of one message's body in the bytes of a connection.
type body struct {
	kind bodyKind
	left int64 // bytes to come of the body, or of the chunk
	at   chunkPart
	line []byte // of a chunk's size or trailer, as far as it came
	size int    // bytes of all lines of the trailer
}

// chunkPart is a part of a chunked body.
type chunkPart int

const (
	chunkSize chunkPart = iota
	chunkData
	chunkBreak // the line break behind the data
	chunkTrailer
)

func newBody(kind bodyKind, length int64) *body { return &body{kind: kind, left: length} }

// take gives the next piece of the body in b, which may be empty, and what is behind
// it. It makes progress whenever b is not empty.
func (y *body) take(b []byte) (part, rest []byte, state bodyState) {
	switch {
	case y.kind == bodyToClose:
		return b, nil, bodyMore
	case y.kind == bodyLength:
		part, rest = y.cut(b)
		if y.left == 0 {
			return part, rest, bodyEnd
		}
		return part, rest, bodyMore
	case y.at == chunkData:
		part, rest = y.cut(b)
		if y.left == 0 {
			y.at = chunkBreak
		}
		return part, rest, bodyMore
	}
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		y.line = append(y.line, b...)
		if len(y.line) > maxHead {
			return nil, nil, bodyBroken
		}
		return nil, nil, bodyMore
	}
	line := bytes.TrimSuffix(append(y.line, b[:i]...), []byte("\r"))
	y.line = y.line[:0]
	return nil, b[i+1:], y.endLine(line)
}

// cut takes the bytes that are left to come.
func (y *body) cut(b []byte) (part, rest []byte) {
	n := min(int64(len(b)), y.left)
	y.left -= n
	return b[:n], b[n:]
}

// endLine takes one whole line of a chunked body (RFC 9112 section 7.1).
func (y *body) endLine(line []byte) bodyState {
	switch y.at {
	case chunkSize:
		digits, _, _ := bytes.Cut(line, []byte(";"))
		n, err := strconv.ParseUint(string(bytes.TrimSpace(digits)), 16, 62)
		if err != nil {
			return bodyBroken
		}
		y.left, y.at = int64(n), chunkData
		if n == 0 {
			y.at = chunkTrailer
		}
	case chunkBreak:
		if len(line) > 0 {
			return bodyBroken
		}
		y.at = chunkSize
	case chunkTrailer:
		if len(line) == 0 {
			return bodyEnd
		}
		if y.size += len(line); y.size > maxHead {
			return bodyBroken
		}
	}
	return bodyMore
}
