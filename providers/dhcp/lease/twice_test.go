package lease_test

import (
	"errors"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
)

// twiceDB is a database whose transactions fail once each, after what was to be done in
// them, and are tried again.
type twiceDB struct{ *bbolt.DB }

var errTwice = errors.New("once more")

func (d twiceDB) Update(fn func(*bbolt.Tx) error) error {
	err := d.DB.Update(func(tx *bbolt.Tx) error { return errors.Join(fn(tx), errTwice) })
	if !errors.Is(err, errTwice) {
		return err
	}
	return d.DB.Update(fn)
}

func (d twiceDB) View(fn func(*bbolt.Tx) error) error {
	err := d.DB.View(func(tx *bbolt.Tx) error { return errors.Join(fn(tx), errTwice) })
	if !errors.Is(err, errTwice) {
		return err
	}
	return d.DB.View(fn)
}

func (d twiceDB) Batch(fn func(*bbolt.Tx) error) error { return d.Update(fn) }

// The second call of what reads the leases took each for an older record of its own
// address, and deleted it.
func TestLeasesAreReadTwice(t *testing.T) {
	db := twiceDB{openDB(t, filepath.Join(t.TempDir(), "db"))}
	s, err := lease.Open(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := byte(1); n <= 4; n++ {
		take(t, s, want(n), minutes)
	}
	for range 2 {
		s, err := lease.Open(db, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(s.All()); n != 4 {
			t.Fatalf("%d of 4 leases are left", n)
		}
	}
}
