package cow

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
	"os"
	"slices"
)

// form is how a bitmap stands in its file. Block n is bit n%8 of byte n/8; a checked form
// has 4 bytes after every 4 of these, their CRC-32C, little-endian, which begins with the
// seed of the file and the place in it. So
//
//   - every 8 bytes prove themselves: a cut that leaves some of them old and some new, on
//     disk (sectors) or in the page cache (kill -9), is no damage;
//   - what is written with a block's bits has their proof in it, at no further call;
//   - a file that was zeroed, or is another overlay's, or was the other bitmap, is damage.
type form struct {
	checked bool
	seed    uint32
}

// formOf gives the form of a bitmap's file in an overlay of that version.
func formOf(version int, rec Record, name string) form {
	if version < versionChecked {
		return form{}
	}
	return form{checked: true, seed: checksum(fmt.Appendf(nil, "%s\n%s\n%s\n%d", name, rec.Key, rec.Base.Digest, rec.Created.UnixNano()))}
}

// unit is how many bytes of file 64 blocks have.
func (f form) unit() int64 {
	if f.checked {
		return 16
	}
	return 8
}

// bytes gives the size of the file.
func (f form) bytes(m *bitmap) int64 { return int64(len(m.words)) * f.unit() }

// pages gives how many pages the file has; the last may be short.
func (f form) pages(m *bitmap) int64 { return (f.bytes(m) + pageSize - 1) / pageSize }

// pieceOf gives the last block of the piece that a block's bits are in. A piece is so many
// pages that one call is well used, and so few that they are nothing to hold in memory.
func (f form) pieceOf(block int64) (last int64) {
	n := int64(pieceSize) / f.unit() * 64
	return (block/n+1)*n - 1
}

// append adds word w of a bitmap with that value.
func (f form) append(b []byte, w int64, v uint64) []byte {
	if !f.checked {
		return binary.LittleEndian.AppendUint64(b, v)
	}
	for half := range int64(2) {
		b = binary.LittleEndian.AppendUint32(b, uint32(v>>(32*half)))
		b = binary.LittleEndian.AppendUint32(b, f.check(2*w+half, b[len(b)-4:]))
	}
	return b
}

// check gives the proof of 4 bytes. Two places, and two seeds, never have the same one for
// the same bits: a CRC maps its states one to one.
func (f form) check(at int64, b []byte) uint32 {
	return crc32.Update(f.seed^uint32(at), castagnoli(), b)
}

// value undoes append.
func (f form) value(b []byte, w int64) (v uint64, sound bool) {
	if !f.checked {
		return binary.LittleEndian.Uint64(b), true
	}
	for half := range int64(2) {
		p := b[8*half:]
		if binary.LittleEndian.Uint32(p[4:]) != f.check(2*w+half, p[:4]) {
			return 0, false
		}
		v |= uint64(binary.LittleEndian.Uint32(p)) << (32 * half)
	}
	return v, true
}

// with adds to b the file form of the words that blocks first to last touch, as it will be
// once they are set, and says where in the file it goes.
func (f form) with(b []byte, m *bitmap, first, last int64) (_ []byte, off int64) {
	b = slices.Grow(b, int((last/64-first/64+1)*f.unit()))
	for w := first / 64; w <= last/64; w++ {
		b = f.append(b, w, m.words[w].Load()|mask(w, first, last))
	}
	return b, first / 64 * f.unit()
}

// add makes the blocks present that are so in b, which was read from the file at off.
func (f form) add(m *bitmap, b []byte, off int64) {
	for w := off / f.unit(); int64(len(b)) >= f.unit(); w, b = w+1, b[f.unit():] {
		if v, sound := f.value(b, w); sound {
			m.or(w, v)
		}
	}
}

// page gives one page of the file.
func (f form) page(m *bitmap, i int64) []byte {
	words := pageSize / f.unit()
	b := make([]byte, 0, pageSize)
	for w := i * words; w < min((i+1)*words, int64(len(m.words))); w++ {
		b = f.append(b, w, m.words[w].Load())
	}
	return b
}

// write writes the whole file.
func (f form) write(to *os.File, m *bitmap) error {
	for i := range f.pages(m) {
		if _, err := to.WriteAt(f.page(m, i), i*pageSize); err != nil {
			return err
		}
	}
	return nil
}

// pieceSize is how many bytes of a file are read or marked at once: whole pages.
const pieceSize = 16 * pageSize

// load takes the bits of a file. What cannot have been written, bits beyond the last block
// too, is ErrDamaged.
func (f form) load(m *bitmap, from *os.File, blocks int64) error {
	st, err := from.Stat()
	if err != nil {
		return err
	}
	size := f.bytes(m)
	if st.Size() != size {
		return fmt.Errorf("%w: %s: %d bytes, want %d", ErrDamaged, from.Name(), st.Size(), size)
	}
	n, buf := int64(0), make([]byte, min(size, pieceSize))
	for at := int64(0); at < size; at += int64(len(buf)) {
		b := buf[:min(int64(len(buf)), size-at)] // the last piece is shorter
		if _, err := from.ReadAt(b, at); err != nil {
			return fmt.Errorf("%s: %w", from.Name(), err)
		}
		for w := at / f.unit(); len(b) > 0; w, b = w+1, b[f.unit():] {
			v, sound := f.value(b, w)
			if !sound {
				return fmt.Errorf("%w: %s: the checksum of blocks %d to %d does not match", ErrDamaged, from.Name(), w*64, w*64+63)
			}
			if last := blocks - 1 - w*64; last < 63 && v>>(last+1) != 0 {
				return fmt.Errorf("%w: %s: blocks beyond the end", ErrDamaged, from.Name())
			}
			if v != 0 { // memory that is all zeros is not touched
				m.words[w].Store(v)
				n += int64(bits.OnesCount64(v))
			}
		}
	}
	m.n.Store(n)
	return nil
}
