package lease_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
)

func TestMain(m *testing.M) {
	if os.Getenv(crashFile) != "" {
		os.Exit(bindUntilKilled())
	}
	goleak.VerifyTestMain(m)
}

// clock is a clock that stands still until told to move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func openDB(t testing.TB, path string) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	db.MaxBatchDelay = 0
	t.Cleanup(func() { db.Close() })
	return db
}

func newStore(t testing.TB) (*lease.Store, *clock, *bbolt.DB) {
	t.Helper()
	db, c := openDB(t, filepath.Join(t.TempDir(), "db")), newClock()
	s, err := lease.Open(db, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	return s, c, db
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func mac(n byte) lease.MAC { return lease.MAC{0x52, 0x54, 0, 0, 0, n} }

// pool has four addresses, .10 to .13.
func pool(excluded ...string) lease.Pool {
	p := lease.Pool{Ranges: []lease.Range{{From: ip("10.0.0.10"), To: ip("10.0.0.11")}, {From: ip("10.0.0.12"), To: ip("10.0.0.13")}}, Excluded: map[netip.Addr]bool{}}
	for _, a := range excluded {
		p.Excluded[ip(a)] = true
	}
	return p
}

func want(n byte) lease.Want { return lease.Want{MAC: mac(n), Network: "subnet.lan", Pool: pool()} }

// take is an offer and its acceptance.
func take(t testing.TB, s *lease.Store, w lease.Want, d time.Duration) netip.Addr {
	t.Helper()
	a, err := s.Offer(w)
	if err != nil {
		t.Fatalf("offer to %s: %v", w.MAC, err)
	}
	if got, err := s.Bind(w, a, d); err != nil || got != d {
		t.Fatalf("bind %s to %s: %v, %v", a, w.MAC, got, err)
	}
	return a
}

const minutes = 10 * time.Minute

func TestSameMachineSameAddress(t *testing.T) {
	s, c, _ := newStore(t)
	first := take(t, s, want(1), minutes)
	if again, _ := s.Offer(want(1)); again != first {
		t.Errorf("while leased: offered %s, has %s", again, first)
	}
	c.Add(time.Hour)
	take(t, s, want(2), minutes)
	take(t, s, want(3), minutes)
	if again := take(t, s, want(1), minutes); again != first {
		t.Errorf("after expiry: got %s, had %s", again, first)
	}
}

func TestOfferIsPeekAndIsKept(t *testing.T) {
	s, c, _ := newStore(t)
	seen := map[netip.Addr]bool{}
	for n := byte(1); n <= 4; n++ {
		p, err := s.Peek(want(n))
		if err != nil {
			t.Fatal(err)
		}
		o, err := s.Offer(want(n))
		if err != nil || o != p || seen[o] {
			t.Fatalf("machine %d: peeked %s, offered %s (%v), offered to somebody before: %v", n, p, o, err, seen[o])
		}
		seen[o] = true
	}
	if _, err := s.Offer(want(5)); !errors.Is(err, lease.ErrExhausted) {
		t.Fatalf("everything is offered, got %v", err)
	}
	c.Add(lease.OfferTime)
	if _, err := s.Offer(want(5)); err != nil {
		t.Fatalf("the offers are over: %v", err)
	}
}

func TestExhaustionTakesTheOldestExpired(t *testing.T) {
	s, c, _ := newStore(t)
	var first netip.Addr
	for n := byte(1); n <= 4; n++ {
		a := take(t, s, want(n), minutes)
		if n == 1 {
			first = a
		}
		c.Add(time.Second)
	}
	if _, err := s.Offer(want(5)); !errors.Is(err, lease.ErrExhausted) {
		t.Fatalf("full pool: %v", err)
	}
	c.Add(time.Hour)
	if got := take(t, s, want(5), minutes); got != first {
		t.Errorf("got %s, the oldest is %s", got, first)
	}
	if _, ok := s.ByMAC(mac(1)); ok {
		t.Error("the record of the machine that lost its address is still there")
	}
}

func TestGraceAfterExpiry(t *testing.T) {
	s, c, _ := newStore(t)
	w := want(1)
	w.Pool = lease.Pool{Ranges: []lease.Range{{From: ip("10.0.0.10"), To: ip("10.0.0.10")}}}
	take(t, s, w, minutes)
	other := w
	other.MAC = mac(2)
	c.Add(minutes)
	if _, err := s.Offer(other); !errors.Is(err, lease.ErrExhausted) {
		t.Errorf("at the second of expiry: %v", err)
	}
	c.Add(lease.Grace)
	if _, err := s.Offer(other); err != nil {
		t.Error(err)
	}
}

func TestExclusionsHeldAndDeclined(t *testing.T) {
	s, c, _ := newStore(t)
	w := want(1)
	w.Pool = pool("10.0.0.10")
	// Held looks leases up itself, as the daemon's does: it must not deadlock.
	w.Held = func(a netip.Addr) bool { s.ByAddr(a); return a == ip("10.0.0.11") }
	for range 2 {
		a, err := s.Offer(w)
		if err != nil || a == ip("10.0.0.10") || a == ip("10.0.0.11") {
			t.Fatalf("offered %s, %v", a, err)
		}
		if ok, err := s.Decline(w.MAC, a); !ok || err != nil {
			t.Fatalf("decline %s: %v, %v", a, ok, err)
		}
	}
	if a, err := s.Offer(w); !errors.Is(err, lease.ErrExhausted) {
		t.Fatalf("offered %s, %v", a, err)
	}
	if _, err := s.Bind(w, ip("10.0.0.11"), minutes); !errors.Is(err, lease.ErrTaken) {
		t.Errorf("bind of a held address: %v", err)
	}
	if ok, _ := s.Decline(mac(9), ip("10.0.0.12")); ok {
		t.Error("a stranger may decline addresses")
	}
	c.Add(lease.DeclineTime)
	if _, err := s.Offer(w); err != nil {
		t.Error(err)
	}
}

func TestDeclineOfALease(t *testing.T) {
	s, _, _ := newStore(t)
	a := take(t, s, want(1), minutes)
	if ok, err := s.Decline(mac(1), a); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, ok := s.ByAddr(a); ok {
		t.Error("the lease is still there")
	}
	if b := take(t, s, want(1), minutes); a == b {
		t.Error("the declined address was given again")
	}
}

func TestRelease(t *testing.T) {
	s, c, _ := newStore(t)
	a := take(t, s, want(1), minutes)
	if err := errors.Join(s.Release(mac(2), a), s.Release(mac(1), ip("10.0.0.99"))); err != nil {
		t.Fatal(err)
	}
	if l, _ := s.ByAddr(a); l.Expired(c.Now()) {
		t.Error("a stranger may release, or the machine what it does not have")
	}
	if err := s.Release(mac(1), a); err != nil {
		t.Fatal(err)
	}
	if l, ok := s.ByAddr(a); !ok || !l.Expired(c.Now()) {
		t.Errorf("after release: %+v", l)
	}
	if b := take(t, s, want(1), minutes); a != b {
		t.Errorf("came back to %s, had %s", b, a)
	}
}

func TestAddressMoved(t *testing.T) {
	s, c, _ := newStore(t)
	old := want(1)
	old.Reserved = ip("10.0.0.21")
	if a := take(t, s, old, minutes); a != old.Reserved {
		t.Fatal(a)
	}
	// The commit: machine 1 moves to .22, machine 2 gets .21.
	moved, owner := want(1), want(2)
	moved.Reserved, owner.Reserved = ip("10.0.0.22"), ip("10.0.0.21")
	c.Add(4 * time.Minute)
	if d, err := s.Bind(moved, ip("10.0.0.21"), minutes); err != nil || d != 6*time.Minute {
		t.Fatalf("renewal of the old address: %v, %v; want the 6 minutes that are left", d, err)
	}
	a := take(t, s, owner, minutes)
	if !pool().Contains(a) {
		t.Fatalf("the new owner got %s, want a pool address", a)
	}
	c.Add(6 * time.Minute)
	if _, err := s.Bind(moved, ip("10.0.0.21"), minutes); !errors.Is(err, lease.ErrNotAllowed) {
		t.Fatalf("renewal after expiry: %v", err)
	}
	c.Add(lease.Grace)
	if d, err := s.Bind(owner, a, minutes); err != nil || d >= minutes {
		t.Errorf("its own address is free now, the pool address was renewed: %v, %v", d, err)
	}
	if got := take(t, s, owner, minutes); got != owner.Reserved {
		t.Errorf("the owner got %s", got)
	}
	if got := take(t, s, moved, minutes); got != moved.Reserved {
		t.Errorf("the mover got %s", got)
	}
}

func TestPoolShrunk(t *testing.T) {
	s, c, _ := newStore(t)
	a := take(t, s, want(1), minutes)
	w := want(1)
	w.Pool.Ranges = []lease.Range{{From: ip("10.0.0.100"), To: ip("10.0.0.101")}}
	c.Add(time.Minute)
	if d, err := s.Bind(w, a, minutes); err != nil || d != 9*time.Minute {
		t.Errorf("renewal: %v, %v", d, err)
	}
	if b := take(t, s, w, minutes); !w.Pool.Contains(b) {
		t.Errorf("a new exchange gave %s", b)
	}
}

func TestShorterLeaseTimeNeverEndsALeaseEarly(t *testing.T) {
	s, c, _ := newStore(t)
	a := take(t, s, want(1), time.Hour)
	end := c.Now().Add(time.Hour)
	c.Add(time.Minute)
	if d, err := s.Bind(want(1), a, minutes); err != nil || d != minutes {
		t.Fatal(d, err)
	}
	if l, _ := s.ByAddr(a); !l.Expires.Equal(end) {
		t.Errorf("ends %s, the client was told %s", l.Expires, end)
	}
}

func TestInfinite(t *testing.T) {
	s, c, _ := newStore(t)
	a := take(t, s, want(1), lease.Infinite)
	c.Add(100 * 365 * 24 * time.Hour)
	if l, ok := s.ByAddr(a); !ok || l.Expired(c.Now()) {
		t.Errorf("%+v", l)
	}
}

func TestAskingForAnotherMachinesAddress(t *testing.T) {
	s, _, _ := newStore(t)
	a := take(t, s, want(1), minutes)
	if _, err := s.Bind(want(2), a, minutes); !errors.Is(err, lease.ErrTaken) {
		t.Errorf("leased: %v", err)
	}
	b, err := s.Offer(want(3))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Bind(want(2), b, minutes); !errors.Is(err, lease.ErrTaken) {
		t.Errorf("offered: %v", err)
	}
	if _, err := s.Bind(want(2), ip("10.9.9.9"), minutes); !errors.Is(err, lease.ErrNotAllowed) {
		t.Errorf("outside: %v", err)
	}
	w := want(4)
	if w.Requested, err = s.Peek(w); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Offer(w); got != w.Requested {
		t.Errorf("asked for %s, offered %s", w.Requested, got)
	}
}

func TestReopenWithoutClose(t *testing.T) {
	s, c, db := newStore(t)
	for n := byte(1); n <= 3; n++ {
		take(t, s, want(n), minutes)
	}
	if err := s.Release(mac(2), func() netip.Addr { l, _ := s.ByMAC(mac(2)); return l.Addr }()); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	src, err := os.Open(db.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(copied)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(dst, src); err != nil {
		t.Fatal(err)
	}
	dst.Close()
	again, err := lease.Open(openDB(t, copied), c.Now)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.All(), again.All(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-before +after\n%s", diff)
	}
	// The offer is forgotten, its address is not lost.
	if _, err := again.Bind(want(4), func() netip.Addr { a, _ := s.Offer(want(4)); return a }(), minutes); err != nil {
		t.Error(err)
	}
}

func TestFailingDiskPromisesNothing(t *testing.T) {
	s, c, db := newStore(t)
	a := take(t, s, want(1), minutes)
	before := s.All()
	c.Add(time.Hour)
	o, err := s.Offer(want(2))
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	for name, try := range map[string]func() error{
		"new":     func() error { _, err := s.Bind(want(2), o, minutes); return err },
		"ousting": func() error { w := want(3); w.Requested = a; _, err := s.Bind(w, a, minutes); return err },
		"renewal": func() error { _, err := s.Bind(want(1), a, minutes); return err },
	} {
		err := try()
		if err == nil || errors.Is(err, lease.ErrTaken) || errors.Is(err, lease.ErrNotAllowed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if diff := cmp.Diff(before, s.All(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("memory says what the disk does not\n%s", diff)
	}
}

// A BOOTP client never renews: what it got for ever stays its own, even if its
// system asks again by DHCP for a minute.
func TestForEverIsNotShortened(t *testing.T) {
	s, c, _ := newStore(t)
	m, other, a := lease.MAC{2, 1}, lease.MAC{2, 2}, netip.MustParseAddr("10.0.0.10")
	want := func(m lease.MAC) lease.Want {
		return lease.Want{MAC: m, Pool: lease.Pool{Ranges: []lease.Range{{From: a, To: a}}}}
	}
	if _, err := s.Bind(want(m), a, lease.Infinite); err != nil {
		t.Fatal(err)
	}
	if d, err := s.Bind(want(m), a, time.Minute); err != nil || d != time.Minute {
		t.Fatalf("%v, %v", d, err)
	}
	c.Add(24 * time.Hour)
	if got, err := s.Offer(want(other)); !errors.Is(err, lease.ErrExhausted) {
		t.Errorf("another machine is offered %v, %v", got, err)
	}
}

func TestMACInJSON(t *testing.T) {
	if got, err := json.Marshal(mac(1)); err != nil || string(got) != `"`+mac(1).String()+`"` {
		t.Errorf("%s, %v", got, err)
	}
}
