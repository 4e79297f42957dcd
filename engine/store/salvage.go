package store

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
)

// Records says what a bucket of state.db holds, so that a damaged file gives as much of
// it as is whole.
type Records struct {
	// Whole says why a record is not what was written; nil: it is, or it has nothing to
	// tell by.
	Whole func(key, value []byte) error
	// Stray reports whether a record that is found outside of every bucket is certainly
	// one of this bucket's, and whole. nil: none is.
	Stray func(key, value []byte) bool
	// Younger reports whether a was written after b, two records of one key. Needed with
	// Stray.
	Younger func(a, b []byte) bool
}

const (
	// damageBucket says that something of the file was lost: see Clock.Lost.
	damageBucket = "damage"
	damageLeases = "leases"
	// leaseBucket is the bucket whose loss is remembered.
	leaseBucket = "leases"
)

// contents is what was read from a file: by bucket, and key.
type contents map[string]map[string][]byte

func (c contents) put(bucket string, key, value []byte) {
	if c[bucket] == nil {
		c[bucket] = map[string][]byte{}
	}
	c[bucket][string(key)] = value
}

func (c contents) String() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if name == leaseBucket || name == "sessions" {
			list = append(list, fmt.Sprintf("%d %s", len(c[name]), name))
		}
	}
	if list == nil {
		return "nothing"
	}
	return strings.Join(list, " and ")
}

func (s *Store) databasePath() string { return filepath.Join(s.dir, "state.db") }

func boltOptions() *bbolt.Options {
	return &bbolt.Options{
		Timeout: time.Second,
		// The list of free pages is small and quick to find again; not writing it
		// makes every commit cheaper.
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
	}
}

// openBolt opens a file as a database, or makes it. What bbolt panics over is an error.
func openBolt(path string) (db *bbolt.DB, err error) {
	if err := failpoint.Hit("store.db.open"); err != nil {
		return nil, err
	}
	err = guarded(func() (err error) {
		db, err = bbolt.Open(path, 0o600, boltOptions())
		return err
	})
	return db, err
}

// openDatabase opens state.db. One that is damaged, or gone where generations are, is
// set aside, and what of it is whole goes into a new one: nothing that is served hangs
// on it, and machines boot. When a new one cannot be written, what was found is there to
// be read, and each change tries it again. Damage tells.
func (s *Store) openDatabase() error {
	path := s.databasePath()
	found, why, err := s.checkDatabase()
	if err != nil {
		return err
	}
	s.db = &Database{renew: s.renewDatabase, up: s.up, looked: s.up()}
	if why == nil {
		if s.db.db, err = openBolt(path); err == nil || !damaging(err) {
			return err
		}
		why = err // and yet bbolt makes nothing of it
	}
	fresh, err := s.replaceDatabase(why, func(tx *bbolt.Tx) error {
		return errors.Join(found.write(tx), markDamage(tx))
	}, found.String(), false)
	s.db.db = fresh
	if err != nil {
		s.db.broken = &brokenError{why, err}
	}
	return nil
}

// checkDatabase reads the file through. why says what is wrong with it, and found is
// what can be used of it then.
func (s *Store) checkDatabase() (found contents, why, err error) {
	path := s.databasePath()
	found = contents{}
	info, err := os.Stat(path)
	all, nerr := s.numbers()
	if nerr != nil {
		return nil, nil, nerr
	}
	switch {
	case missing(err) && len(all) > 0:
		return found, errors.New("it is missing, and generations are there"), nil
	case missing(err):
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return found, errors.New("it is no file"), nil
	case info.Size() == 0 && len(all) > 0:
		return found, errors.New("it is empty, and generations are there"), nil
	case info.Size() == 0:
		return nil, nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	var broken error
	count := 0
	err = guarded(func() error { // should the reader be wrong after all
		b := readBolt(f, info.Size(), func(bucket string, key, value []byte) {
			if whole := s.records[bucket].Whole; whole != nil {
				if err := whole(key, value); err != nil {
					broken = fmt.Errorf("bucket %q: %w", bucket, err)
					count++
					return
				}
			}
			found.put(bucket, key, value)
		})
		if broken != nil {
			b.bad("records that are not whole: %d; the last in %w", count, broken)
		}
		if b.err() != nil {
			s.takeStrays(b, found)
		}
		return b.err()
	})
	return found, err, nil
}

// takeStrays adds records that only lie about in the file.
func (s *Store) takeStrays(b *boltReader, found contents) {
	strays := contents{}
	b.strays(func(key, value []byte) {
		for name, r := range s.records {
			if r.Stray == nil || !r.Stray(key, value) {
				continue
			}
			if was, ok := strays[name][string(key)]; !ok || r.Younger(value, was) {
				strays.put(name, key, value)
			}
			return
		}
	})
	for name, list := range strays {
		for key, value := range list {
			// What the tree leads to can be the older one: its younger root may be lost.
			if was, ok := found[name][key]; !ok || s.records[name].Younger(value, was) {
				found.put(name, []byte(key), value)
			}
		}
	}
}

// write puts everything into a transaction.
func (c contents) write(tx *bbolt.Tx) error {
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if name == "" {
			continue
		}
		b, err := tx.CreateBucketIfNotExists([]byte(name))
		if err != nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(c[name])) {
			if err := b.Put([]byte(key), c[name][key]); err != nil {
				return err
			}
		}
	}
	return nil
}

// markDamage notes that leases may be lost.
func markDamage(tx *bbolt.Tx) error {
	b, err := tx.CreateBucketIfNotExists([]byte(damageBucket))
	if err != nil {
		return err
	}
	return b.Put([]byte(damageLeases), nil)
}

// damaging reports whether an error of bbolt's says that the file is at fault.
func damaging(err error) bool {
	return errors.As(err, new(*faultError)) || isBoltDamage(err)
}
