package cow

import (
	"bytes"
	"os"
	"testing"
)

// coldBase is a base whose blocks are in memory once they were fetched.
type coldBase struct {
	*bytes.Reader
	hot map[int64]bool
}

func (b coldBase) Lend(off int64, n int) ([]byte, *os.File) {
	if !b.hot[off/BlockSize] {
		return nil, nil
	}
	return make([]byte, min(int64(n), BlockSize-off%BlockSize)), nil
}

func (b coldBase) Fetch(off, n int64) error {
	for block := off / BlockSize; block <= (off+n-1)/BlockSize; block++ {
		b.hot[block] = true
	}
	return nil
}

// A write waits for a disk where it leaves a part of a block that is the base's and not in
// memory, and no more once that was fetched, or is there, or is its own.
func TestWriteWaits(t *testing.T) {
	const size = 20*BlockSize + 700
	base, b := testBase(1, size)
	cold := coldBase{bytes.NewReader(base), map[int64]bool{}}
	s := openStore(t, t.TempDir(), "k")
	o, err := s.Open(testKey, b, cold, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for _, c := range []struct {
		name   string
		off, n int64
		want   []int64 // the blocks that are fetched
	}{
		{"nothing", 5, 0, nil},
		{"a block", BlockSize, BlockSize, nil},
		{"blocks to the end, which is within one", 18 * BlockSize, size - 18*BlockSize, nil},
		{"a part of one", BlockSize + 5, 10, []int64{1}},
		{"parts of two with one between", 3*BlockSize + 1, 2 * BlockSize, []int64{3, 5}},
		{"a part of the last", size - 3, 2, []int64{20}},
		{"beyond the end", size - 3, 4, nil},
	} {
		clear(cold.hot)
		if got := o.WriteWaits(c.off, c.n); got != (c.want != nil) {
			t.Errorf("%s: it waits: %v", c.name, got)
		}
		if c.want == nil {
			continue
		}
		if err := o.FetchForWrite(c.off, c.n); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if len(cold.hot) != len(c.want) {
			t.Errorf("%s: %v are fetched", c.name, cold.hot)
		}
		for _, block := range c.want {
			if !cold.hot[block] {
				t.Errorf("%s: %d is not fetched", c.name, block)
			}
		}
		if o.WriteWaits(c.off, c.n) {
			t.Errorf("%s: it waits for what was fetched", c.name)
		}
	}
	clear(cold.hot)
	if _, err := o.WriteAt([]byte("a part"), 7*BlockSize+9); err != nil {
		t.Fatal(err)
	}
	if o.WriteWaits(7*BlockSize+99, 9) {
		t.Error("it waits for a block of its own")
	}
}

// A base that cannot be fetched from is read.
func TestFetchForWriteOfAnyBase(t *testing.T) {
	base, b := testBase(1, 2*BlockSize)
	o := openOverlay(t, openStore(t, t.TempDir(), "k"), base, b)
	defer o.Close()
	if o.WriteWaits(5, 10) {
		t.Error("it is not known whether it waits")
	}
	if err := o.FetchForWrite(5, 10); err != nil {
		t.Error(err)
	}
}
