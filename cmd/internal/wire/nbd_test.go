package wire

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const nbdHello = "NBDMAGICIHAVEOPT\x00\x03"

func nbdOpt(code uint32, data string) string {
	b := append([]byte("IHAVEOPT"), binary.BigEndian.AppendUint32(nil, code)...)
	return string(binary.BigEndian.AppendUint32(b, uint32(len(data)))) + data
}

func nbdRep(code, kind uint32, data string) string {
	b := binary.BigEndian.AppendUint64(nil, nbdReplyMagic)
	b = binary.BigEndian.AppendUint32(b, code)
	b = binary.BigEndian.AppendUint32(b, kind)
	return string(binary.BigEndian.AppendUint32(b, uint32(len(data)))) + data
}

// nbdAsk is the data of GO and INFO without information requests.
func nbdAsk(name string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(name)))) + name + "\x00\x00"
}

const (
	nbdSize       = "\x00\x00\x00\x01\x00\x00\x00\x00" // 4 GiB
	nbdExportInfo = "\x00\x00" + nbdSize + "\x00\x6d"
	nbdBlocks     = "\x00\x03\x00\x00\x00\x01\x00\x00\x10\x00\x02\x00\x00\x00"
)

func TestNBDNegotiations(t *testing.T) {
	granted := NBD{Option: "GO", Export: "arch@3f2a9c1d7e08", Granted: true, Size: 1 << 32, Flags: 0x6d}
	for name, c := range map[string]struct {
		talk      func(c *talk)
		want      []NBD
		malformed int
	}{
		"GO": {func(c *talk) {
			c.reply(nbdHello)
			c.send("\x00\x00\x00\x03" + nbdOpt(nbdOptGo, nbdAsk("arch@3f2a9c1d7e08")))
			c.reply(nbdRep(nbdOptGo, nbdRepInfo, nbdExportInfo) + nbdRep(nbdOptGo, nbdRepAck, ""))
			c.send("\x25\x60\x95\x13 requests")
			c.reply("\x67\x44\x66\x98 replies")
		}, []NBD{granted}, 0},
		"other options, INFO, then GO": {func(c *talk) {
			c.reply(nbdHello)
			c.send("\x00\x00\x00\x03" + nbdOpt(8, "") + nbdOpt(3, ""))
			c.reply(nbdRep(8, nbdRepAck, "") + nbdRep(3, 2, "\x00\x00\x00\x01a") + nbdRep(3, nbdRepAck, ""))
			c.send(nbdOpt(nbdOptInfo, nbdAsk("a")) + nbdOpt(nbdOptGo, nbdAsk("arch@3f2a9c1d7e08")))
			c.reply(nbdRep(nbdOptInfo, nbdRepInfo, nbdBlocks) + nbdRep(nbdOptInfo, nbdRepInfo, nbdExportInfo) + nbdRep(nbdOptInfo, nbdRepAck, ""))
			c.reply(nbdRep(nbdOptGo, nbdRepInfo, nbdExportInfo) + nbdRep(nbdOptGo, nbdRepAck, ""))
		}, []NBD{
			{Option: "INFO", Export: "a", Granted: true, Size: 1 << 32, Flags: 0x6d, MinBlock: 1, PreferredBlock: 4096, MaxBlock: 32 << 20},
			granted,
		}, 0},
		"refused, then another name": {func(c *talk) {
			c.reply(nbdHello)
			c.send("\x00\x00\x00\x03" + nbdOpt(nbdOptGo, nbdAsk("zzz")))
			c.reply(nbdRep(nbdOptGo, nbdRepError|6, "no such export"))
			c.send(nbdOpt(nbdOptGo, nbdAsk("arch@3f2a9c1d7e08")))
			c.reply(nbdRep(nbdOptGo, nbdRepInfo, nbdExportInfo) + nbdRep(nbdOptGo, nbdRepAck, ""))
		}, []NBD{{Option: "GO", Export: "zzz", Failure: "ERR_UNKNOWN: no such export"}, granted}, 0},
		"EXPORT_NAME with padding": {func(c *talk) {
			c.reply(nbdHello)
			c.send("\x00\x00\x00\x01" + nbdOpt(nbdOptExportName, "old"))
			c.reply(nbdSize + "\x00\x03" + string(make([]byte, 124)) + "\x67\x44\x66\x98")
		}, []NBD{{Option: "EXPORT_NAME", Export: "old", Granted: true, Size: 1 << 32, Flags: 3}}, 0},
		"EXPORT_NAME without padding": {func(c *talk) {
			c.reply(nbdHello)
			c.send("\x00\x00\x00\x03" + nbdOpt(nbdOptExportName, ""))
			c.reply(nbdSize + "\x00\x03\x67\x44\x66\x98")
		}, []NBD{{Option: "EXPORT_NAME", Granted: true, Size: 1 << 32, Flags: 3}}, 0},
		"EXPORT_NAME of nothing": {func(c *talk) {
			c.reply(nbdHello)
			c.send("\x00\x00\x00\x03" + nbdOpt(nbdOptExportName, "zzz"))
			c.fin(toClient)
		}, []NBD{{Option: "EXPORT_NAME", Export: "zzz"}}, 0},
		"TLS": {func(c *talk) {
			c.reply(nbdHello)
			c.send("\x00\x00\x00\x03" + nbdOpt(nbdOptStartTLS, ""))
			c.reply(nbdRep(nbdOptStartTLS, nbdRepAck, ""))
			c.send("\x16\x03\x01")
		}, nil, 0},
		"an unknown error": {func(c *talk) {
			c.reply(nbdHello)
			c.send("\x00\x00\x00\x03" + nbdOpt(nbdOptGo, nbdAsk("a")))
			c.reply(nbdRep(nbdOptGo, nbdRepError|99, ""))
		}, []NBD{{Option: "GO", Export: "a", Failure: "error 0x80000063"}}, 0},
		"a name longer than its option": {func(c *talk) {
			c.reply(nbdHello)
			c.send("\x00\x00\x00\x03" + nbdOpt(nbdOptGo, "\x7f\xff\xff\xffabc"))
		}, nil, 1},
		"a huge option": {func(c *talk) {
			c.reply(nbdHello)
			c.send("\x00\x00\x00\x03IHAVEOPT\x00\x00\x00\x07\xff\xff\xff\xff")
		}, nil, 1},
		"a reply to nothing": {func(c *talk) {
			c.reply(nbdHello + nbdRep(nbdOptGo, nbdRepAck, ""))
		}, nil, 1},
		"a reply to another option": {func(c *talk) {
			c.reply(nbdHello)
			c.send("\x00\x00\x00\x03" + nbdOpt(nbdOptGo, nbdAsk("a")))
			c.reply(nbdRep(nbdOptInfo, nbdRepAck, ""))
		}, []NBD{{Option: "GO", Export: "a"}}, 1},
		"the old style": {func(c *talk) {
			c.reply("NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53" + nbdSize)
		}, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for _, mtu := range []int{1, 13, 1448} {
				p := &tape{}
				conn := p.connect(clientAddr, serverAddr, [2]uint32{3, 4})
				conn.mtu = mtu
				c.talk(conn)
				traffic := p.traffic(t)
				var got []NBD
				for _, e := range traffic.NBD {
					if e.MAC != clientMAC || e.Client != clientAddr || e.Server != serverAddr || e.At.IsZero() {
						t.Errorf("%+v", e)
					}
					short := *e
					short.MAC, short.Client, short.Server, short.At = NBD{}.MAC, netip.AddrPort{}, netip.AddrPort{}, time.Time{}
					got = append(got, short)
				}
				if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" || traffic.Malformed != c.malformed {
					t.Errorf("in segments of %d: %d malformed, want %d; -want +got:\n%s", mtu, traffic.Malformed, c.malformed, diff)
				}
			}
		})
	}
}
