package store

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// sealedRecords are records that can be told from damaged ones: the value ends in a
// checksum of key and value.
func sealedRecords() map[string]Records {
	whole := func(key, value []byte) error {
		if len(value) < 8 || !bytes.Equal(value, sealedValue(key, value[:len(value)-8])) {
			return errors.New("it is not what was written")
		}
		return nil
	}
	return map[string]Records{"leases": {
		Whole:   whole,
		Stray:   func(key, value []byte) bool { return len(key) == 6 && whole(key, value) == nil },
		Younger: func(a, b []byte) bool { return bytes.Compare(a, b) > 0 },
	}}
}

func sealedValue(key, value []byte) []byte {
	return fmt.Appendf(bytes.Clone(value), "%08x", crc32.ChecksumIEEE(append(bytes.Clone(key), value...)))
}

func leaseKey(n int) []byte { return []byte{2, 0, 0, 0, byte(n >> 8), byte(n)} }

// fullDatabase is a state directory with two generations, n leases and some sessions.
func fullDatabase(t testing.TB, n int) string {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir, Options{})
	for range 2 {
		rec := &Record{Revision: strings.Repeat("a", 40), Trigger: TriggerCommit}
		if err := s.Record(rec); err != nil {
			t.Fatal(err)
		}
	}
	for from := 0; from < n; from += 500 {
		err := s.DB().Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("leases"))
			if err != nil {
				return err
			}
			for i := from; i < min(n, from+500); i++ {
				key := leaseKey(i)
				if err := b.Put(key, sealedValue(key, fmt.Appendf(nil, "%080d", i))); err != nil {
					return err
				}
			}
			o, err := tx.CreateBucketIfNotExists([]byte("sessions"))
			if err != nil {
				return err
			}
			return o.Put(leaseKey(from), bytes.Repeat([]byte("session "), 1000))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	o.Records = sealedRecords()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// opened opens a state directory, and gives how many leases it has. Each must be what
