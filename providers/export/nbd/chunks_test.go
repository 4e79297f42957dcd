package nbd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// holed is a disk that knows its holes, and says so in pieces of 4096 bytes.
type holed struct {
	*disk
	holes map[int64]bool // by block
	cache chan [2]int64  // what was asked for
	zeros []string
	fail  error
}

func (h *holed) Extents(off, n int64, yield func(int64, bool) bool) error {
	if h.fail != nil {
		return h.fail
	}
	for n > 0 {
		piece := min(n, 4096-off%4096)
		if !yield(piece, h.holes[off/4096]) {
			return nil
		}
		off, n = off+piece, n-piece
	}
	return nil
}

func (h *holed) Cache(off, n int64) error {
	h.cache <- [2]int64{off, n}
	return errors.New("only advice")
}

func (h *holed) ZeroRange(off, n int64, noHole, fast bool) error {
	switch {
	case fast && noHole:
		return syscall.EOPNOTSUPP
	case fast:
		h.zeros = append(h.zeros, "fast")
	case noHole:
		h.zeros = append(h.zeros, "no hole")
	default:
		h.zeros = append(h.zeros, "zero")
	}
	return h.Zero(off, n)
}

// chunk is a part of a reply.
type chunk struct {
	Done   bool
	Type   uint16
	Cookie uint64
	Data   string
}

func (c *client) chunk(f form) chunk {
	c.t.Helper()
	b := c.recv(f.chunkSize())
	k := chunk{Done: binary.BigEndian.Uint16(b[4:]) == chunkFlagDone, Type: binary.BigEndian.Uint16(b[6:]), Cookie: binary.BigEndian.Uint64(b[8:])}
	n, magic := uint64(0), magicStructuredReply
	if f == extended {
		n, magic = binary.BigEndian.Uint64(b[24:]), magicExtendedReply
	} else {
		n = uint64(binary.BigEndian.Uint32(b[16:]))
	}
	if m := binary.BigEndian.Uint32(b); m != magic {
		c.t.Fatalf("chunk magic %#x, want %#x", m, magic)
	}
	k.Data = string(c.recv(int(n)))
	return k
}

func (c *client) chunks(f form) (out []chunk) {
	c.t.Helper()
	for len(out) == 0 || !out[len(out)-1].Done {
		out = append(out, c.chunk(f))
	}
	return out
}

// ask makes a request in either form.
func (f form) ask(flags, typ uint16, cookie, off, n uint64) []byte {
	if f == extended {
		return be(magicExtendedRequest, flags, typ, cookie, off, n)
	}
	return request(flags, typ, cookie, off, uint32(n))
}

func metaData(name string, queries ...string) []byte {
	b := append(be(uint32(len(name))), name...)
	b = append(b, be(uint32(len(queries)))...)
	for _, q := range queries {
		b = append(append(b, be(uint32(len(q)))...), q...)
	}
	return b
}

// choose negotiates a form, and base:allocation, and attaches.
func (c *client) choose(f form, name string) {
	c.t.Helper()
	c.greet(3)
	id := optStructuredReply
	if f == extended {
		id = optExtendedHeaders
	}
	for _, o := range []struct {
		id   uint32
		data []byte
	}{{id, nil}, {optSetMeta, metaData(name, baseAllocation)}, {7, infoData(name)}} {
		c.send(option(o.id, o.data))
		if r := c.replies(o.id); r[len(r)-1].Type != ack {
			c.t.Fatalf("option %d: %+v", o.id, r)
		}
	}
}

func holedShelf() (*shelf, *holed) { return holedShelfOf(8 << 20) }

func holedShelfOf(size int) (*shelf, *holed) {
	h := newShelf()
	d := &holed{disk: newDisk(size), holes: map[int64]bool{1: true, 2: true, 5: true}, cache: make(chan [2]int64, 100)}
	for i := range d.b {
		if !d.holes[int64(i/4096)] {
			d.b[i] = byte(i/4096 + i)
		}
	}
	h.exports["x"] = Export{Info: Info{Name: "x", Size: int64(size), Zeroes: true}, Backend: d}
	h.exports["ro"] = Export{Info: Info{Name: "ro", Size: int64(size), ReadOnly: true}, Backend: d}
	return h, d
}

