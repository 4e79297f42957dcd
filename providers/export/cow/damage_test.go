package cow

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// written makes an overlay over 40,000 blocks, of which some were written and flushed, and
// gives the files' folder and what the disk reads like.
func written(t *testing.T, dir, boot string, size int) (base []byte, b Base, want []byte) {
	t.Helper()
	base, b = testBase(3, size)
	want = bytes.Clone(base)
	o := openOverlay(t, openStore(t, dir, boot), base, b)
	defer o.Close()
	r := rand.New(rand.NewPCG(3, 3))
	for range 60 {
		off := r.IntN(size/BlockSize) * BlockSize
		p := bytes.Repeat([]byte{byte(r.IntN(255) + 1)}, min(BlockSize, size-off))
		copy(want[off:], p)
		_, err := o.WriteAt(p, int64(off))
		must(t, err)
	}
	must(t, o.Sync())
	return base, b, want
}

// Damage of the bitmaps gave zeros, or the base, for what was written and flushed. Now such
// an overlay is refused, or reads as it was written.
func TestDamagedBitmaps(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	size := 3000*BlockSize + 77
	damages := map[string]func(b []byte) []byte{
		"random":   func(b []byte) []byte { out := bytes.Clone(b); fillRandom(r, out); return out },
		"zeros":    func(b []byte) []byte { return make([]byte, len(b)) },
		"ones":     func(b []byte) []byte { return bytes.Repeat([]byte{0xff}, len(b)) },
		"one bit":  func(b []byte) []byte { out := bytes.Clone(b); out[r.IntN(len(b))] ^= 1 << r.IntN(8); return out },
		"a sector": func(b []byte) []byte { out := bytes.Clone(b); clear(out[:512]); return out },
		"moved":    func(b []byte) []byte { return append(bytes.Clone(b[16:]), b[:16]...) },
		"shorter":  func(b []byte) []byte { return b[:len(b)-8] },
		"empty":    func(b []byte) []byte { return nil },
		"longer":   func(b []byte) []byte { return append(bytes.Clone(b), 0) },
	}
	for name, damage := range damages {
		for file, boot := range map[string]string{liveFile: "same", flushedFile: "other"} {
			t.Run(file+" "+name, func(t *testing.T) {
				dir := t.TempDir()
				base, b, _ := written(t, dir, "same", size)
				path := filepath.Join(dir, testKey.String(), file)
				was, err := os.ReadFile(path)
				must(t, err)
				must(t, os.WriteFile(path, damage(was), 0o600))
				if o, err := openStore(t, dir, boot).Open(testKey, b, bytes.NewReader(base), nil); !errors.Is(err, ErrDamaged) {
					t.Errorf("Open: %v", err)
					if err == nil {
						o.Close()
					}
				}
				if file == flushedFile { // it is told before it counts
					if _, err := openStore(t, dir, "same").Open(testKey, b, bytes.NewReader(base), nil); !errors.Is(err, ErrDamaged) {
						t.Errorf("Open before a power cut: %v", err)
					}
				}
			})
		}
	}
}

