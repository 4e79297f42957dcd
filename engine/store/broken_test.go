package store

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// steps is a clock that goes on when it is told to.
type steps struct{ now time.Duration }

func (s *steps) up() time.Duration { return s.now }

func putLease(db *Database, n int) error {
	return db.Batch(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("leases"))
		if err != nil {
			return err
		}
		return b.Put(leaseKey(n), sealedValue(leaseKey(n), nil))
	})
}

func countLeases(db *Database) (n int, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		n = tx.Bucket([]byte("leases")).Stats().KeyN
		return nil
	})
	return n, err
}

// A file that cannot be made anew at once is made anew later. One failed try ended all
// leases until a restart, and nobody was told.
func TestRenewalIsTriedAgain(t *testing.T) {
	var log bytes.Buffer
	dir := fullDatabase(t, 3000)
	s := open(t, dir, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	clock := &steps{}
	s.db.up = clock.up
	s.DB().Keep("leases", func(b *bbolt.Bucket) error {
		for i := range 3000 {
			if err := b.Put(leaseKey(i), sealedValue(leaseKey(i), []byte("kept"))); err != nil {
				return err
			}
		}
		return nil
	})
	tmp := filepath.Join(dir, "tmp")
	if err := errors.Join(os.Truncate(filepath.Join(dir, "state.db"), int64(4*os.Getpagesize())), os.Rename(tmp, tmp+".away")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := putLease(s.DB(), 4000); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("without a place for a new file: %v", err)
		}
	}
	if err := s.Damage(); err == nil || !strings.Contains(err.Error(), "cannot be put in its place") {
		t.Errorf("status says %v", err)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("said %d times:\n%s", n, log.String())
	}
	if n, err := countLeases(s.DB()); err != nil || n != 3000 {
		t.Errorf("%d leases can be read, %v", n, err)
	}
	if err := os.Rename(tmp+".away", tmp); err != nil {
		t.Fatal(err)
	}
	if err := putLease(s.DB(), 4000); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("tried again without a pause: %v", err)
	}
	clock.now += renewPause
	if err := putLease(s.DB(), 4000); err != nil {
		t.Errorf("with a place for it again: %v", err)
	}
	if n, err := countLeases(s.DB()); err != nil || n != 3001 {
		t.Errorf("%d leases, %v", n, err)
	}
	if err := s.Damage(); err == nil || strings.Contains(err.Error(), "cannot be put") || !strings.Contains(err.Error(), "Nothing is lost") || strings.Contains(err.Error(), "on the wire") {
		t.Errorf("status says %v", err)
	}

	// And a second time in one process: it is told, too.
	first := s.Damage().Error()
	if err := os.Truncate(filepath.Join(dir, "state.db"), int64(4*os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	if err := putLease(s.DB(), 4001); err != nil {
		t.Error(err)
	}
	if err := s.Damage(); err == nil || err.Error() == first || strings.Count(log.String(), "A new one has all") != 2 {
		t.Errorf("the second time: status says %v\n%s", err, log.String())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got, told, lost := opened(t, dir); got != 3001 || told != nil || lost {
		t.Errorf("at the next start: %d leases, %v, lost %v", got, told, lost)
	}
}

// A start upon a damaged file and a full disk serves what can be read, and writes again
// when there is room.
func TestDamagedDatabaseOnAFullDisk(t *testing.T) {
	inSmallDisk(t, func(dir string, s *Store) error {
		for i := range 300 {
			if err := putLease(s.DB(), i); err != nil {
				return err
			}
		}
		if err := s.Close(); err != nil {
			return err
		}
		f, err := os.OpenFile(filepath.Join(dir, "state.db"), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		// One of the meta pages: nothing else is lost.
		_, err = f.WriteAt(make([]byte, 100), 0)
		if err := errors.Join(err, f.Close(), fill(dir)); err != nil {
			return err
		}
		clock := &steps{}
		s, err = Open(dir, Options{Records: sealedRecords()})
		if err != nil {
			t.Errorf("a start: %v", err)
			return nil
		}
		defer s.Close()
		s.db.up, s.db.looked = clock.up, 0
		if err := stillServes(s, 1); err != nil {
			return err
		}
		c, err := s.Clock(Ticks{})
		if err != nil {
			return err
		}
		if n, err := countLeases(s.DB()); err != nil || n != 300 || s.Damage() == nil || c.Lost().IsZero() {
			t.Errorf("%d leases, %v; damage %v, lost %v", n, err, s.Damage(), c.Lost())
		}
		for range 2 {
			clock.now += renewPause
			if err := putLease(s.DB(), 300); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("on the full disk: %v", err)
			}
		}
		if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
			return err
		}
		clock.now += renewPause
		if err := putLease(s.DB(), 300); err != nil {
			t.Errorf("with room again: %v", err)
		}
		if err := errors.Join(c.Save(), s.Close()); err != nil {
			return err
		}
		s, err = Open(dir, Options{Records: sealedRecords()})
		if err != nil {
			return err
		}
		defer s.Close()
		if c, err = s.Clock(Ticks{}); err != nil {
			return err
		}
		if n, err := countLeases(s.DB()); err != nil || n != 301 || s.Damage() != nil || c.Lost().IsZero() {
			t.Errorf("at the next start: %d leases, %v; damage %v, lost %v", n, err, s.Damage(), c.Lost())
		}
		return nil
	})
}

// Damage that is found between the opening of the clock and that of the leases is a loss,
// in this process already.
func TestLossIsKnownAtOnce(t *testing.T) {
	dir := fullDatabase(t, 3000)
	s := open(t, dir, Options{})
	c, err := s.Clock(Ticks{})
	if err != nil || !c.Lost().IsZero() {
		t.Fatalf("lost %v, %v", c.Lost(), err)
	}
	if err := os.Truncate(filepath.Join(dir, "state.db"), int64(4*os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	if err := putLease(s.DB(), 1); err != nil {
		t.Fatal(err)
	}
	if c.Lost().IsZero() {
		t.Error("leases are lost, and nobody knows")
	}
	// Nothing that was there then is younger than the loss.
	at := c.Now().Add(time.Hour)
	c.Reached(at)
	if lost := c.Lost(); lost.Before(at) {
		t.Errorf("lost at %v, with leases of %v", lost, at)
	}
	was := c.Lost()
	if err := errors.Join(c.Save(), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{})
	if c, err = s.Clock(Ticks{}); err != nil || !c.Lost().Equal(was) {
		t.Errorf("at the next start: %v, was %v; %v", c.Lost(), was, err)
	}
}

// An end of the daemon waits for a file that is being made anew; each held what the other
// one wanted.
func TestCloseWhileTheFileIsMadeAnew(t *testing.T) {
	dir := fullDatabase(t, 3000)
	s := open(t, dir, Options{})
	filling, closing, closed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	s.DB().Keep("leases", func(*bbolt.Bucket) error {
		close(filling)
		<-closing
		return nil
	})
	if err := os.Truncate(filepath.Join(dir, "state.db"), int64(4*os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	put := make(chan error, 1)
	go func() { put <- putLease(s.DB(), 1) }()
	<-filling
	go func() { closed <- s.Close() }()
	// Close is under way when it holds what the renewal wants, or for a moment.
	for range 10_000 {
		if !s.mu.TryLock() {
			break
		}
		s.mu.Unlock()
		runtime.Gosched()
	}
	close(closing)
	for what, done := range map[string]chan error{"the lease": put, "the end": closed} {
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s never comes", what)
		}
	}
}

// A panic of one is not the error of those who share his transaction, and an error of
// somebody's does not have the file read each time.
func TestOnlyWhoPanicsFails(t *testing.T) {
	s := open(t, fullDatabase(t, 10), Options{})
	reads := 0
	renew := s.db.renew
	s.db.renew = func(why error, fill func(*bbolt.Tx) error, complete bool) (*bbolt.DB, error) {
		reads++
		return renew(why, fill, complete)
	}
	var calls []*call
	runs := 0
	for i := range 5 {
		calls = append(calls, &call{func(*bbolt.Tx) error {
			if i == 2 {
				panic("of the caller's")
			}
			runs++
			return nil
		}, make(chan error, 1)})
	}
	s.db.turn.Lock()
	s.db.together(slices.Clone(calls))
	s.db.turn.Unlock()
	for i, c := range calls {
		if err := <-c.done; (i == 2) != errors.Is(err, errSolo) || i != 2 && err != nil {
			t.Errorf("part %d: %v", i, err)
		}
	}
	if runs != 2+4 {
		t.Errorf("%d calls", runs)
	}
	reads = 0
	own := errors.New("of the caller's")
	for range 5 {
		if err := s.DB().Update(func(*bbolt.Tx) error { return own }); !errors.Is(err, own) {
			t.Error(err)
		}
	}
	if reads > 1 {
		t.Errorf("the file is read %d times for five errors that are not its own", reads)
	}
}
