package wire

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

const (
	maxGap      = 4 << 20  // bytes that one direction keeps while earlier ones are missing
	maxGaps     = 64 << 20 // the same for all connections
	maxSegments = 4096     // in one direction's gap
)

// Flags of RFC 9293 section 3.1.
const (
	flagFIN = 1
	flagSYN = 2
	flagRST = 4
	flagACK = 16
)

// flow names a connection by its ends; the client is who sent the SYN.
type flow struct{ client, server netip.AddrPort }

// tcpTable follows connections whose opening is in the capture.
type tcpTable struct {
	traffic *Traffic
	open    map[flow]*conn
	kept    int // bytes in all gaps
}

// direction is one half of a connection.
type direction int

const (
	toServer direction = iota
	toClient
)

// conn is one connection.
type conn struct {
	flow
	mac     provider.MAC // the client's
	table   *tcpTable
	streams [2]stream
	app     application // nil: nothing that is listed here
}

// application takes what a connection carries, in order. at is the time of the frame
// that made it available.
type application interface {
	data(dir direction, at time.Time, b []byte) // b is valid during the call
	// closed says that no more comes that way: in good order, or for any other reason.
	closed(dir direction, at time.Time, orderly bool)
}

// stream puts the bytes of one direction in order.
type stream struct {
	isn     uint32
	next    uint32 // sequence number of the first byte that has not been delivered
	started bool
	gap     []chunk // what came early, by sequence number
	size    int     // bytes in gap
	fin     bool
	finSeq  uint32
	ended   bool // closed was called
}

// chunk is the data of one segment.
type chunk struct {
	seq uint32
	b   []byte
}

// segment takes one TCP segment.
func (t *tcpTable) segment(p packet) {
	b := p.payload
	if len(b) < 20 {
		return
	}
	header := int(b[12]>>4) * 4
	if header < 20 || header > len(b) {
		return
	}
	p.src = netip.AddrPortFrom(p.src.Addr(), binary.BigEndian.Uint16(b[0:]))
	p.dst = netip.AddrPortFrom(p.dst.Addr(), binary.BigEndian.Uint16(b[2:]))
	seq, flags := binary.BigEndian.Uint32(b[4:]), b[13]
	b = b[header:]

	if flags&(flagSYN|flagACK) == flagSYN {
		c := t.syn(p, seq)
		c.add(toServer, p.at, seq+1, b, false)
		return
	}
	c, dir := t.open[flow{p.src, p.dst}], toServer
	if c == nil {
		c, dir = t.open[flow{p.dst, p.src}], toClient
	}
	if c == nil {
		return // opened before the capture, or over
	}
	if flags&flagRST != 0 {
		c.end(p.at)
		return
	}
	s := &c.streams[dir]
	if flags&flagSYN != 0 {
		if !s.started {
			s.started, s.isn, s.next = true, seq, seq+1
		}
		seq++
	}
	if s.started {
		c.add(dir, p.at, seq, b, flags&flagFIN != 0)
	}
}

// syn gives the connection that a SYN opens, which is a new one unless the SYN is
// repeated: clients use their ports again.
func (t *tcpTable) syn(p packet, seq uint32) *conn {
	f := flow{p.src, p.dst}
	if c := t.open[f]; c != nil {
		if c.streams[toServer].isn == seq {
			return c
		}
		c.end(p.at)
	}
	c := &conn{flow: f, mac: p.srcMAC, table: t}
	c.streams[toServer] = stream{started: true, isn: seq, next: seq + 1}
	c.app = &unknown{conn: c}
	t.open[f] = c
	return c
}

// add takes a segment's data and FIN.
func (c *conn) add(dir direction, at time.Time, seq uint32, b []byte, fin bool) {
	s := &c.streams[dir]
	if s.ended {
		return
	}
	if fin {
		s.fin, s.finSeq = true, seq+uint32(len(b))
	}
	if len(b) > 0 {
		c.insert(dir, at, chunk{seq, b})
	}
	if s.fin && s.next == s.finSeq {
		c.close(dir, at, true)
	}
	if c.streams[toServer].ended && c.streams[toClient].ended {
		c.end(at)
	}
}

// insert delivers a chunk, and what it makes deliverable, or keeps it for later.
// Bytes that came before win over ones that are sent again.
func (c *conn) insert(dir direction, at time.Time, k chunk) {
	s := &c.streams[dir]
	if int32(k.seq-s.next) > 0 {
		c.keep(dir, at, k)
		return
	}
	c.deliver(dir, at, k)
	for len(s.gap) > 0 && int32(s.gap[0].seq-s.next) <= 0 && !s.ended {
		k := s.gap[0]
		s.gap = s.gap[1:]
		s.size -= len(k.b)
		c.table.kept -= len(k.b)
		c.deliver(dir, at, k)
	}
}

// deliver hands on the part of a chunk that is new. It begins at or before next.
func (c *conn) deliver(dir direction, at time.Time, k chunk) {
	s := &c.streams[dir]
	old := s.next - k.seq
	if old >= uint32(len(k.b)) {
		return
	}
	b := k.b[old:]
	s.next += uint32(len(b))
	if c.app != nil {
		c.app.data(dir, at, b)
	}
}

// keep stores a copy of a chunk that came early. When there are too many, what is
// missing was lost by the capture and will not come: that direction is given up.
func (c *conn) keep(dir direction, at time.Time, k chunk) {
	s := &c.streams[dir]
	if s.size+len(k.b) > maxGap || len(s.gap) >= maxSegments || c.table.kept+len(k.b) > maxGaps {
		c.close(dir, at, false)
		return
	}
	i, _ := slices.BinarySearchFunc(s.gap, k, func(a, b chunk) int {
		return int(int32(a.seq - b.seq))
	})
	s.gap = slices.Insert(s.gap, i, chunk{k.seq, slices.Clone(k.b)})
	s.size += len(k.b)
	c.table.kept += len(k.b)
}

// close ends one direction. Idempotent.
func (c *conn) close(dir direction, at time.Time, orderly bool) {
	s := &c.streams[dir]
	if s.ended {
		return
	}
	s.ended = true
	c.table.kept -= s.size
	s.gap, s.size = nil, 0
	if c.app != nil {
		c.app.closed(dir, at, orderly)
	}
}

// end forgets the connection; what has not ended in good order is cut off.
func (c *conn) end(at time.Time) {
	c.close(toServer, at, false)
	c.close(toClient, at, false)
	if c.table.open[c.flow] == c {
		delete(c.table.open, c.flow)
	}
}

// finish ends what the capture left open.
func (t *tcpTable) finish(at time.Time) {
	for _, c := range t.open {
		c.end(at)
	}
}
