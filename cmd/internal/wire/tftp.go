package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash"
	"net/netip"
	"strconv"
	"strings"
)

// Opcodes of RFC 1350 section 5 and RFC 2347.
const (
	tftpRead  = 1
	tftpData  = 3
	tftpAck   = 4
	tftpError = 5
	tftpOACK  = 6
)

const (
	defaultBlock = 512   // RFC 1350
	maxBlock     = 65464 // RFC 2348
	maxOptions   = 64    // words in a request
)

// tftpKey names a transfer: the client's own port is its transfer identifier.
type tftpKey struct {
	client netip.AddrPort
	server netip.Addr
}

// tftpTable follows read transfers.
type tftpTable struct {
	traffic *Traffic
	open    map[tftpKey]*transfer // the newest of each key, ended or not
}

// transfer is the state of one read transfer.
type transfer struct {
	*TFTP
	request []byte
	tid     uint16 // the server's port; 0 until it answers
	block   int    // bytes in a full block
	next    uint64 // number of the block that is to come, not wrapped
	final   uint64 // number of the last block; 0 until it comes
	sum     hash.Hash
	ended   bool
}

// datagram takes one datagram of any ports.
func (t *tftpTable) datagram(p packet) {
	if len(p.payload) < 2 {
		return
	}
	op := binary.BigEndian.Uint16(p.payload)
	if x := t.open[tftpKey{p.dst, p.src.Addr()}]; x != nil && x.tid == 0 && op >= tftpData && op <= tftpOACK {
		x.tid = p.src.Port() // the server's first answer chooses its port
	}
	if x := t.open[tftpKey{p.dst, p.src.Addr()}]; x != nil && x.tid == p.src.Port() {
		x.fromServer(op, p)
		return
	}
	if x := t.open[tftpKey{p.src, p.dst.Addr()}]; x != nil && op != tftpRead {
		if x.tid == p.dst.Port() {
			x.fromClient(op, p)
		}
		return
	}
	if op == tftpRead {
		t.read(p)
	}
}

// read takes a read request.
func (t *tftpTable) read(p packet) {
	key := tftpKey{p.src, p.dst.Addr()}
	if x := t.open[key]; x != nil {
		if !x.ended && bytes.Equal(x.request, p.payload) {
			return // repeated
		}
		x.end()
	}
	words := strings.Split(string(p.payload[2:]), "\x00")
	// Every word is terminated, so one empty string is left over.
	words = words[:len(words)-1]
	if len(words) < 2 || len(words) > maxOptions || words[0] == "" {
		return
	}
	mode := strings.ToLower(words[1])
	if mode != "octet" && mode != "netascii" {
		return // some other protocol whose packets begin with 00 01
	}
	x := &transfer{
		TFTP: &TFTP{
			At: p.at, End: p.at, MAC: p.srcMAC, Client: p.src, Server: p.dst,
			Name: words[0], Mode: mode, Asked: tftpOptions(words[2:]),
		},
		request: append([]byte(nil), p.payload...),
		block:   defaultBlock,
		next:    1,
		sum:     newDigest(),
	}
	t.open[key] = x
	t.traffic.TFTP = append(t.traffic.TFTP, x.TFTP)
}

func tftpOptions(words []string) map[string]string {
	var m map[string]string
	for i := 0; i+1 < len(words); i += 2 {
		if m == nil {
			m = map[string]string{}
		}
		m[strings.ToLower(words[i])] = words[i+1]
	}
	return m
}

func (x *transfer) fromServer(op uint16, p packet) {
	if x.ended {
		return
	}
	x.End = p.at
	switch op {
	case tftpOACK:
		words := strings.Split(string(p.payload[2:]), "\x00")
		if x.Granted != nil || len(words) > maxOptions {
			return
		}
		x.Granted = tftpOptions(words[:len(words)-1])
		if n, err := strconv.Atoi(x.Granted["blksize"]); err == nil && n >= 8 && n <= maxBlock {
			x.block = n
		}
	case tftpData:
		if len(p.payload) < 4 {
			return
		}
		// With a window (RFC 7440) blocks behind a lost one come too; the receiver drops
		// them and so they come again.
		if n, b := binary.BigEndian.Uint16(p.payload[2:]), p.payload[4:]; n == uint16(x.next) && x.final == 0 {
			x.sum.Write(b)
			x.Bytes += int64(len(b))
			x.LastByte = p.at
			if len(b) < x.block {
				x.final = x.next
			}
			x.next++
		}
	case tftpError:
		x.fail(p.payload, false)
	}
}

func (x *transfer) fromClient(op uint16, p packet) {
	if x.ended {
		return
	}
	switch op {
	case tftpAck:
		x.End = p.at
		if len(p.payload) >= 4 && x.final != 0 && binary.BigEndian.Uint16(p.payload[2:]) == uint16(x.final) {
			x.Complete = true
			x.end()
		}
	case tftpError:
		x.End = p.at
		x.fail(p.payload, true)
	}
}

// fail takes an ERROR packet.
func (x *transfer) fail(b []byte, byClient bool) {
	code, text := 0, ""
	if len(b) >= 4 {
		code = int(binary.BigEndian.Uint16(b[2:]))
		text, _, _ = strings.Cut(string(b[4:]), "\x00")
	}
	x.Failure, x.Refused = fmt.Sprintf("%d %s", code, text), byClient
	x.end()
}

// end computes what is known only at the end. Idempotent.
func (x *transfer) end() {
	if !x.ended {
		x.ended = true
		x.Digest = digest(x.sum)
	}
}

func (t *tftpTable) finish() {
	for _, x := range t.open {
		x.end()
	}
}
