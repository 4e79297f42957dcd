package main

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Netlink messages are in host byte order (RFC 3549 section 2.2): a 16-byte
// header, for generic netlink a 4-byte one more, then attributes, every part
// padded to 4 bytes.
const (
	nlHeaderLen   = 16
	genlHeaderLen = 4
	attrHeaderLen = 4
	// maxAttrs is more than any message of the two families we talk to has.
	maxAttrs = 1024
)

// message is one netlink message.
type message struct {
	typ   uint16
	flags uint16
	seq   uint32
	body  []byte // after the 16-byte header
}

// attr is one attribute. Its data may hold attributes again.
type attr struct {
	typ  uint16
	data []byte
}

func align4(n int) int { return (n + 3) &^ 3 }

// encode gives the bytes of m.
func (m message) encode() []byte {
	b := make([]byte, 0, nlHeaderLen+align4(len(m.body)))
	b = binary.NativeEndian.AppendUint32(b, uint32(nlHeaderLen+len(m.body)))
	b = binary.NativeEndian.AppendUint16(b, m.typ)
	b = binary.NativeEndian.AppendUint16(b, m.flags)
	b = binary.NativeEndian.AppendUint32(b, m.seq)
	b = binary.NativeEndian.AppendUint32(b, 0) // the kernel fills in our port
	return append(b, m.body...)
}

// genlBody starts the body of a generic netlink message.
func genlBody(cmd uint8) []byte { return []byte{cmd, 1, 0, 0} }

// splitGenl gives the command and the attributes of a generic netlink message.
func splitGenl(body []byte) (cmd uint8, attrs []attr, err error) {
	if len(body) < genlHeaderLen {
		return 0, nil, errors.New("netlink: short generic header")
	}
	attrs, err = parseAttrs(body[genlHeaderLen:])
	return body[0], attrs, err
}

func appendAttr(b []byte, typ uint16, data []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(attrHeaderLen+len(data)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func appendU32(b []byte, typ uint16, v uint32) []byte {
	return appendAttr(b, typ, binary.NativeEndian.AppendUint32(nil, v))
}

func appendU64(b []byte, typ uint16, v uint64) []byte {
	return appendAttr(b, typ, binary.NativeEndian.AppendUint64(nil, v))
}

func appendNested(b []byte, typ uint16, inner []byte) []byte {
	return appendAttr(b, typ|unix.NLA_F_NESTED, inner)
}

// parseMessages splits one datagram. Bytes after the last whole message are an
// error: the kernel writes none.
func parseMessages(b []byte) ([]message, error) {
	var ms []message
	for len(b) > 0 {
		if len(b) < nlHeaderLen {
			return nil, errors.New("netlink: short message header")
		}
		n := int(binary.NativeEndian.Uint32(b))
		if n < nlHeaderLen || n > len(b) {
			return nil, fmt.Errorf("netlink: a message of %d bytes in %d", n, len(b))
		}
		ms = append(ms, message{
			typ:   binary.NativeEndian.Uint16(b[4:]),
			flags: binary.NativeEndian.Uint16(b[6:]),
			seq:   binary.NativeEndian.Uint32(b[8:]),
			body:  b[nlHeaderLen:n],
		})
		b = b[min(align4(n), len(b)):]
	}
	return ms, nil
}

// parseAttrs splits a run of attributes; the flag bits of their types are gone.
func parseAttrs(b []byte) ([]attr, error) {
	var as []attr
	for len(b) > 0 {
		if len(b) < attrHeaderLen {
			return nil, errors.New("netlink: short attribute header")
		}
		n := int(binary.NativeEndian.Uint16(b))
		if n < attrHeaderLen || n > len(b) || len(as) == maxAttrs {
			return nil, fmt.Errorf("netlink: an attribute of %d bytes in %d", n, len(b))
		}
		typ := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		as = append(as, attr{typ: typ, data: b[attrHeaderLen:n]})
		b = b[min(align4(n), len(b)):]
	}
	return as, nil
}

// find gives the data of the first attribute of a type, nil when there is none.
func find(as []attr, typ uint16) []byte {
	for _, a := range as {
		if a.typ == typ {
			return a.data
		}
	}
	return nil
}

// nativeU16 reads a 16-bit number in host byte order.
func nativeU16(b []byte) uint16 { return binary.NativeEndian.Uint16(b) }

// u32 reads a 32-bit attribute.
func u32(as []attr, typ uint16) (uint32, bool) {
	d := find(as, typ)
	if len(d) != 4 {
		return 0, false
	}
	return binary.NativeEndian.Uint32(d), true
}
