package lease_test

import (
	"bytes"
	"errors"
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
	newcomer.Answers = func(at netip.Addr) (lease.MAC, bool) { asked[at]++; return mac(9), at == a }
	if got, _ := s.Offer(newcomer); got != a || len(asked) != 0 {
		t.Fatalf("nothing is lost, and it is offered %s; asked %v", got, asked)
	}
	s.Withdraw(newcomer.MAC)
	s.Careful(c.Now(), nil)
	c.Add(1)
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

// A record that is older than the loss tells nothing: another machine's may be lost.
func TestOldRecordIsNoProof(t *testing.T) {
	s, c, _ := newStore(t)
	a := take(t, s, want(1), minutes)
	c.Add(lease.CarefulTime)
	s.Careful(c.Now(), nil)
	c.Add(minutes)
	w := want(1)
	w.Answers = func(at netip.Addr) (lease.MAC, bool) { return mac(2), at == a }
	got, err := s.Offer(w)
	if err != nil || got == a {
		t.Fatalf("offered %s, %v, on which another machine lives", got, err)
	}
	if got, err := s.Peek(w); err != nil || got == a {
		t.Errorf("a moment later %s, %v", got, err)
	}
	// Nobody answers at another machine's old address: it is to be had.
	if _, err := s.Bind(w, got, minutes); err != nil {
		t.Fatal(err)
	}
	asked := 0
	w.Answers = func(netip.Addr) (lease.MAC, bool) { asked++; return lease.MAC{}, false }
	if again, err := s.Offer(w); err != nil || again != got || asked != 0 {
		t.Errorf("its new one: %s, %v, asked %d times", again, err, asked)
	}
}

// bigPool has 200 addresses.
func bigPool(n byte) lease.Want {
	return lease.Want{MAC: mac(n), Pool: lease.Pool{Ranges: []lease.Range{{From: ip("10.0.1.1"), To: ip("10.0.1.200")}}}}
}

// A router that does proxy ARP answers for every address. No new machine got one for 30
// days, and each packet asked about the whole pool.
func TestProxyARPIsNotBelieved(t *testing.T) {
	s, c, _ := newStore(t)
	var told []lease.MAC
	s.Careful(c.Now(), func(m lease.MAC) { told = append(told, m) })
	router := mac(99)
	for n := byte(1); n < 10; n++ {
		asked := 0
		w := bigPool(n)
		w.Answers = func(netip.Addr) (lease.MAC, bool) { asked++; return router, true }
		if a, err := s.Offer(w); err != nil || asked > 8 {
			t.Errorf("machine %d: %s, %v, asked %d times", n, a, err, asked)
		}
	}
	if len(told) != 1 || told[0] != router {
		t.Errorf("told of %v", told)
	}
}

// A pool full of machines of which nothing is known is asked about bit by bit.
func TestFewAreAskedAtOnce(t *testing.T) {
	s, c, _ := newStore(t)
	s.Careful(c.Now(), nil)
	asked, all, packets := 0, map[netip.Addr]int{}, 0
	w := bigPool(1)
	free := ip("10.0.1.77")
	w.Answers = func(a netip.Addr) (lease.MAC, bool) {
		asked++
		all[a]++
		return lease.MAC{2, 0, 0, 0, 0, a.As4()[3]}, a != free
	}
	for {
		packets++
		asked = 0
		a, err := s.Offer(w)
		if asked > 8 {
			t.Fatalf("asked %d times for one packet", asked)
		}
		if err == nil {
			if a != free || packets > 200/8+1 {
				t.Errorf("offered %s by packet %d", a, packets)
			}
			break
		}
		if !errors.Is(err, lease.ErrExhausted) || packets > 200 {
			t.Fatal(err)
		}
	}
	for a, n := range all {
		if n > 1 {
			t.Errorf("%s was asked about %d times", a, n)
		}
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
