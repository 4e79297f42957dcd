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
	"golang.org/x/sys/unix"

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

	// keptAside is how many damaged files are kept.
	keptAside = 3
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
			b.bad("%d records are not whole: %w", count, broken)
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

// renewDatabase is Database.renew: what of the file can be read goes over, and then what
// its users hold. A file that is sound is left alone, and the error given back.
func (s *Store) renewDatabase(why error, fill func(*bbolt.Tx) error, complete bool) (*bbolt.DB, error) {
	found, damage, err := s.checkDatabase()
	if err != nil {
		return nil, err
	}
	if damage == nil {
		if fault := (*faultError)(nil); s.db.broken == nil && (!errors.As(why, &fault) || fault.inside) {
			return nil, errSound // it is what the caller did, or his error
		}
		damage = why
	}
	kept := "all that was known"
	if !complete {
		kept = found.String()
	}
	return s.replaceDatabase(damage, func(tx *bbolt.Tx) error {
		err := found.write(tx)
		if err == nil && !complete {
			err = markDamage(tx)
		}
		if err == nil {
			err = fill(tx)
		}
		return err
	}, kept, complete)
}

// replaceDatabase makes a new file with what fill writes, puts it in the place of the one
// that is there, which is set aside, and opens it. kept says what fill writes, and complete
// that nothing is missing from it. With an error it gives a copy in memory, or nil. It
// tells of both.
func (s *Store) replaceDatabase(why error, fill func(*bbolt.Tx) error, kept string, complete bool) (*bbolt.DB, error) {
	text := strings.ReplaceAll(why.Error(), "\n", "; ")
	aside, err := s.writeDatabase(fill)
	if err == nil {
		var db *bbolt.DB
		if db, err = openBolt(s.databasePath()); err == nil {
			if aside != "" {
				text += ". It was set aside as " + filepath.Base(aside)
			}
			text += fmt.Sprintf(". A new one has %s. ", kept)
			if !complete {
				text += "Until every machine has renewed its lease, an address that nobody is known to have is asked for on the wire before it is offered; look after the disk"
			} else {
				text += "Nothing is lost; look after the disk"
			}
			s.notedDatabase(text)
			return db, nil
		}
	}
	s.notedDatabase(fmt.Sprintf("%s. A new one, with %s, cannot be put in its place: %v. No lease and no boot session can be written until it can; what is known is served. It is tried again", text, kept, err))
	db, merr := inMemory(fill)
	if merr != nil {
		s.log.Error("what a damaged database had cannot be held in memory", "error", merr)
	}
	return db, err
}

// notedDatabase remembers what last became of state.db, and says it.
func (s *Store) notedDatabase(text string) {
	path := s.databasePath()
	s.mu.Lock()
	defer s.mu.Unlock()
	if was := (*DamagedError)(nil); errors.As(s.damage[path], &was) && was.Err.Error() == text {
		return // a try like the one before
	}
	delete(s.damage, path)
	s.noted(&DamagedError{Path: path, Err: errors.New(text)})
}

// inMemory makes a database of what fill writes, with a file of no file system:
// memfd_create(2).
func inMemory(fill func(*bbolt.Tx) error) (db *bbolt.DB, err error) {
	o := boltOptions()
	o.NoSync, o.NoGrowSync = true, true
	o.OpenFile = func(name string, _ int, _ os.FileMode) (*os.File, error) {
		fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
		if err != nil {
			return nil, os.NewSyscallError("memfd_create", err)
		}
		return os.NewFile(uintptr(fd), name), nil
	}
	err = guarded(func() error {
		if db, err = bbolt.Open("state.db", 0o600, o); err != nil {
			return err
		}
		return db.Update(fill)
	})
	if err != nil && db != nil {
		err = errors.Join(err, guarded(db.Close))
		db = nil
	}
	return db, err
}

// writeDatabase makes a new file with what fill writes, and puts it in the place of
// state.db. It gives the name that what stood there has now, "" when it has none.
func (s *Store) writeDatabase(fill func(*bbolt.Tx) error) (aside string, err error) {
	path := s.databasePath()
	fresh := filepath.Join(s.content.scratch, "state.db")
	if err := os.RemoveAll(fresh); err != nil {
		return "", err
	}
	err = guarded(func() error {
		db, err := openBolt(fresh)
		if err != nil {
			return err
		}
		return errors.Join(db.Update(fill), db.Close())
	})
	if err != nil {
		return "", fmt.Errorf("a new database cannot be written: %w", err)
	}
	if aside, err = s.setDatabaseAside(); err != nil {
		return "", err
	}
	if err := failpoint.Hit("store.db.rename"); err != nil {
		return "", err
	}
	if err := os.Rename(fresh, path); err != nil {
		return "", err
	}
	if err := syncDir(s.dir); err != nil {
		return "", err
	}
	return aside, nil
}

// setDatabaseAside gives what is in the way of state.db a second name, or moves it if it
// is no file. It gives that name; "" when there is nothing worth it.
func (s *Store) setDatabaseAside() (string, error) {
	path := s.databasePath()
	info, err := os.Lstat(path)
	if missing(err) || err == nil && info.Mode().IsRegular() && info.Size() == 0 {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if err := failpoint.Hit("store.db.aside"); err != nil {
		return "", err
	}
	// A start that was cut off here has done so already.
	old, err := filepath.Glob(path + ".damaged-*")
	if err != nil {
		return "", err
	}
	for _, name := range old {
		if was, err := os.Lstat(name); err == nil && os.SameFile(was, info) {
			return name, nil
		}
	}
	stamp := path + ".damaged-" + s.now().UTC().Format("20060102T150405.000Z")
	name := stamp
	for n := 2; ; n++ {
		if _, err := os.Lstat(name); missing(err) {
			break
		}
		name = fmt.Sprintf("%s-%d", stamp, n)
	}
	move := os.Rename // what stands there is gone then until the new one is there
	if info.Mode().IsRegular() {
		move = os.Link
	}
	if err := move(path, name); err != nil {
		if err := os.Rename(path, name); err != nil { // a file system without links
			return "", err
		}
	}
	if err := syncDir(s.dir); err != nil {
		return "", err
	}
	slices.Sort(old)
	for len(old) >= keptAside {
		if err := os.RemoveAll(old[0]); err != nil {
			s.log.Warn("a damaged database of long ago cannot be removed", "path", old[0], "error", err)
		}
		old = old[1:]
	}
	return name, nil
}
