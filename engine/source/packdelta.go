package source

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

var errDelta = errors.New("the pack has a delta that makes no sense")

// deltaSizes reads what a delta begins with: the sizes of its base and of the result;
// see gitformat-pack(5), "Deltified representation".
func deltaSizes(r io.ByteReader) (from, to int64, err error) {
	if from, err = deltaSize(r); err == nil {
		to, err = deltaSize(r)
	}
	return from, to, err
}

func deltaSize(r io.ByteReader) (int64, error) {
	var n int64
	for shift := 0; shift < 56; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, errDelta
		}
		n |= int64(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, errDelta
}

// patch follows the instructions of a delta: it writes the result, of size bytes.
func patch(w io.Writer, base io.ReaderAt, baseSize int64, r *bufio.Reader, size int64) error {
	var n int64
	for n < size {
		op, err := r.ReadByte()
		if err != nil || op == 0 {
			return errDelta
		}
		length := int64(op) // bytes that follow
		var from io.Reader = r
		if op >= 0x80 { // bytes of the base
			var offset int64
			length = 0
			for bit := range 7 {
				if op>>bit&1 == 0 {
					continue
				}
				b, err := r.ReadByte()
				if err != nil {
					return errDelta
				}
				if bit < 4 {
					offset |= int64(b) << (8 * bit)
				} else {
					length |= int64(b) << (8 * (bit - 4))
				}
			}
			if length == 0 {
				length = 0x10000
			}
			if offset+length > baseSize {
				return errDelta
			}
			from = io.NewSectionReader(base, offset, length)
		}
		if n += length; n > size {
			return errDelta
		}
		if _, err := io.CopyN(w, from, length); err != nil {
			if errors.Is(err, io.EOF) {
				return errDelta
			}
			return err
		}
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		return errDelta
	}
	return nil
}

// spool holds bytes in memory, or in a file without a name when they are many. It is
// written first and read then. packIndexer.release ends it.
type spool struct {
	p    *packIndexer
	mem  []byte
	file *os.File
	w    *bufio.Writer
	size int64
}

func (s *spool) Write(b []byte) (int, error) {
	s.size += int64(len(b))
	if s.file == nil && s.size <= largeObject {
		s.mem = append(s.mem, b...)
		return len(b), nil
	}
	if s.file == nil {
		if err := s.spill(); err != nil {
			return 0, err
		}
	}
	if s.p.spilled += int64(len(b)); s.p.spilled > maxSpill {
		return 0, fmt.Errorf("%w: unpacking what the fetch brings takes more than %d bytes", ErrLimit, int64(maxSpill))
	}
	return s.w.Write(b)
}

func (s *spool) spill() error {
	f, err := os.CreateTemp(s.p.scratch, "tmp_delta_")
	if err != nil {
		return err
	}
	s.file, s.w = f, bufio.NewWriterSize(f, 64<<10)
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	_, err = s.w.Write(s.mem)
	s.p.spilled += int64(len(s.mem))
	s.mem = nil
	return err
}

func (s *spool) done() error {
	if s.w == nil {
		return nil
	}
	return s.w.Flush()
}

func (s *spool) ReadAt(b []byte, at int64) (int, error) {
	if s.file != nil {
		return s.file.ReadAt(b, at)
	}
	if at < 0 || at > int64(len(s.mem)) {
		return 0, io.EOF
	}
	n := copy(b, s.mem[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (p *packIndexer) release(s *spool) {
	if s.file != nil {
		s.file.Close() // nothing of it is wanted any more
		p.spilled -= s.size
		s.file = nil
	}
	s.mem = nil
}

// patient ends reading when nobody waits for it any more.
type patient struct {
	ctx context.Context
	r   io.Reader
}

func (p *patient) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.r.Read(b)
}

// patientWriter does so for writing.
type patientWriter struct {
	ctx context.Context
	w   io.Writer
}

func (p *patientWriter) Write(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.w.Write(b)
}
