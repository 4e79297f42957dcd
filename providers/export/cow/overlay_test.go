package cow

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/pojntfx/go-nbd/pkg/backend"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

var _ backend.Backend = (*Overlay)(nil)

var testKey = Key{Machine: "52-54-00-00-00-01", Instance: "boot-1", Export: "arch"}

// testBase makes random bytes that end in the middle of a block.
func testBase(seed uint64, size int) ([]byte, Base) {
	r := rand.NewChaCha8([32]byte{byte(seed)})
	b := make([]byte, size)
	r.Read(b)
	return b, Base{Digest: fmt.Sprintf("sha256:%064x", seed), Size: int64(size)}
}

func openStore(t testing.TB, dir, boot string) *Store {
	t.Helper()
	s, err := OpenStore(dir, Config{BootID: boot})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openOverlay(t testing.TB, s *Store, base []byte, b Base) *Overlay {
	t.Helper()
	o, err := s.Open(testKey, b, bytes.NewReader(base), nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func wantContent(t testing.TB, o *Overlay, want []byte, when string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := o.ReadAt(got, 0); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%s: byte %d (block %d) is %#x, want %#x", when, i, i/BlockSize, got[i], want[i])
		}
	}
}

// Random reads, writes, zeros and syncs of any alignment against a byte slice,
// with the process killed (nothing closed) and the server rebooted after a sync
// in between.
func TestOverlayIsADisk(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			const size = 300*BlockSize + 1234
			base, b := testBase(seed, size)
			model := bytes.Clone(base)
			dir, boot := t.TempDir(), 0
			o := openOverlay(t, openStore(t, dir, "0"), base, b)
			r := rand.New(rand.NewPCG(seed, 1))
			for range 1500 {
				off := r.IntN(size + 1)
				if r.IntN(2) == 0 {
					off = off / 512 * 512
				}
				n := min(r.IntN(1<<r.IntN(17)), size-off)
				switch r.IntN(20) {
				case 0:
					if err := o.Sync(); err != nil {
						t.Fatal(err)
					}
				case 1: // killed: whatever was written is in the page cache
					o = openOverlay(t, openStore(t, dir, fmt.Sprint(boot)), base, b)
				case 2: // an orderly power cut
					if err := o.Sync(); err != nil {
						t.Fatal(err)
					}
					boot++
					o = openOverlay(t, openStore(t, dir, fmt.Sprint(boot)), base, b)
				case 3, 4, 5:
					if err := o.Zero(int64(off), int64(n)); err != nil {
						t.Fatal(err)
					}
					clear(model[off : off+n])
				case 6, 7, 8, 9, 10, 11:
					got := make([]byte, n)
					if _, err := o.ReadAt(got, int64(off)); err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(got, model[off:off+n]) {
						t.Fatalf("reading %d bytes at %d: wrong bytes", n, off)
					}
				default:
					for i := range n {
						model[off+i] = byte(r.Uint32())
					}
					if _, err := o.WriteAt(model[off:off+n], int64(off)); err != nil {
						t.Fatal(err)
					}
				}
			}
			wantContent(t, o, model, "at the end")
		})
	}
}

