package store

import (
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Database is the file state.db: what must survive a crash and changes all the time,
// leases and boot sessions. Each user keeps to buckets of its own.
//
// bbolt maps its file and panics at what it cannot make sense of; a file that was cut
// short is a fault. Neither ends the process here. A transaction that comes upon damage
// has the file made anew from what its users hold in memory, see Keep, and is then tried
// once more. When that fails, on a full disk, nothing can be changed until it succeeds:
// each change tries it again, with a pause in between. What the damaged file had can be
// read meanwhile. Safe for concurrent use; transactions take turns.
type Database struct {
	// renew puts a new file in the place of the damaged one, whose content fill writes,
	// and opens it. complete says that fill writes every lease there is. The error is
	// errSound when the file is not damaged. With any other one, what it gives is a copy in
	// memory of what the new file would have, to be read, or nil.
	renew func(why error, fill func(*bbolt.Tx) error, complete bool) (*bbolt.DB, error)
	up    func() time.Duration // since some moment

	turn   sync.Mutex                           // one transaction at a time; guards what follows
	db     *bbolt.DB                            // the file, or with broken a copy of it in memory; nil: there is none
	broken *brokenError                         // why the file cannot be written, nor another one in its place; nil: it can
	looked time.Duration                        // when the file was read through last, of up
	lost   bool                                 // leases may be missing from what is there since it was opened
	keep   map[string]func(*bbolt.Bucket) error // by bucket

	mu    sync.Mutex // guards what follows; taken last
	calls []*call    // that wait for their common transaction
}

// batchDelay is how long a lease or a session waits for others to share its fsync with.
const batchDelay = 2 * time.Millisecond

var errDatabaseClosed = errors.New("the database is closed")

// renewPause is how long a file that could not be made anew, or that was sound, is left
// alone: to find out takes reading it.
const renewPause = 3 * time.Second

// brokenError says that the file is damaged and cannot be made anew for now.
type brokenError struct{ why, err error }

func (e *brokenError) Error() string {
	return fmt.Sprintf("the database is damaged: %v, and cannot be made anew: %v", e.why, e.err)
}

func (e *brokenError) Unwrap() []error { return []error{e.why, e.err} }

// faultError is a panic or a fault in a transaction.
type faultError struct {
	what   any
	inside bool // of what the caller had done in it, and not of bbolt's commit
}

func (e *faultError) Error() string { return fmt.Sprintf("panic: %v", e.what) }

// errSound says that a file is not damaged.
var errSound = errors.New("the database is sound")

// isBoltDamage reports whether bbolt says that the file is none of its own.
func isBoltDamage(err error) bool {
	return errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrChecksum) || errors.Is(err, berrors.ErrVersionMismatch)
}

// guarded calls f, and makes an error of a panic and of a fault in mapped memory.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = &faultError{what: r}
		}
	}()
	return f()
}

// Keep has fill write all that a bucket is to hold, from memory, whenever the file is
// made anew. It is called within a transaction, with the empty bucket, and must not begin
// another one.
func (d *Database) Keep(bucket string, fill func(*bbolt.Bucket) error) {
	d.turn.Lock()
	defer d.turn.Unlock()
	if d.keep == nil {
		d.keep = map[string]func(*bbolt.Bucket) error{}
	}
	d.keep[bucket] = fill
}

// View calls fn in a transaction that changes nothing.
func (d *Database) View(fn func(*bbolt.Tx) error) error {
	d.turn.Lock()
	defer d.turn.Unlock()
	return d.try(fn, false)
}

// Update calls fn in a transaction, and returns when what it did is on disk. fn may be
// called twice. A panic of its own is an error.
func (d *Database) Update(fn func(*bbolt.Tx) error) error {
	d.turn.Lock()
	defer d.turn.Unlock()
	return d.try(fn, true)
}

// try runs a transaction, on a new file if need be. The caller holds turn.
func (d *Database) try(fn func(*bbolt.Tx) error, writes bool) error {
	if d.broken != nil && (writes || d.db == nil) {
		if d.up()-d.looked < renewPause {
			return d.broken
		}
		if err := d.again(d.broken.why); err != nil {
			return err
		}
	}
	if d.db == nil {
		return errDatabaseClosed
	}
	tx, err := d.once(fn, writes)
	if d.broken != nil {
		return undone(tx, err)
	}
	if !damaging(err) {
		// It can be the caller's own error, or what he makes of a record that is damaged.
		if tx == nil || d.up()-d.looked < renewPause {
			return undone(tx, err)
		}
	}
	if rerr := d.again(err); errors.Is(rerr, errSound) {
		return undone(tx, err)
	} else if rerr != nil && (writes || d.db == nil) {
		return rerr
	}
	// The old one is left alone: its locks are held for ever.
	return undone(d.once(fn, writes))
}

