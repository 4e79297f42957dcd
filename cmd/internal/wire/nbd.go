package wire

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Numbers of the NBD protocol, doc/proto.md.
const (
	nbdMagic      = 0x4e42444d41474943 // "NBDMAGIC"
	nbdOptMagic   = 0x49484156454f5054 // "IHAVEOPT"
	nbdReplyMagic = 0x0003e889045565a9

	nbdNoZeroes = 1 << 1 // client flag: no padding behind the answer to EXPORT_NAME

	nbdOptExportName = 1
	nbdOptAbort      = 2
	nbdOptStartTLS   = 5
	nbdOptInfo       = 6
	nbdOptGo         = 7

	nbdRepAck   = 1
	nbdRepInfo  = 3
	nbdRepError = 1 << 31

	nbdInfoExport    = 0
	nbdInfoBlockSize = 3
)

// maxNBDOption bounds the data of an option or reply. Names are at most 4096 bytes.
const maxNBDOption = 64 << 10

// nbdConn follows the negotiation of one NBD connection. What comes after it is
// passed over.
type nbdConn struct {
	conn  *conn
	in    [2][]byte // not parsed yet
	hello [2]bool   // the opening of that side was read
	noPad bool
	over  bool
	// asked are the options that wait for their final reply, in order.
	asked []nbdOption
}

type nbdOption struct {
	code  uint32
	entry *NBD // nil: an option that is not listed
}

func (n *nbdConn) data(dir direction, at time.Time, b []byte) {
	if n.over {
		return
	}
	n.in[dir] = append(n.in[dir], b...)
	step := n.client
	if dir == toClient {
		step = n.server
	}
	for {
		used, ok := step(n.in[dir], at)
		if !ok {
			n.conn.table.traffic.Malformed++
			n.end()
			return
		}
		if used == 0 || n.over {
			return
		}
		n.in[dir] = n.in[dir][used:]
	}
}

func (n *nbdConn) closed(direction, time.Time, bool) {}

// end drops the buffers when the negotiation is over.
func (n *nbdConn) end() {
	n.over, n.in, n.asked = true, [2][]byte{}, nil
}

// client parses what the client sends: its flags, then options. It gives how many
// bytes it took, 0 when it needs more.
func (n *nbdConn) client(b []byte, at time.Time) (used int, ok bool) {
	if !n.hello[toServer] {
		if len(b) < 4 {
			return 0, true
		}
		n.hello[toServer], n.noPad = true, binary.BigEndian.Uint32(b)&nbdNoZeroes != 0
		return 4, true
	}
	if len(b) < 16 {
		return 0, true
	}
	code, length := binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
	if binary.BigEndian.Uint64(b) != nbdOptMagic || length > maxNBDOption {
		return 0, false
	}
	used = 16 + int(length)
	if len(b) < used {
		return 0, true
	}
	name, option, ok := nbdExport(code, b[16:used])
	if !ok {
		return 0, false
	}
	o := nbdOption{code: code}
	if option != "" {
		o.entry = &NBD{
			At: at, MAC: n.conn.mac, Client: n.conn.client, Server: n.conn.server,
			Option: option, Export: name,
		}
		t := n.conn.table.traffic
		t.NBD = append(t.NBD, o.entry)
	}
	n.asked = append(n.asked, o)
	return used, true
}

// nbdExport reads the export name out of an option's data; option is "" when the
// option names none.
func nbdExport(code uint32, b []byte) (name, option string, ok bool) {
	switch code {
	case nbdOptExportName:
		return string(b), "EXPORT_NAME", true
	case nbdOptGo:
		option = "GO"
	case nbdOptInfo:
		option = "INFO"
	default:
		return "", "", true
	}
	if len(b) < 6 {
		return "", "", false
	}
	length := uint64(binary.BigEndian.Uint32(b))
	if length > uint64(len(b)-6) {
		return "", "", false
	}
	return string(b[4 : 4+length]), option, true
}

// server parses what the server sends: its greeting, then replies.
func (n *nbdConn) server(b []byte, at time.Time) (used int, ok bool) {
	if !n.hello[toClient] {
		if len(b) < 18 {
			return 0, true
		}
		if binary.BigEndian.Uint64(b[8:]) != nbdOptMagic {
			n.end() // the old style has no names
			return 0, true
		}
		n.hello[toClient] = true
		return 18, true
	}
	if len(b) == 0 {
		return 0, true
	}
	if len(n.asked) == 0 {
		return 0, false
	}
	o := n.asked[0]
	if o.code == nbdOptExportName {
		return n.exportName(o.entry, b)
	}
	if len(b) < 20 {
		return 0, true
	}
	code, kind, length := binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:]), binary.BigEndian.Uint32(b[16:])
	if binary.BigEndian.Uint64(b) != nbdReplyMagic || code != o.code || length > maxNBDOption {
		return 0, false
	}
	used = 20 + int(length)
	if len(b) < used {
		return 0, true
	}
	n.reply(o, kind, b[20:used])
	return used, true
}

// exportName takes the answer to NBD_OPT_EXPORT_NAME, which has no header.
func (n *nbdConn) exportName(e *NBD, b []byte) (used int, ok bool) {
	used = 10
	if !n.noPad {
		used += 124
	}
	if len(b) < used {
		return 0, true
	}
	e.Granted, e.Size, e.Flags = true, binary.BigEndian.Uint64(b), binary.BigEndian.Uint16(b[8:])
	n.end()
	return used, true
}

// reply takes one reply to an option.
func (n *nbdConn) reply(o nbdOption, kind uint32, b []byte) {
	if kind&nbdRepError != 0 {
		if o.entry != nil {
			o.entry.Failure = nbdFailure(kind, b)
		}
		n.asked = n.asked[1:]
		return
	}
	switch kind {
	case nbdRepAck:
		if o.entry != nil {
			o.entry.Granted = true
		}
		n.asked = n.asked[1:]
		// After GO comes transmission, after STARTTLS what cannot be read.
		if o.code == nbdOptGo || o.code == nbdOptStartTLS || o.code == nbdOptAbort {
			n.end()
		}
	case nbdRepInfo:
		if o.entry != nil && len(b) >= 2 {
			o.entry.info(binary.BigEndian.Uint16(b), b[2:])
		}
	}
}

// info takes one NBD_REP_INFO.
func (e *NBD) info(kind uint16, b []byte) {
	switch {
	case kind == nbdInfoExport && len(b) >= 10:
		e.Size, e.Flags = binary.BigEndian.Uint64(b), binary.BigEndian.Uint16(b[8:])
	case kind == nbdInfoBlockSize && len(b) >= 12:
		e.MinBlock, e.PreferredBlock, e.MaxBlock =
			binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	}
}

func nbdFailure(kind uint32, text []byte) string {
	names := [...]string{
		1: "ERR_UNSUP", 2: "ERR_POLICY", 3: "ERR_INVALID", 4: "ERR_PLATFORM", 5: "ERR_TLS_REQD",
		6: "ERR_UNKNOWN", 7: "ERR_SHUTDOWN", 8: "ERR_BLOCK_SIZE_REQD", 9: "ERR_TOO_BIG", 10: "ERR_EXT_HEADER_REQD",
	}
	name := fmt.Sprintf("error %#x", kind)
	if i := kind &^ nbdRepError; i > 0 && i < uint32(len(names)) {
		name = names[i]
	}
	if len(text) > 0 {
		name += ": " + string(text)
	}
	return name
}
