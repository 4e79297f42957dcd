package tftp

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"
)

// Opcodes, RFC 1350 section 5 and RFC 2347.
const (
	opRRQ   = 1
	opWRQ   = 2
	opDATA  = 3
	opACK   = 4
	opERROR = 5
	opOACK  = 6
)

// Error codes, RFC 1350 appendix and RFC 2347.
const (
	codeUndefined   = 0
	codeNotFound    = 1
	codeAccess      = 2
	codeIllegal     = 4
	codeOptionAbort = 8
)

const (
	maxName    = 255 // bytes of a file name
	maxOptions = 16  // options looked at; real clients send at most five
	minBlock   = 8
	maxBlock   = 65464
	stdBlock   = 512 // without the blksize option
)

// refusal is an error that the client is told about in an ERROR packet.
type refusal struct {
	code uint16
	text string
}

func (r *refusal) Error() string { return r.text }

// request is a read request. A zero option was not asked for, or not in a way
// that its RFC allows; such options are left out of the answer, as RFC 2347 wants.
type request struct {
	name     string
	netascii bool
	block    int    // RFC 2348: 8–65464
	window   int    // RFC 7440: 1–65535
	timeout  int    // RFC 2349: 1–255 seconds
	tsize    bool   // RFC 2349
	spelled  string // the options, as Request.Options has them
}

// parseRequest reads a packet that arrived on the request port. It gives nil and
// nil for packets that deserve no answer: everything that is not a request.
func parseRequest(p []byte) (*request, error) {
	if len(p) < 2 {
		return nil, nil
	}
	switch binary.BigEndian.Uint16(p) {
	case opRRQ:
	case opWRQ:
		return nil, &refusal{codeAccess, "this server is read-only"}
	default:
		return nil, nil
	}
	rest := p[2:]
	raw, rest, ok := field(rest)
	mode, rest, ok2 := field(rest)
	if !ok || !ok2 {
		return nil, &refusal{codeIllegal, "malformed request"}
	}
	r := &request{}
	switch strings.ToLower(mode) {
	case "octet":
	case "netascii":
		r.netascii = true
	default: // "mail" is obsolete (RFC 1350 section 1)
		return nil, &refusal{codeIllegal, "transfer mode is neither octet nor netascii"}
	}
	var err error
	if r.name, err = cleanName(raw); err != nil {
		return nil, err
	}
	var spelled []string
	for range maxOptions {
		name, more, ok := field(rest)
		value, more, ok2 := field(more)
		// Some ROMs pad the request with zeros: an empty name ends the options.
		if !ok || !ok2 || name == "" {
			break
		}
		rest = more
		r.option(strings.ToLower(name), value)
		spelled = append(spelled, name+"="+value)
	}
	r.spelled = strings.Join(spelled, " ")
	return r, nil
}

// option takes one option. Option names are case-insensitive (RFC 2347).
func (r *request) option(name, value string) {
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil {
		return
	}
	switch name {
	case "blksize":
		if n >= minBlock && n <= maxBlock {
			r.block = int(n)
		}
	case "windowsize":
		if n >= 1 && n <= 65535 {
			r.window = int(n)
		}
	case "timeout":
		if n >= 1 && n <= 255 {
			r.timeout = int(n)
		}
	case "tsize":
		r.tsize = true
	}
}

// mode is how the file is asked for: what sets requests apart that name the same one.
func (r *request) mode() [2]string {
	if r.netascii {
		return [2]string{"netascii", r.spelled}
	}
	return [2]string{"octet", r.spelled}
}

// blockSize is the size of a data block that the request asks for.
func (r *request) blockSize() int {
	if r.block == 0 {
		return stdBlock
	}
	return r.block
}

// field takes one zero-terminated string off p.
func field(p []byte) (s string, rest []byte, ok bool) {
	i := bytes.IndexByte(p, 0)
	if i < 0 {
		return "", nil, false
	}
	return string(p[:i]), p[i+1:], true
}

// cleanName takes off leading slashes, which GRUB and others write, folds double
// ones, which shim writes, and refuses what no boot file is called.
func cleanName(raw string) (string, error) {
	if len(raw) > maxName {
		return "", &refusal{codeNotFound, "file not found"}
	}
	var b strings.Builder
	for part := range strings.SplitSeq(raw, "/") {
		switch part {
		case "", ".":
			continue
		case "..":
			return "", &refusal{codeAccess, "names may not contain \"..\""}
		}
		if b.Len() > 0 {
			b.WriteByte('/')
		}
		b.WriteString(part)
	}
	name := b.String()
	if name == "" {
		return "", &refusal{codeNotFound, "file not found"}
	}
	for i := range len(name) {
		if name[i] < 0x20 || name[i] == 0x7f {
			return "", &refusal{codeNotFound, "file not found"}
		}
	}
	return name, nil
}

// appendError makes an ERROR packet (RFC 1350 section 5).
func appendError(p []byte, code uint16, text string) []byte {
	p = binary.BigEndian.AppendUint16(p, opERROR)
	p = binary.BigEndian.AppendUint16(p, code)
	p = append(p, text[:min(len(text), 200)]...)
	return append(p, 0)
}

// appendOption adds one option to a request or an OACK.
func appendOption(p []byte, name string, value int64) []byte {
	p = append(p, name...)
	p = append(p, 0)
	p = strconv.AppendInt(p, value, 10)
	return append(p, 0)
}
