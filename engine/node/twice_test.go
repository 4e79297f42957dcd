package node

import (
	"errors"
	"testing"

	"go.etcd.io/bbolt"
)

// twiceDB is a database whose transactions fail once each, after what was to be done in
// them, and are tried again.
type twiceDB struct {
	*bbolt.DB
	between func() // is called then, unless it is nil
}

var errTwice = errors.New("once more")

func (d *twiceDB) Update(fn func(*bbolt.Tx) error) error {
	err := d.DB.Update(func(tx *bbolt.Tx) error { return errors.Join(fn(tx), errTwice) })
	if !errors.Is(err, errTwice) {
		return err
	}
	if d.between != nil {
		d.between()
	}
	return d.DB.Update(fn)
}

func (d *twiceDB) View(fn func(*bbolt.Tx) error) error {
	err := d.DB.View(func(tx *bbolt.Tx) error { return errors.Join(fn(tx), errTwice) })
	if !errors.Is(err, errTwice) {
		return err
	}
	return d.DB.View(fn)
}

func (d *twiceDB) Batch(fn func(*bbolt.Tx) error) error { return d.Update(fn) }

// What a transaction did that was taken back counts for nothing: each machine was loaded
// twice, and what became of a write was told by the one that had failed.
func TestTransactionsAreTriedAgain(t *testing.T) {
	l := newLab(t)
	db := &twiceDB{DB: l.db}
	l.cfg.DB = db
	l.boot(macA, true, "PXEClient", "iPXE")
	l.ack(macA, addrA, "PXEClient", "iPXE")
	l.boot(macB, true, "PXEClient", "iPXE")
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	again, err := New(l.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if n := again.loose.Len() + again.guests.Len() + again.held.Len(); n != 2 || len(again.machines) != 2 {
		t.Errorf("%d machines are in the lists, %d are known; there are 2", n, len(again.machines))
	}

	// A machine is forgotten between the two calls.
	again.dirty[macA] = true
	db.between = func() {
		again.mu.Lock()
		defer again.mu.Unlock()
		delete(again.machines, macA)
	}
	if err := again.flush(); err != nil {
		t.Fatal(err)
	}
	if again.stored[macA] {
		t.Error("its record is deleted, and counts as written")
	}
}