// undone takes a transaction back that is still open, if there is one.
func undone(tx *bbolt.Tx, err error) error {
	if tx != nil {
		err = errors.Join(err, guarded(tx.Rollback))
	}
	return err
}

// again makes the file anew for a reason. The error is errSound when it is not damaged,
// else a *brokenError. The caller holds turn.
func (d *Database) again(why error) error {
	complete := d.keep[leaseBucket] != nil
	fresh, err := d.renew(why, d.fill, complete)
	d.looked = d.up()
	if errors.Is(err, errSound) {
		return err
	}
	d.lost = d.lost || !complete
	if d.broken != nil && d.db != nil {
		_ = guarded(d.db.Close) // it is in memory only
	}
	d.db, d.broken = fresh, nil
	if err != nil {
		d.broken = &brokenError{why, err}
		return d.broken
	}
	return nil
}

// leasesLost reports whether the file was made anew, or is broken, since it was opened,
// and leases may be missing from what it was made of.
func (d *Database) leasesLost() bool {
	d.turn.Lock()
	defer d.turn.Unlock()
	return d.lost
}

// once runs a transaction. It gives it when it is neither done nor taken back: it
// failed.
func (d *Database) once(fn func(*bbolt.Tx) error, writes bool) (open *bbolt.Tx, err error) {
	inside := false
	err = guarded(func() error {
		tx, err := d.db.Begin(writes)
		if err != nil {
			return err
		}
		open, inside = tx, true
		if err := fn(tx); err != nil {
			return err
		}
		inside = false
		if !writes {
			open = nil
			return tx.Rollback()
		}
		err = tx.Commit() // takes it back when the disk does not take it
		open = nil
		return err
	})
	if fault := (*faultError)(nil); errors.As(err, &fault) {
		fault.inside = inside
	}
	return open, err
}

// fill writes what all users hold.
func (d *Database) fill(tx *bbolt.Tx) error {
	for _, name := range slices.Sorted(maps.Keys(d.keep)) {
		if err := tx.DeleteBucket([]byte(name)); err != nil && !errors.Is(err, berrors.ErrBucketNotFound) {
			return err
		}
		b, err := tx.CreateBucket([]byte(name))
		if err != nil {
			return err
		}
		if err := d.keep[name](b); err != nil {
			return err
		}
	}
	return nil
}

// call is one part of a common transaction.
type call struct {
	fn   func(*bbolt.Tx) error
	done chan error // capacity 1
}

// errSolo asks the caller to do his part by himself.
var errSolo = errors.New("the transaction of several failed")

// Batch is Update, in one transaction with others that come at the same time.
func (d *Database) Batch(fn func(*bbolt.Tx) error) error {
	c := &call{fn, make(chan error, 1)}
	d.mu.Lock()
	d.calls = append(d.calls, c)
	first := len(d.calls) == 1
	d.mu.Unlock()
	if first { // who comes first does it for all
		time.Sleep(batchDelay)
		d.turn.Lock()
		d.mu.Lock()
		calls := d.calls
		d.calls = nil
		d.mu.Unlock()
		d.together(calls)
		d.turn.Unlock()
	}
	err := <-c.done
	if errors.Is(err, errSolo) {
		err = d.Update(fn)
	}
	return err
}

// together runs several parts in one transaction; who fails is left out. The caller
// holds turn.
func (d *Database) together(calls []*call) {
	for len(calls) > 0 {
		failed := -1
		err := d.try(func(tx *bbolt.Tx) error {
			for i, c := range calls {
				failed = i // a panic does not come back
				if err := c.fn(tx); err != nil {
					return err
				}
			}
			failed = -1
			return nil
		}, true)
		if failed >= 0 {
			calls[failed].done <- errSolo
			calls = append(calls[:failed], calls[failed+1:]...)
			continue
		}
		for _, c := range calls {
			c.done <- err
		}
		return
	}
}

// close gives the file back. Idempotent.
func (d *Database) close() error {
	d.turn.Lock()
	defer d.turn.Unlock()
	if d.db == nil {
		d.broken = nil
		return nil
	}
	db := d.db
	d.db, d.broken = nil, nil
	return guarded(db.Close)
}