// A power cut leaves of unsynced writes what it likes; of synced ones, all. What
// it likes is played here by the worst there is: the live bitmap claims every block, and unsynced
// data is gone.
func TestPowerCutNeverShowsZerosThatNobodyWrote(t *testing.T) {
	const blocks = 70
	base, b := testBase(7, blocks*BlockSize)
	dir := t.TempDir()
	o := openOverlay(t, openStore(t, dir, "before"), base, b)
	model := bytes.Clone(base)
	write := func(block int, fill byte, keep bool) {
		p := bytes.Repeat([]byte{fill}, BlockSize)
		if _, err := o.WriteAt(p, int64(block)*BlockSize); err != nil {
			t.Fatal(err)
		}
		if keep {
			copy(model[block*BlockSize:], p)
		}
	}
	write(3, 'a', true)
	write(65, 'b', true)
	if err := o.Sync(); err != nil {
		t.Fatal(err)
	}
	write(4, 'c', false)
	write(66, 'd', false)

	folder := filepath.Join(dir, testKey.String())
	if err := os.WriteFile(filepath.Join(folder, liveFile), bytes.Repeat([]byte{0xff}, 16), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, block := range []int64{4, 66} {
		if _, err := zeros(o.data, block*BlockSize, BlockSize, false, false); err != nil {
			t.Fatal(err)
		}
	}
	o = openOverlay(t, openStore(t, dir, "after"), base, b)
	wantContent(t, o, model, "after the power cut")

	// And what is written from then on is live again.
	write(4, 'e', true)
	o = openOverlay(t, openStore(t, dir, "after"), base, b)
	wantContent(t, o, model, "killed after the power cut")
}

// Before its first sync an overlay's files may be empty after a power cut.
func TestPowerCutBeforeTheFirstSync(t *testing.T) {
	base, b := testBase(8, 9*BlockSize)
	dir := t.TempDir()
	o := openOverlay(t, openStore(t, dir, "before"), base, b)
	if _, err := o.WriteAt([]byte("lost"), 5); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{dataFile, liveFile} {
		if err := os.Truncate(filepath.Join(dir, testKey.String(), f), 0); err != nil {
			t.Fatal(err)
		}
	}
	o = openOverlay(t, openStore(t, dir, "after"), base, b)
	wantContent(t, o, base, "after the power cut")
}

// A bit must not be in flushed before a Sync, whatever else happens.
func TestFlushedSpeaksOnlyOfSyncedBlocks(t *testing.T) {
	base, b := testBase(9, 200*BlockSize)
	dir := t.TempDir()
	o := openOverlay(t, openStore(t, dir, "x"), base, b)
	defer o.Close()
	flushed := func() *bitmap {
		m := newBitmap(200)
		if err := o.flushedForm.load(m, o.flushed, 200); err != nil {
			t.Fatal(err)
		}
		return m
	}
	if _, err := o.WriteAt(make([]byte, BlockSize), 9*BlockSize); err != nil {
		t.Fatal(err)
	}
	if n := flushed().n.Load(); n != 0 {
		t.Fatalf("before Sync: %d blocks", n)
	}
	if err := o.Sync(); err != nil {
		t.Fatal(err)
	}
	if m := flushed(); m.n.Load() != 1 || !m.has(9) {
		t.Fatalf("after Sync: %d blocks, block 9 %t", m.n.Load(), m.has(9))
	}
}

// Two writers of halves of the same block, neither of which is present, both count.
func TestConcurrentHalfBlocks(t *testing.T) {
	const blocks = 256
	base, b := testBase(10, blocks*BlockSize)
	o := openOverlay(t, openStore(t, t.TempDir(), "x"), base, b)
	defer o.Close()
	var wg sync.WaitGroup
	for half := range 2 {
		wg.Go(func() {
			p := bytes.Repeat([]byte{byte('0' + half)}, BlockSize/2)
			for i := range blocks {
				if _, err := o.WriteAt(p, int64(i*BlockSize+half*BlockSize/2)); err != nil {
					t.Error(err)
				}
				if i%64 == 0 {
					if err := o.Sync(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	want := bytes.Repeat(append(bytes.Repeat([]byte{'0'}, BlockSize/2), bytes.Repeat([]byte{'1'}, BlockSize/2)...), blocks)
	wantContent(t, o, want, "both halves")
	if got := o.Written(); got != blocks*BlockSize {
		t.Errorf("Written() = %d, want %d", got, blocks*BlockSize)
	}
}

func TestOutsideIsAnError(t *testing.T) {
	base, b := testBase(11, 3*BlockSize)
	o := openOverlay(t, openStore(t, t.TempDir(), "x"), base, b)
	defer o.Close()
	for _, c := range []struct{ off, n int64 }{{-1, 1}, {3 * BlockSize, 1}, {3*BlockSize - 1, 2}, {1 << 62, 1}} {
		if _, err := o.ReadAt(make([]byte, c.n), c.off); err == nil {
			t.Errorf("ReadAt(%d bytes, %d) gave no error", c.n, c.off)
		}
		if _, err := o.WriteAt(make([]byte, c.n), c.off); err == nil {
			t.Errorf("WriteAt(%d bytes, %d) gave no error", c.n, c.off)
		}
		if err := o.Zero(c.off, c.n); err == nil {
			t.Errorf("Zero(%d, %d) gave no error", c.off, c.n)
		}
	}
}

// A full disk fails the write, with ENOSPC, and changes nothing else.
func TestFullDisk(t *testing.T) {
	providertest.NeedRoot(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	const blocks = 200
	base, b := testBase(12, blocks*BlockSize)
	model := bytes.Clone(base)
	o := openOverlay(t, openStore(t, dir, "x"), base, b)
	defer o.Close()
	full := false
	for i := range blocks {
		p := bytes.Repeat([]byte{'x'}, BlockSize)
		_, err := o.WriteAt(p, int64(i)*BlockSize)
		if err == nil {
			copy(model[i*BlockSize:], p)
			continue
		}
		full = true
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("block %d: %v, want ENOSPC", i, err)
		}
	}
	if !full {
		t.Fatal("the disk never got full")
	}
	wantContent(t, o, model, "on a full disk")
	if err := o.Sync(); err != nil {
		t.Fatal(err)
	}
}
