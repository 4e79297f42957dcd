package lease_test

import (
	"bytes"
	"net/netip"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
)

// After leases were lost, nobody is offered an address at which somebody answers of whom
// nothing is known; who has it gets it.
func TestLostLeasesAreNotGivenToOthers(t *testing.T) {
	s, c, _ := newStore(t)
	a, err := s.Peek(want(1))
	if err != nil {
		t.Fatal(err)
	}
	asked := map[netip.Addr]int{}
	newcomer := want(1)
	newcomer.Answers = func(at netip.Addr) bool { asked[at]++; return at == a }
	if got, _ := s.Offer(newcomer); got != a || len(asked) != 0 {
		t.Fatalf("nothing is lost, and it is offered %s; asked %v", got, asked)
	}
	s.Withdraw(newcomer.MAC)
	s.Careful(c.Now())
	b, err := s.Offer(newcomer)
	if err != nil || b == a || asked[a] != 1 || asked[b] != 1 {
		t.Fatalf("offered %s, %v; asked %v", b, err, asked)
	}
	if got, _ := s.Offer(newcomer); got != b || asked[a] != 1 {
		t.Errorf("then %s; asked %v", got, asked)
	}
	// The machine that lives there renews, and is known from now on.
	if _, err := s.Bind(want(9), a, minutes); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Bind(newcomer, b, minutes); err != nil {
		t.Fatal(err)
	}
	asked = map[netip.Addr]int{}
	c.Add(2 * minutes)
	if got, _ := s.Offer(newcomer); got != b || len(asked) != 0 {
		t.Errorf("its own address: %s, asked %v", got, asked)
	}
	// Not for ever.
	c.Add(lease.CarefulTime)
	late := want(3)
	late.Answers = newcomer.Answers
	if _, err := s.Offer(late); err != nil || len(asked) != 0 {
		t.Errorf("%v, asked %v", err, asked)
	}
}

// Any flipped bit of a record is noticed: it could give an address to another machine.
func TestRecordTellsEveryFlippedBit(t *testing.T) {
	db := openDB(t, filepath.Join(t.TempDir(), "db"))
	s, err := lease.Open(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	take(t, s, want(1), minutes)
	err = db.Update(func(tx *bbolt.Tx) error {
		key, value := tx.Bucket([]byte(lease.Bucket)).Cursor().First()
		key, value = bytes.Clone(key), bytes.Clone(value)
		if !lease.Stray(key, value) || lease.Whole(key, value) != nil {
			t.Errorf("%q is not whole", value)
		}
		for _, b := range [][]byte{key, value} {
			for i := range 8 * len(b) {
				b[i/8] ^= 1 << (i % 8)
				if lease.Whole(key, value) == nil {
					t.Errorf("%x %q passes", key, value)
				}
				b[i/8] ^= 1 << (i % 8)
			}
		}
		// As older programs wrote it.
		old := value[:bytes.IndexByte(value, '\n')]
		if lease.Whole(key, old) != nil || lease.Stray(key, old) {
			t.Errorf("%q: %v", old, lease.Whole(key, old))
		}
		// What is written down anew is what there is.
		b, err := tx.CreateBucket([]byte("again"))
		if err == nil {
			err = s.Fill(b)
		}
		if err != nil || !bytes.Equal(b.Get(key), value) {
			t.Errorf("written anew: %q, %v", b.Get(key), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
