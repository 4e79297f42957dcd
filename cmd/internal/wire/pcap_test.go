package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"
)

func TestCaptureFilesOfOtherWriters(t *testing.T) {
	at := time.Unix(1700000000, 123456000)
	for name, c := range map[string]struct {
		order binary.AppendByteOrder
		magic uint32
		frac  uint32
	}{
		"little endian, microseconds": {binary.LittleEndian, magicMicro, 123456},
		"big endian, microseconds":    {binary.BigEndian, magicMicro, 123456},
		"little endian, nanoseconds":  {binary.LittleEndian, magicNano, 123456000},
		"big endian, nanoseconds":     {binary.BigEndian, magicNano, 123456000},
	} {
		t.Run(name, func(t *testing.T) {
			b := c.order.AppendUint32(nil, c.magic)
			b = c.order.AppendUint16(b, 2)
			b = c.order.AppendUint16(b, 4)
			b = c.order.AppendUint32(b, 0)
			b = c.order.AppendUint32(b, 0)
			b = c.order.AppendUint32(b, 65535)
			b = c.order.AppendUint32(b, 1|0x50000000) // with a frame check sequence length
			for _, v := range []uint32{1700000000, c.frac, 3, 5} {
				b = c.order.AppendUint32(b, v)
			}
			b = append(b, "abc"...)
			f, err := newFrames(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			got, err := f.next()
			if err != nil || !got.at.Equal(at) || string(got.data) != "abc" || got.size != 5 {
				t.Errorf("%+v, %v", got, err)
			}
			if _, err := f.next(); err != io.EOF {
				t.Errorf("behind the last frame: %v", err)
			}
		})
	}
}

func TestFilesThatAreNoCaptures(t *testing.T) {
	good := (&tape{frames: [][]byte{make([]byte, 60)}}).file(t)
	change := func(at int, b ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[at:], b)
		return c
	}
	for name, b := range map[string][]byte{
		"empty":         nil,
		"half a header": good[:20],
		"text":          []byte("#!ipxe\nkernel vmlinuz\ninitrd initrd.img\n"),
		"pcapng":        change(0, 0x0a, 0x0d, 0x0d, 0x0a),
		"version 3":     change(4, 3),
		"not Ethernet":  change(20, 101),
		"huge frame":    change(24+8, 0xff, 0xff, 0xff, 0x7f),
	} {
		if _, err := Read(bytes.NewReader(b)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A file that is being written ends anywhere.
	for cut := 24; cut < len(good); cut++ {
		got, err := Read(bytes.NewReader(good[:cut]))
		if err != nil || got.Frames != 0 || got.Unfinished != (cut > 24) {
			t.Fatalf("cut to %d: %+v, %v", cut, got, err)
		}
	}
	if got, err := Read(bytes.NewReader(good)); err != nil || got.Frames != 1 || got.Unfinished {
		t.Errorf("%+v, %v", got, err)
	}
	failed := errors.New("disk on fire")
	if _, err := Read(io.MultiReader(bytes.NewReader(good), errorReader{failed})); !errors.Is(err, failed) {
		t.Errorf("a reader that fails: %v", err)
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }
