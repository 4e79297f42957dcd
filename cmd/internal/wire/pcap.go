package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// ErrFormat means that a file is not a capture that this package reads.
var ErrFormat = errors.New("not a readable capture")

// The classic format (pcap-savefile(5)): a file header of 24 bytes, then frames with
// a header of 16 bytes each, in the byte order of the machine that wrote them.
const (
	magicMicro    = 0xa1b2c3d4 // times in microseconds
	magicNano     = 0xa1b23c4d // times in nanoseconds
	magicNG       = 0x0a0d0d0a // pcapng, another format; reads so in both byte orders
	fileHeader    = 24
	frameHeader   = 16
	linkEthernet  = 1
	linkMask      = 0x0fffffff // the rest of the word tells about frame check sequences
	maxFrame      = 1 << 20    // bytes; tcpdump keeps at most 262144
	readAhead     = 128 << 10
	writeSnapshot = 256 << 10
)

// captured is one frame of a capture.
type captured struct {
	at   time.Time
	data []byte // valid until the next one is read
	size int    // on the wire; more than len(data) when the capture cut it
}

// frames reads the frames of a capture.
type frames struct {
	in    *bufio.Reader
	order binary.ByteOrder
	unit  time.Duration // of the fraction of a second
	buf   []byte
}

// newFrames reads the file header.
func newFrames(r io.Reader) (*frames, error) {
	f := &frames{in: bufio.NewReaderSize(r, readAhead)}
	var h [fileHeader]byte
	if _, err := io.ReadFull(f.in, h[:]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("%w: it ends within the file header", ErrFormat)
		}
		return nil, err
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch order.Uint32(h[0:]) {
		case magicMicro:
			f.order, f.unit = order, time.Microsecond
		case magicNano:
			f.order, f.unit = order, time.Nanosecond
		case magicNG:
			return nil, fmt.Errorf("%w: it is pcapng, not pcap", ErrFormat)
		}
	}
	if f.order == nil {
		return nil, fmt.Errorf("%w: no pcap magic number", ErrFormat)
	}
	if v := f.order.Uint16(h[4:]); v != 2 {
		return nil, fmt.Errorf("%w: pcap version %d", ErrFormat, v)
	}
	if link := f.order.Uint32(h[20:]) & linkMask; link != linkEthernet {
		return nil, fmt.Errorf("%w: link type %d is not Ethernet", ErrFormat, link)
	}
	return f, nil
}

// next gives the next frame, io.EOF behind the last, io.ErrUnexpectedEOF within one.
func (f *frames) next() (captured, error) {
	var h [frameHeader]byte
	if _, err := io.ReadFull(f.in, h[:]); err != nil {
		return captured{}, err
	}
	length, size := f.order.Uint32(h[8:]), f.order.Uint32(h[12:])
	if length > maxFrame {
		return captured{}, fmt.Errorf("%w: a frame of %d bytes", ErrFormat, length)
	}
	if int(length) > cap(f.buf) {
		f.buf = make([]byte, max(length, 64<<10))
	}
	f.buf = f.buf[:length]
	if _, err := io.ReadFull(f.in, f.buf); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return captured{}, err
	}
	at := time.Unix(int64(f.order.Uint32(h[0:])), int64(f.order.Uint32(h[4:]))*int64(f.unit))
	return captured{at: at, data: f.buf, size: int(min(size, 1<<30))}, nil
}

// Writer writes a capture of Ethernet frames with times in nanoseconds. It does not
// buffer.
type Writer struct{ out io.Writer }

// NewWriter writes the file header.
func NewWriter(out io.Writer) (*Writer, error) {
	h := binary.LittleEndian.AppendUint32(nil, magicNano)
	h = binary.LittleEndian.AppendUint16(h, 2)
	h = binary.LittleEndian.AppendUint16(h, 4)
	h = append(h, make([]byte, 8)...) // time zone and accuracy: always zero
	h = binary.LittleEndian.AppendUint32(h, writeSnapshot)
	h = binary.LittleEndian.AppendUint32(h, linkEthernet)
	if _, err := out.Write(h); err != nil {
		return nil, err
	}
	return &Writer{out}, nil
}

// Write appends one frame: when it came, its bytes (at most 1 MiB), and its size on
// the wire, which is more than their number when they are only its beginning.
func (w *Writer) Write(at time.Time, frame []byte, size int) error {
	if len(frame) > maxFrame {
		return fmt.Errorf("frame of %d bytes", len(frame))
	}
	h := make([]byte, 0, frameHeader)
	h = binary.LittleEndian.AppendUint32(h, uint32(at.Unix()))
	h = binary.LittleEndian.AppendUint32(h, uint32(at.Nanosecond()))
	h = binary.LittleEndian.AppendUint32(h, uint32(len(frame)))
	h = binary.LittleEndian.AppendUint32(h, uint32(max(size, len(frame))))
	if _, err := w.out.Write(h); err != nil {
		return err
	}
	_, err := w.out.Write(frame)
	return err
}
