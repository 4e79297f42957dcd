package store

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

type countingReader struct {
	*bytes.Reader
	bytes int
}

func (r *countingReader) ReadAt(p []byte, at int64) (int, error) {
	r.bytes += len(p)
	return r.Reader.ReadAt(p, at)
}

// Pages that claim to go over many others do not have the file read many times.
func TestStraysAreReadOnce(t *testing.T) {
	const pages = 2000
	page := os.Getpagesize()
	data := make([]byte, pages*page)
	for id := range pages {
		p := data[id*page:]
		binary.NativeEndian.PutUint64(p, uint64(id))
		binary.NativeEndian.PutUint16(p[8:], boltLeaf)
		binary.NativeEndian.PutUint16(p[10:], 1)
		binary.NativeEndian.PutUint32(p[12:], boltStrayOver)
		binary.NativeEndian.PutUint32(p[boltHeader+4:], boltElement)
		binary.NativeEndian.PutUint32(p[boltHeader+8:], 6)
		if id%2 == 0 { // and its element is as long
			binary.NativeEndian.PutUint32(p[boltHeader+12:], uint32(boltStrayOver*page))
		}
	}
	r := &countingReader{Reader: bytes.NewReader(data)}
	b := readBolt(r, int64(len(data)), func(string, []byte, []byte) {})
	b.strays(func([]byte, []byte) {})
	if r.bytes > 3*len(data) {
		t.Errorf("%d bytes were read of a file of %d", r.bytes, len(data))
	}
}

// A file that is all hole, as long as no disk is, keeps no start waiting.
func TestStraysOfAHole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	r := &countingFile{File: f}
	b := readBolt(r, 1<<40, func(string, []byte, []byte) {})
	b.strays(func([]byte, []byte) { t.Error("a record was found") })
	if b.err() == nil || r.bytes > boltMostStrays+1<<20 {
		t.Errorf("%d bytes were read, damage: %v", r.bytes, b.err())
	}
}

type countingFile struct {
	*os.File
	bytes int
}

func (r *countingFile) ReadAt(p []byte, at int64) (int, error) {
	r.bytes += len(p)
	return r.File.ReadAt(p, at)
}

// smallDatabase is a file of bbolt's with pages of 1 KiB: a bucket that is a tree, with
// values that go over pages, two that are inline, and pages that are free.
func smallDatabase(f testing.TB) []byte {
	f.Helper()
	path := filepath.Join(f.TempDir(), "db")
	o := boltOptions()
	o.PageSize, o.NoSync = 1<<10, true
	db, err := bbolt.Open(path, 0o600, o)
	if err != nil {
		f.Fatal(err)
	}
	for round := range 3 {
		err := db.Update(func(tx *bbolt.Tx) error {
			for name, n := range map[string]int{"leases": 60, "clock": 1, "sessions": 2} {
				b, err := tx.CreateBucketIfNotExists([]byte(name))
				if err != nil {
					return err
				}
				for i := range n {
					if err := b.Put(leaseKey(i), bytes.Repeat([]byte{byte(round)}, 20+1500*(i/59))); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			f.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	return data
}

// usedByBolt opens a file that was taken for sound, has all buckets grow, and checks what
// bbolt makes of it.
func usedByBolt(t *testing.T, data []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	o := boltOptions()
	o.NoSync, o.NoGrowSync = true, true
	db, err := bbolt.Open(path, 0o600, o)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for round := range 2 {
		err := db.Update(func(tx *bbolt.Tx) error {
			var names [][]byte
			if err := tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
				names = append(names, bytes.Clone(name))
				return nil
			}); err != nil {
				return err
			}
			for _, name := range names {
				for i := range 40 {
					if err := tx.Bucket(name).Put([]byte{byte(i), byte(round)}, make([]byte, 100)); err != nil {
						return err
					}
				}
			}
			_, err := tx.CreateBucketIfNotExists([]byte("new"))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// An inline bucket that has a page number is damaged: bbolt frees that page when it grows.
func TestInlineBucketWithAPage(t *testing.T) {
	data := smallDatabase(t)
	b := readBolt(bytes.NewReader(data), int64(len(data)), func(string, []byte, []byte) {})
	if b.err() != nil {
		t.Fatal(b.err())
	}
	usedByBolt(t, data)
	p := data[int64(b.meta.root)*b.pageSize:][:b.pageSize]
	list, _, err := elements(p)
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, e := range list {
		if binary.NativeEndian.Uint64(e.value) != 0 {
			continue
		}
		for _, at := range []int{0, 12} { // its number, and what it goes over
			tried++
			e.value[boltElement+at] = 3
			if b := readBolt(bytes.NewReader(data), int64(len(data)), func(string, []byte, []byte) {}); b.err() == nil {
				t.Errorf("bucket %s with 3 at %d of its page is taken for sound", e.key, at)
			}
			e.value[boltElement+at] = 0
		}
	}
	if tried != 4 {
		t.Errorf("%d inline pages were tried", tried)
	}
}

// FuzzSoundIsSound changes bytes behind the meta pages: offset and new value, five bytes
// each. What is taken for sound must be so to bbolt, which trusts what it finds.
func FuzzSoundIsSound(f *testing.F) {
	data := smallDatabase(f)
	for at := 2 << 10; at < len(data); at += 61 {
		f.Add(append(binary.BigEndian.AppendUint32(nil, uint32(at)), 3))
	}
	f.Add([]byte("710\x180")) // a longer first key of a leaf
	f.Fuzz(func(t *testing.T, changes []byte) {
		data := bytes.Clone(data)
		for ; len(changes) >= 5; changes = changes[5:] {
			at := 2<<10 + int(binary.BigEndian.Uint32(changes))%(len(data)-2<<10)
			data[at] = changes[4]
		}
		if b := readBolt(bytes.NewReader(data), int64(len(data)), func(string, []byte, []byte) {}); b.err() == nil {
			usedByBolt(t, data)
		}
	})
}

func FuzzReadBolt(f *testing.F) {
	sound, err := os.ReadFile(filepath.Join(fullDatabase(f, 200), "state.db"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sound[:min(len(sound), 12*os.Getpagesize())])
	f.Fuzz(func(t *testing.T, data []byte) {
		b := readBolt(bytes.NewReader(data), int64(len(data)), func(string, []byte, []byte) {})
		if b.count > 0 {
			b.strays(func([]byte, []byte) {})
			return
		}
		usedByBolt(t, data)
	})
}