func fillRandom(r *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

// Bitmaps of an overlay that had the same key before, or each other's, are not believed.
func TestBitmapsOfOthers(t *testing.T) {
	const size = 500 * BlockSize
	dir := t.TempDir()
	at := time.Unix(1000, 0)
	base, b := testBase(3, size)
	open := func() (*Overlay, error) {
		at = at.Add(time.Second)
		s, err := OpenStore(dir, Config{BootID: "k", Now: func() time.Time { return at }})
		must(t, err)
		return s.Open(testKey, b, bytes.NewReader(base), nil)
	}
	o, err := open()
	must(t, err)
	o.Close()
	live, flushed := filepath.Join(dir, testKey.String(), liveFile), filepath.Join(dir, testKey.String(), flushedFile)
	former, err := os.ReadFile(live)
	must(t, err)
	must(t, openStore(t, dir, "k").Remove(testKey))
	o, err = open()
	must(t, err)
	o.Close()
	other, err := os.ReadFile(flushed)
	must(t, err)
	mine, err := os.ReadFile(live)
	must(t, err)
	for what, bits := range map[string][]byte{"a former overlay's": former, "flushed": other} {
		must(t, os.WriteFile(live, bits, 0o600))
		if _, err := open(); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, os.WriteFile(live, mine, 0o600))
	if o, err = open(); err != nil {
		t.Fatal(err)
	}
	o.Close()
}

// A power cut leaves of the pages that a Sync was writing any sectors, old or new. That is
// no damage, and no block of a Sync before is lost.
func TestTornFlushIsNoDamage(t *testing.T) {
	const size = 3000*BlockSize + 77
	dir := t.TempDir()
	base, b, want := written(t, dir, "0", size)
	path := filepath.Join(dir, testKey.String(), flushedFile)
	before, err := os.ReadFile(path)
	must(t, err)
	o := openOverlay(t, openStore(t, dir, "0"), base, b)
	fresh := make([]bool, size/BlockSize+1)
	for i := 0; i < size/BlockSize; i += 3 {
		fresh[i] = true
		_, err := o.WriteAt(bytes.Repeat([]byte{'n'}, BlockSize), int64(i)*BlockSize)
		must(t, err)
	}
	must(t, o.Sync())
	o.Close()
	after, err := os.ReadFile(path)
	must(t, err)
	for n := range 20 {
		r := rand.New(rand.NewPCG(uint64(n), 0))
		torn := bytes.Clone(before)
		for at := 0; at < len(torn); at += 512 {
			if end := min(at+512, len(torn)); r.IntN(2) == 0 {
				copy(torn[at:end], after[at:end])
			}
		}
		must(t, os.WriteFile(path, torn, 0o600))
		o := openOverlay(t, openStore(t, dir, fmt.Sprint("cut ", n)), base, b)
		got := make([]byte, size)
		_, err := o.ReadAt(got, 0)
		must(t, err)
		for i := range fresh {
			end := min((i+1)*BlockSize, size)
			if block := got[i*BlockSize : end]; !fresh[i] && !bytes.Equal(block, want[i*BlockSize:end]) {
				t.Fatalf("block %d is neither old nor new", i)
			}
		}
		o.Close()
	}
}

// Data that is shorter than it was flushed is damage, and not an overlay without a Sync.
func TestDataThatWasFlushedIsAsLong(t *testing.T) {
	for _, boot := range []string{"same", "other"} {
		dir := t.TempDir()
		base, b, _ := written(t, dir, "same", 100*BlockSize)
		must(t, os.Truncate(filepath.Join(dir, testKey.String(), dataFile), 50*BlockSize))
		if _, err := openStore(t, dir, boot).Open(testKey, b, bytes.NewReader(base), nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s boot: %v", boot, err)
		}
	}
}

// makePlain makes an empty overlay as it was before bitmaps had checksums.
func makePlain(t *testing.T, dir, boot string, b Base) {
	t.Helper()
	path := filepath.Join(dir, testKey.String())
	must(t, os.MkdirAll(path, 0o700))
	d := openTestFolder(t, path)
	rec := Record{Key: testKey, Base: b, Created: time.Unix(1, 0).UTC(), ServerBoot: boot}
	must(t, makeFiles(d, rec, 1))
	must(t, writeRecord(d, rec, 1))
}

// Overlays without checksums are read and written on as they were, and hold flushed
// against live.
func TestOverlayWithoutChecksums(t *testing.T) {
	dir := t.TempDir()
	base, b := testBase(5, 300*BlockSize)
	makePlain(t, dir, "0", b)
	path := filepath.Join(dir, testKey.String())
	model := bytes.Clone(base)
	for n, boot := range []string{"0", "0", "1", "1", "2"} {
		s := openStore(t, dir, boot)
		o := openOverlay(t, s, base, b)
		wantContent(t, o, model, boot)
		p := bytes.Repeat([]byte{byte('a' + n)}, 3*BlockSize)
		copy(model[n*50*BlockSize+9:], p)
		_, err := o.WriteAt(p, int64(n)*50*BlockSize+9)
		must(t, err)
		must(t, o.Sync())
		o.Close()
		s.Note(testKey, "n", boot)
		must(t, s.Sweep())
	}
	for _, file := range []string{liveFile, flushedFile} {
		got, err := os.ReadFile(filepath.Join(path, file))
		must(t, err)
		if len(got) != 40 || got[0] != 0x0f {
			t.Errorf("%s: %x", file, got)
		}
	}
	must(t, os.WriteFile(filepath.Join(path, liveFile), make([]byte, 40), 0o600))
	if _, err := openStore(t, dir, "2").Open(testKey, b, bytes.NewReader(base), nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("with nothing live that is flushed: %v", err)
	}
	// After a power cut before its first sync all may be empty.
	dir = t.TempDir()
	makePlain(t, dir, "0", b)
	for _, file := range []string{dataFile, liveFile, flushedFile} {
		must(t, os.Truncate(filepath.Join(dir, testKey.String(), file), 0))
	}
	o := openOverlay(t, openStore(t, dir, "1"), base, b)
	defer o.Close()
	wantContent(t, o, base, "after the power cut")
}

// FuzzLoadBitmap has bitmaps of up to three pieces read, whose file has other bytes in one
// place. What is accepted is what would be written.
func FuzzLoadBitmap(f *testing.F) {
	const most = 3 * pieceSize / 8 * 64 // blocks
	rec := Record{Key: testKey, Base: Base{Digest: "sha256:0", Size: BlockSize}}
	m := newBitmap(700)
	m.set(3, 90)
	for version := 1; version <= recordVersion; version++ {
		f.Add(uint32(699), uint32(3), uint32(90), formOf(version, rec, liveFile).page(m, 0), uint32(0), version == 1)
		for _, blocks := range []uint32{most / 6, most/6 + 1, most/3 + 64, most/2 + 777, most/3*2 + 1, most - 64} {
			f.Add(blocks-1, blocks-70, blocks-2, []byte(nil), uint32(0), version == 1)
			f.Add(blocks-1, blocks/2, blocks-1, []byte{255}, uint32(pieceSize), version == 1)
		}
	}
	f.Fuzz(func(t *testing.T, blocks, first, last uint32, b []byte, at uint32, plain bool) {
		version := recordVersion
		if plain {
			version = 1
		}
		n := int64(blocks%most) + 1
		form, want := formOf(version, rec, liveFile), newBitmap(n)
		if from, to := int64(first)%n, int64(last)%n; from <= to {
			want.set(from, to)
		}
		file, err := os.CreateTemp(t.TempDir(), "bits")
		must(t, err)
		defer file.Close()
		must(t, form.write(file, want))
		size := form.bytes(want)
		off := int64(at) % size
		b = b[:min(int64(len(b)), size-off)]
		_, err = file.WriteAt(b, off)
		must(t, err)
		stands, err := os.ReadFile(file.Name())
		must(t, err)
		got := newBitmap(n)
		if err := form.load(got, file, n); err != nil {
			if len(b) == 0 {
				t.Errorf("%d blocks: refused what it wrote: %v", n, err)
			}
			return
		}
		must(t, form.write(file, got))
		again, err := os.ReadFile(file.Name())
		must(t, err)
		if !bytes.Equal(again, stands) {
			t.Errorf("%d blocks: accepted what it would not write", n)
		}
	})
}
