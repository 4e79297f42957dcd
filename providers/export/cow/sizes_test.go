package cow

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// evenly is a base of one byte.
type evenly byte

func (e evenly) ReadAt(p []byte, _ int64) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// Bitmaps are read in pieces. The last, when it was shorter, was read from the wrong place:
// a fresh overlay over an image of 1300 MiB was refused as damaged, and one without
// checksums lost what was flushed. Every size around the ends of pieces, pages and words of
// them, of both forms: what is written is there after kill -9, after a reboot of the
// server, and after kill -9 again, and nothing else is.
func TestEverySizeIsReadAsItWasWritten(t *testing.T) {
	for version := 1; version <= recordVersion; version++ {
		form := formOf(version, Record{}, liveFile)
		word := int64(64 * BlockSize) // bytes of disk
		page, piece := pageSize/form.unit()*word, pieceSize/form.unit()*word
		var sizes []int64
		for n := range int64(4) {
			for _, more := range []int64{
				-word - 1, -word, -word + 1, -BlockSize, -1, 0, 1, BlockSize, BlockSize + 1, word - 1, word, word + 1,
				page, page + 1, 3*page - word, 276 << 20, 333<<20 + 77, 500<<20 - 1,
			} {
				if size := n*piece + more; size > 0 {
					sizes = append(sizes, size)
				}
			}
		}
		for _, size := range sizes {
			t.Run(fmt.Sprintf("version %d/%d", version, size), func(t *testing.T) { writeAndReopen(t, version, size, page, piece) })
		}
	}
}

func writeAndReopen(t *testing.T, version int, size, page, piece int64) {
	dir, b := t.TempDir(), Base{Digest: "sha256:0", Size: size}
	if version < recordVersion {
		makePlain(t, dir, "0", b)
	}
	var blocks []int64 // that are written
	for _, at := range []int64{0, page, size / 3, size - page, size - 1, size - 3*BlockSize, size / piece * piece, piece, 2 * piece, 3 * piece} {
		for _, at := range []int64{at - BlockSize, at, at + BlockSize} {
			if at >= 0 && at < size {
				blocks = append(blocks, at/BlockSize)
			}
		}
	}
	slices.Sort(blocks)
	blocks = slices.Compact(blocks)
	for n, boot := range []string{"0", "0", "1", "1"} {
		o, err := openStore(t, dir, boot).Open(testKey, b, evenly('b'), nil)
		must(t, err)
		for i, block := range blocks {
			p := make([]byte, min(BlockSize, size-block*BlockSize))
			if n == 0 {
				_, err := o.WriteAt([]byte{byte(i), 'w'}[:min(2, len(p))], block*BlockSize)
				must(t, err)
			}
			_, err := o.ReadAt(p, block*BlockSize)
			must(t, err)
			if p[0] != byte(i) || len(p) > 1 && p[1] != 'w' || len(p) > 2 && p[len(p)-1] != 'b' {
				t.Fatalf("open %d: block %d begins with %x", n, block, p[:min(2, len(p))])
			}
		}
		if got := o.present.n.Load(); got != int64(len(blocks)) {
			t.Errorf("open %d: %d blocks are present, want %d", n, got, len(blocks))
		}
		must(t, o.Sync())
		o.Close()
		for _, name := range []string{liveFile, flushedFile} {
			if st, err := os.Stat(filepath.Join(dir, testKey.String(), name)); err != nil || st.Size() != o.liveForm.bytes(o.present) {
				t.Errorf("open %d: %s: %v, %v", n, name, st.Size(), err)
			}
		}
	}
}