func eachForm(t *testing.T, run func(t *testing.T, f form, cl *client, d *holed)) {
	for name, f := range map[string]form{"structured": structured, "extended": extended} {
		t.Run(name, func(t *testing.T) {
			h, d := holedShelf()
			cl := serve(t, h, Limits{})()
			cl.choose(f, "x")
			run(t, f, cl, d)
			cl.send(f.ask(0, cmdRead, 99, 0, 1)) // still in step
			want := []chunk{{true, chunkOffsetData, 99, string(be(uint64(0))) + string(d.b[:1])}}
			if diff := cmp.Diff(want, cl.chunks(f)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReadChunks(t *testing.T) {
	eachForm(t, func(t *testing.T, f form, cl *client, d *holed) {
		data := func(done bool, off, n int) chunk {
			return chunk{done, chunkOffsetData, 7, string(be(uint64(off))) + string(d.b[off:off+n])}
		}
		hole := func(done bool, off, n int) chunk {
			return chunk{done, chunkOffsetHole, 7, string(be(uint64(off), uint32(n)))}
		}
		for name, c := range map[string]struct {
			flags  uint16
			off, n int
			want   []chunk
		}{
			"data":           {0, 100, 200, []chunk{data(true, 100, 200)}},
			"a hole":         {0, 4097, 8000, []chunk{hole(true, 4097, 8000)}},
			"both":           {0, 4000, 5 * 4096, []chunk{data(false, 4000, 96), hole(false, 4096, 8192), data(false, 12288, 8192), hole(true, 20480, 4000)}},
			"both, with DF":  {cmdFlagDF, 4000, 5 * 4096, []chunk{data(true, 4000, 5*4096)}},
			"nothing":        {0, 4096, 0, []chunk{{true, chunkNone, 7, ""}}},
			"long":           {0, 24576, 3 << 20, []chunk{data(false, 24576, 1<<20), data(false, 24576+1<<20, 1<<20), data(true, 24576+2<<20, 1<<20)}},
			"long, with DF":  {cmdFlagDF | cmdFlagFUA, 3, 3 << 20, []chunk{data(false, 3, 3<<20), {true, chunkNone, 7, ""}}},
			"past the end":   {0, 8 << 20, 1, []chunk{{true, chunkError, 7, string(be(einval, uint16(0)))}}},
			"unknown flag":   {1 << 15, 0, 1, []chunk{{true, chunkError, 7, string(be(einval, uint16(0)))}}},
			"more than ever": {0, 0, 32<<20 + 1, []chunk{{true, chunkError, 7, string(be(einval, uint16(0)))}}},
		} {
			cl.send(f.ask(c.flags, cmdRead, 7, uint64(c.off), uint64(c.n)))
			if diff := cmp.Diff(c.want, cl.chunks(f)); diff != "" {
				t.Errorf("%s: %.2000s", name, diff)
			}
		}
	})
}

// An error is said where it is, and the connection goes on.
func TestReadChunkErrors(t *testing.T) {
	eachForm(t, func(t *testing.T, f form, cl *client, d *holed) {
		d.disk.fail = func(_ string, off, _ int64) error {
			if off >= 2<<20 {
				return syscall.EIO
			}
			return nil
		}
		for _, flags := range []uint16{0, cmdFlagDF} {
			cl.send(f.ask(flags, cmdRead, 7, 1<<20, 4<<20))
			got := cl.chunks(f)
			if len(got) != 2 || got[0].Type != chunkOffsetData || got[1] != (chunk{true, chunkErrorOffset, 7, string(be(uint32(5), uint16(0), uint64(2<<20)))}) {
				t.Fatalf("flags %d: %d chunks, last %+v", flags, len(got), got[len(got)-1])
			}
			if want := d.b[1<<20 : 2<<20]; !bytes.HasPrefix([]byte(got[0].Data)[8:], want) {
				t.Error("what was read before the error is wrong")
			}
			if pad := []byte(got[0].Data)[8+1<<20:]; !bytes.Equal(pad, make([]byte, len(pad))) || flags != 0 && len(pad) != 3<<20 {
				t.Error("not padded with zeros")
			}
		}
	})
}

func TestBlockStatus(t *testing.T) {
	eachForm(t, func(t *testing.T, f form, cl *client, d *holed) {
		status := func(v ...uint64) []chunk {
			if f == extended {
				return []chunk{{true, chunkBlockStatusExt, 7, string(be(uint32(allocationID), uint32(len(v)/2), v))}}
			}
			s := be(uint32(allocationID))
			for _, x := range v {
				s = append(s, be(uint32(x))...)
			}
			return []chunk{{true, chunkBlockStatus, 7, string(s)}}
		}
		refused := []chunk{{true, chunkError, 7, string(be(einval, uint16(0)))}}
		ask := func(what string, flags uint16, off, n uint64, want []chunk) {
			t.Helper()
			cl.send(f.ask(flags, cmdBlockStatus, 7, off, n))
			if diff := cmp.Diff(want, cl.chunks(f)); diff != "" {
				t.Errorf("%s: %s", what, diff)
			}
		}
		ask("all", 0, 0, 32<<10, status(4096, 0, 8192, 3, 8192, 0, 4096, 3, 8192, 0))
		ask("REQ_ONE", cmdFlagReqOne, 5000, 32<<10, status(3*4096-5000, 3))
		ask("nothing", 0, 0, 0, refused)
		ask("past the end", 0, 8<<20-1, 2, refused)
		ask("overflow", 0, 1<<64-1, 0xffffffff, refused)
		ask("unknown flag", cmdFlagDF, 0, 512, refused)
		if f == extended {
			ask("2^64-1", 0, 0, 1<<64-1, refused)
		}
		d.fail = syscall.EIO
		ask("not known", 0, 0, 32<<10, status(32<<10, 0))
		d.fail = nil
		// No more descriptors than the limit, however small the pieces.
		for i := range int64(2048) {
			d.holes[i] = i%2 == 1
		}
		cl.send(f.ask(0, cmdBlockStatus, 7, 0, 8<<20))
		got := cl.chunks(f)
		size, head := 8, 4
		if f == extended {
			size, head = 16, 8
		}
		if n := (len(got[0].Data) - head) / size; n != maxDescriptors {
			t.Errorf("%d descriptors, want %d", n, maxDescriptors)
		}
		clear(d.holes)
	})
}

// Contexts belong to the export they were selected for, and to the last SET.
func TestBlockStatusNotSelected(t *testing.T) {
	for name, data := range map[string][][]byte{
		"never": nil, "for another": {metaData("ro", baseAllocation)}, "undone": {metaData("x", baseAllocation), metaData("x")},
		"undone by a failure": {metaData("x", baseAllocation), metaData("zzz", baseAllocation)}, "namespace": {metaData("x", "base:")},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := holedShelf()
			cl := serve(t, h, Limits{})()
			cl.greet(3)
			cl.send(option(optStructuredReply, nil))
			cl.replies(optStructuredReply)
			for _, d := range data {
				cl.send(option(optSetMeta, d))
				cl.replies(optSetMeta)
			}
			cl.send(option(7, infoData("x")))
			cl.replies(7)
			cl.send(structured.ask(0, cmdBlockStatus, 7, 0, 512))
			if diff := cmp.Diff([]chunk{{true, chunkError, 7, string(be(einval, uint16(0)))}}, cl.chunks(structured)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCacheAndZeroes(t *testing.T) {
	eachForm(t, func(t *testing.T, f form, cl *client, d *holed) {
		want := func(what string, errno uint32) {
			t.Helper()
			if f == structured && errno == 0 {
				cl.wantReply(0, 7) // shorter, and allowed
				return
			}
			k := []chunk{{true, chunkNone, 7, ""}}
			if errno != 0 {
				k = []chunk{{true, chunkError, 7, string(be(errno, uint16(0)))}}
			}
			if diff := cmp.Diff(k, cl.chunks(f)); diff != "" {
				t.Errorf("%s: %s", what, diff)
			}
		}
		ask := func(what string, flags, typ uint16, off, n uint64, errno uint32) {
			t.Helper()
			cl.send(f.ask(flags, typ, 7, off, n))
			want(what, errno)
		}
		ask("cache", 0, cmdCache, 4096, 8192, 0)
		ask("cache past the end", 0, cmdCache, 8<<20, 1, einval)
		ask("fast", cmdFlagFastZero, cmdWriteZeroes, 4096, 4096, 0)
		ask("not fast", cmdFlagFastZero|cmdFlagNoHole, cmdWriteZeroes, 0, 4096, errnoNotSup)
		ask("no hole", cmdFlagNoHole|cmdFlagFUA, cmdWriteZeroes, 4096, 4096, 0)
		ask("trim", 0, cmdTrim, 4096, 4096, 0)
		ask("fast trim", cmdFlagFastZero, cmdTrim, 0, 4096, einval)
		ask("flush", 0, cmdFlush, 0, 0, 0)
		ask("resize", 0, 8, 0, 16<<20, einval)
		ask("unknown", 0, 0xffff, 0, 0, einval)
		ask("zero of everything there is", 0, cmdWriteZeroes, 1, 1<<32-1, errnoNoSpc)
		if diff := cmp.Diff([]string{"fast", "no hole", "zero"}, d.zeros); diff != "" {
			t.Error(diff)
		}
		if got := receive(t, d.cache); got != [2]int64{4096, 8192} {
			t.Errorf("%v are cached", got)
		}
		if f == extended { // payloads where none belongs are taken off the wire
			cl.send(f.ask(cmdFlagPayloadLen, cmdRead, 7, 0, 5), []byte("12345"))
			want("read with a payload", einval)
			cl.send(f.ask(cmdFlagPayloadLen, cmdWrite, 7, 0, 5), []byte("12345"))
			want("write", 0)
			ask("zero of 2^63", 0, cmdWriteZeroes, 1, 1<<63, errnoNoSpc)
		}
	})
}

func TestExtendedPayloadTooLong(t *testing.T) {
	for _, typ := range []uint16{cmdRead, cmdWrite, 77} {
		h, _ := holedShelf()
		cl := serve(t, h, Limits{})()
		cl.choose(extended, "x")
		cl.send(extended.ask(cmdFlagPayloadLen, typ, 1, 0, 1<<63))
		cl.wantClosed()
	}
}

func TestMetaOptions(t *testing.T) {
	listed, set := optReply{4, "\x00\x00\x00\x00" + baseAllocation}, optReply{4, "\x00\x00\x00\x01" + baseAllocation}
	sums := []optReply{{repErrInvalid, "the lengths inside the option do not add up"}}
	unknown := []optReply{{1<<31 | 6, "no such export for this client"}}
	for name, c := range map[string]struct {
		id   uint32
		data []byte
		want []optReply
	}{
		"list all":              {9, metaData("ro"), []optReply{listed, {ack, ""}}},
		"list a namespace":      {9, metaData("ro", "base:"), []optReply{listed, {ack, ""}}},
		"list others":           {9, metaData("ro", "qemu:", "base:x"), []optReply{{ack, ""}}},
		"set":                   {10, metaData("ro", "qemu:x", baseAllocation, baseAllocation), []optReply{set, {ack, ""}}},
		"set nothing":           {10, metaData("ro"), []optReply{{ack, ""}}},
		"unknown":               {9, metaData("zzz"), unknown},
		"forbidden":             {10, metaData("secret", baseAllocation), unknown},
		"no namespace":          {10, metaData("ro", "allocation"), sums},
		"no data":               {10, nil, sums},
		"name of 4 GiB":         {10, be(uint32(0xffffffff), uint32(0)), sums},
		"2^32-1 queries":        {9, append(be(uint32(2)), append([]byte("ro"), be(uint32(0xffffffff))...)...), sums},
		"query of 4 GiB":        {9, append(be(uint32(2)), append([]byte("ro"), be(uint32(1), uint32(0xffffffff))...)...), sums},
		"a byte more":           {9, append(metaData("ro"), 0), sums},
		"too long":              {10, make([]byte, 20<<10), []optReply{{repErrTooBig, "more than a name and what can be asked about it"}}},
		"structured again":      {8, nil, []optReply{{repErrInvalid, "negotiated already"}}},
		"structured with data":  {8, []byte{1}, []optReply{{repErrInvalid, "the option takes no data"}}},
		"extended with data":    {11, []byte{1}, []optReply{{repErrInvalid, "the option takes no data"}}},
		"starttls without any":  {5, nil, []optReply{{1<<31 | 1, ""}}},
		"info of the new flags": {6, infoData("ro"), []optReply{{3, string(be(uint16(0), uint64(1<<20), uint16(1|2|1<<7|1<<8|1<<10)))}, {ack, ""}}},
		"and of a writable one": {6, infoData("rw"), []optReply{{3, string(be(uint16(0), uint64(8<<20), uint16(1|4|8|1<<5|1<<6|1<<7|1<<10|1<<11)))}, {ack, ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			cl := serve(t, testShelf(), Limits{})()
			cl.greet(3)
			cl.send(option(8, nil))
			cl.replies(8)
			cl.send(option(c.id, c.data))
			if diff := cmp.Diff(c.want, cl.replies(c.id)); diff != "" {
				t.Fatal(diff)
			}
			cl.send(option(11, nil))
			if r := cl.replies(11); r[0].Type != ack {
				t.Fatalf("EXTENDED_HEADERS: %+v", r)
			}
			cl.send(option(8, nil))
			if r := cl.replies(8); r[0].Type != repErrExtHeaderReqd {
				t.Fatalf("STRUCTURED_REPLY after it: %+v", r)
			}
		})
	}
}
