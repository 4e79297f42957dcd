package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/statefile"
)

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
	return statefile.SetAside(path, s.now(), func(path, aside string) error {
		err := errors.ErrUnsupported
		if info.Mode().IsRegular() { // anything else is gone until the new one is there
			err = os.Link(path, aside)
		}
		if err != nil { // a file system without links
			err = os.Rename(path, aside)
		}
		if err != nil {
			return err
		}
		return syncDir(s.dir)
	})
}
