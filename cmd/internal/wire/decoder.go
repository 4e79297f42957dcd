package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"net/netip"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// decoder takes frames in the order of the capture and builds a Traffic.
type decoder struct {
	traffic   *Traffic
	fragments fragments
	tftp      tftpTable
	tcp       tcpTable
	last      time.Time // of the newest frame
}

func newDecoder() *decoder {
	t := &Traffic{}
	return &decoder{
		traffic:   t,
		fragments: fragments{open: map[fragmentKey]*datagram{}},
		tftp:      tftpTable{traffic: t, open: map[tftpKey]*transfer{}},
		tcp:       tcpTable{traffic: t, open: map[flow]*conn{}},
	}
}

// finish closes what the capture left open.
func (d *decoder) finish() *Traffic {
	d.tcp.finish(d.last)
	d.tftp.finish()
	return d.traffic
}

// Numbers of IEEE 802.3 and of IANA.
const (
	etherIPv4 = 0x0800
	etherVLAN = 0x8100 // IEEE 802.1Q
	etherQinQ = 0x88a8 // IEEE 802.1ad
	protoTCP  = 6
	protoUDP  = 17
)

// packet is an IPv4 packet's payload with the addresses of who sent it and to whom.
type packet struct {
	at             time.Time
	srcMAC, dstMAC provider.MAC
	src, dst       netip.AddrPort // the ports are those of TCP or UDP
	proto          byte
	payload        []byte // valid until the next frame
}

// frame takes one Ethernet frame.
func (d *decoder) frame(f captured) {
	d.traffic.Frames++
	if f.size > len(f.data) {
		d.traffic.Short++
	}
	d.last = f.at
	b := f.data
	if len(b) < 14 {
		return
	}
	p := packet{at: f.at, dstMAC: provider.MAC(b[0:6]), srcMAC: provider.MAC(b[6:12])}
	kind, b := binary.BigEndian.Uint16(b[12:]), b[14:]
	for range 2 { // tags nest at most twice
		if (kind == etherVLAN || kind == etherQinQ) && len(b) >= 4 {
			kind, b = binary.BigEndian.Uint16(b[2:]), b[4:]
		}
	}
	if kind == etherIPv4 {
		d.ipv4(p, b)
	}
}

// ipv4 takes one packet or fragment (RFC 791 section 3.1).
func (d *decoder) ipv4(p packet, b []byte) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if total == 0 {
		// Segmentation offload: the card would have filled it in.
		total = len(b)
	}
	if header < 20 || total < header || len(b) < header {
		return
	}
	// A short frame is padded; a cut one has less than it says.
	b = b[:min(total, len(b))]
	if len(b) < header {
		return
	}
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	p.src, p.dst, p.proto, p.payload = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0), b[9], b[header:]
	if field := binary.BigEndian.Uint16(b[6:]); field&0x3fff != 0 { // more fragments, or an offset
		key := fragmentKey{src: src, dst: dst, proto: b[9], id: binary.BigEndian.Uint16(b[4:])}
		whole, ok := d.fragments.add(key, int(field&0x1fff)*8, field&0x2000 != 0, p.payload)
		if !ok {
			return
		}
		p.payload = whole
	}
	switch p.proto {
	case protoUDP:
		d.udp(p)
	case protoTCP:
		d.tcp.segment(p)
	}
}

// udp takes one datagram (RFC 768).
func (d *decoder) udp(p packet) {
	b := p.payload
	if len(b) < 8 {
		return
	}
	p.src = netip.AddrPortFrom(p.src.Addr(), binary.BigEndian.Uint16(b[0:]))
	p.dst = netip.AddrPortFrom(p.dst.Addr(), binary.BigEndian.Uint16(b[2:]))
	length := int(binary.BigEndian.Uint16(b[4:]))
	if length < 8 || length > len(b) { // 0: more than 64 KiB; more: cut
		length = len(b)
	}
	p.payload = b[8:length]
	if isDHCP(p.src.Port()) && isDHCP(p.dst.Port()) {
		d.dhcp(p)
		return
	}
	d.tftp.datagram(p)
}

// digest spells a hash as the content store does.
func digest(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }

func newDigest() hash.Hash { return sha256.New() }