// was written, and the database one that takes more.
func opened(t testing.TB, dir string) (leases int, damage error, lost bool) {
	t.Helper()
	s := open(t, dir, Options{})
	err := s.DB().Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("leases"))
		if err != nil {
			return err
		}
		err = b.ForEach(func(k, v []byte) error {
			leases++
			return sealedRecords()["leases"].Whole(k, v)
		})
		if err == nil {
			err = b.Put([]byte("more"), sealedValue([]byte("more"), nil))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Clock(Ticks{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return leases, s.Damage(), !c.Lost().IsZero()
}

// Whatever became of the file of leases, a start gets through, keeps the leases that can
// be read, and says what is lost.
func TestDamagedDatabase(t *testing.T) {
	const leases = 1200
	from := fullDatabase(t, leases)
	sound, err := os.ReadFile(filepath.Join(from, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	type damage struct {
		name  string
		make  func() []byte
		least int // leases that are there afterwards
		may   bool
	}
	changed := func(f func(b []byte)) func() []byte {
		return func() []byte {
			b := bytes.Clone(sound)
			f(b)
			return b
		}
	}
	table := []damage{
		{"garbage", changed(func(b []byte) {
			for i := range b {
				b[i] = byte(i * 7)
			}
		}), 0, false},
		{"text", func() []byte { return []byte("not a database\n") }, 0, false},
		{"empty", func() []byte { return nil }, 0, false},
		{"zeros", func() []byte { return make([]byte, len(sound)) }, 0, false},
		{"first meta page", changed(func(b []byte) { clear(b[:page]) }), leases, false},
		{"second meta page", changed(func(b []byte) { clear(b[page : 2*page]) }), leases, false},
		{"both meta pages", changed(func(b []byte) { clear(b[:2*page]) }), leases, false},
	}
	for at := 2 * page; at < len(sound); at += 9 * page {
		table = append(table,
			damage{fmt.Sprintf("cut off at %d", at), func() []byte { return sound[:at] }, 0, true}, // free pages may be
			damage{fmt.Sprintf("page %d of zeros", at/page), changed(func(b []byte) { clear(b[at : at+page]) }), leases - 80, true})
	}
	r := rand.New(rand.NewPCG(5, 6))
	for range 60 {
		at, bit := r.IntN(len(sound)), byte(1)<<r.IntN(8)
		table = append(table, damage{fmt.Sprintf("bit %#x at %d", bit, at), changed(func(b []byte) { b[at] ^= bit }), leases - 80, true})
	}
	salvaged := 0
	for _, d := range table {
		t.Run(d.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "state.db"), d.make(), 0o600); err != nil {
				t.Fatal(err)
			}
			got, told, lost := opened(t, dir)
			if told != nil {
				salvaged++
			} else if !d.may {
				t.Error("nobody is told")
			}
			if (told != nil) != lost {
				t.Errorf("told %v, and remembered as lost: %v", told, lost)
			}
			if told == nil && got != leases || got < d.least {
				t.Errorf("%d leases are left: %v", got, told)
			}
			aside, _ := filepath.Glob(filepath.Join(dir, "state.db.damaged-*"))
			if want := told != nil && d.name != "empty"; (len(aside) == 1) != want {
				t.Errorf("set aside: %v", aside)
			}
			// Once only, and what was lost stays known.
			again, told, lost2 := opened(t, dir)
			if told != nil || again != got+1 || lost2 != lost {
				t.Errorf("at the next start: %d leases, %v, lost %v", again, told, lost2)
			}
		})
	}
	if salvaged < len(table)/4 {
		t.Errorf("only %d of %d are found to be damaged", salvaged, len(table))
	}
	t.Logf("%d of %d damaged files were found to be; the others differ where nothing is", salvaged, len(table))
}

func TestDatabaseThatIsNoFile(t *testing.T) {
	for _, kind := range []string{"directory", "missing"} {
		dir := fullDatabase(t, 10)
		path := filepath.Join(dir, "state.db")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if kind == "directory" {
			if err := os.MkdirAll(filepath.Join(path, "in it"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if got, told, lost := opened(t, dir); got != 0 || told == nil || !lost {
			t.Errorf("%s: %d leases, %v, lost %v", kind, got, told, lost)
		}
	}
	// A new directory is no loss.
	if _, told, lost := opened(t, t.TempDir()); told != nil || lost {
		t.Errorf("new: %v, lost %v", told, lost)
	}
}

func TestFewDamagedDatabasesAreKept(t *testing.T) {
	const kept = 3 // of statefile.SetAside
	dir := fullDatabase(t, 10)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for range kept + 3 {
		now = now.Add(time.Second)
		if err := os.WriteFile(filepath.Join(dir, "state.db"), []byte(now.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, Options{Now: func() time.Time { return now }})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	aside, _ := filepath.Glob(filepath.Join(dir, "state.db.damaged-*"))
	if len(aside) != kept || !strings.Contains(aside[kept-1], now.Format("20060102T150405")) {
		t.Errorf("kept: %v", aside)
	}
}

// A file that is cut short while the daemon runs is a fault in mapped memory: the
// transaction goes on with a new file, of all that is known in memory.
func TestDatabaseCutShortWhileItIsUsed(t *testing.T) {
	dir := fullDatabase(t, 3000)
	s := open(t, dir, Options{})
	fill := func(b *bbolt.Bucket) error {
		for i := range 3000 {
			if err := b.Put(leaseKey(i), sealedValue(leaseKey(i), []byte("kept"))); err != nil {
				return err
			}
		}
		return nil
	}
	s.DB().Keep("leases", fill)
	for name, spoil := range map[string]func(path string) error{
		"cut": func(path string) error { return os.Truncate(path, int64(4*os.Getpagesize())) },
		"zeros": func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			info, err := f.Stat()
			if err != nil {
				return err
			}
			_, err = f.WriteAt(make([]byte, info.Size()), 0)
			return errors.Join(err, f.Close())
		},
	} {
		if err := spoil(filepath.Join(dir, "state.db")); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		for i := range 8 {
			go func() {
				key := leaseKey(4000 + i)
				done <- s.DB().Batch(func(tx *bbolt.Tx) error {
					return tx.Bucket([]byte("leases")).Put(key, sealedValue(key, nil))
				})
			}()
		}
		for range 8 {
			if err := <-done; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if s.Damage() == nil {
			t.Errorf("%s: nobody is told", name)
		}
		s.mu.Lock()
		clear(s.damage)
		s.mu.Unlock()
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got, told, _ := opened(t, dir); got != 3008 || told != nil {
		t.Errorf("at the next start: %d leases, %v", got, told)
	}
}

// A panic of somebody's who uses a sound database is his error, and no damage.
func TestPanicInATransaction(t *testing.T) {
	dir := fullDatabase(t, 10)
	s := open(t, dir, Options{})
	for range 10 {
		err := s.DB().Batch(func(*bbolt.Tx) error { panic("of the caller's") })
		if err == nil || !strings.Contains(err.Error(), "of the caller's") {
			t.Fatal(err)
		}
	}
	if err := s.DB().Update(func(*bbolt.Tx) error { return nil }); err != nil {
		t.Error(err)
	}
	if err := s.Damage(); err != nil {
		t.Error(err)
	}
}

func BenchmarkCheckDatabase(b *testing.B) {
	dir := fullDatabase(b, 10000)
	s := open(b, dir, Options{})
	for b.Loop() {
		if _, why, err := s.checkDatabase(); why != nil || err != nil {
			b.Fatal(why, err)
		}
	}
}

// When the younger meta page is lost, the tree is the older one: what the last
// transaction wrote lies beside it, and is what counts.
func TestYoungerStrayBeatsTheTree(t *testing.T) {
	dir := fullDatabase(t, 10)
	path := filepath.Join(dir, "state.db")
	key, last := leaseKey(3), sealedValue(leaseKey(3), []byte("the last word"))
	s := open(t, dir, Options{})
	err := s.DB().Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("leases")).Put(key, last) })
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b := readBolt(bytes.NewReader(data), int64(len(data)), func(string, []byte, []byte) {})
	clear(data[int64(b.meta.tx%2)*b.pageSize:][:b.pageSize])
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{})
	err = s.DB().View(func(tx *bbolt.Tx) error {
		if got := tx.Bucket([]byte("leases")).Get(key); !bytes.Equal(got, last) {
			t.Errorf("%q came back", got)
		}
		return nil
	})
	if err != nil || s.Damage() == nil {
		t.Errorf("%v, damage %v", err, s.Damage())
	}
}
