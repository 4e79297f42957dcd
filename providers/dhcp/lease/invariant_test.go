package lease_test

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
)

// belief is what a client thinks it has.
type belief struct {
	addr  netip.Addr
	until time.Time
}

// world is a store, and clients that believe what it told them.
type world struct {
	t        testing.TB
	s        *lease.Store
	c        *clock
	reopen   func() *lease.Store
	believes map[lease.MAC]belief
	reserved map[lease.MAC]netip.Addr // by configuration
	low      int                      // first address of the pool
	held     map[netip.Addr]lease.MAC // whose root is attached from there
}

func (w *world) want(m lease.MAC) lease.Want {
	base := ip("10.0.0.0").As4()
	at := func(n int) netip.Addr { base[3] = byte(n); return netip.AddrFrom4(base) }
	p := lease.Pool{Ranges: []lease.Range{{From: at(w.low), To: at(w.low + 5)}}, Excluded: map[netip.Addr]bool{at(w.low + 2): true}}
	for _, a := range w.reserved {
		p.Excluded[a] = true
	}
	return lease.Want{MAC: m, Pool: p, Reserved: w.reserved[m], Held: func(a netip.Addr) bool {
		h, ok := w.held[a]
		return ok && h != m
	}}
}

// step does one random thing. op and arg are any bytes.
func (w *world) step(op, arg byte) {
	m := mac(arg % 9)
	mine := w.believes[m]
	d := time.Duration(arg%50+1) * time.Second
	bind := func(a netip.Addr) {
		got, err := w.s.Bind(w.want(m), a, d)
		if err != nil {
			if !errors.Is(err, lease.ErrTaken) && !errors.Is(err, lease.ErrNotAllowed) {
				w.t.Fatal(err)
			}
			if a == mine.addr { // it was told no
				delete(w.believes, m)
			}
			return
		}
		if got > d && a != mine.addr {
			w.t.Fatalf("told %s, wanted %s", got, d)
		}
		until := w.c.Now().Add(got)
		if a == mine.addr && mine.until.After(until) && arg&1 == 0 {
			until = mine.until // the answer was lost
		}
		w.believes[m] = belief{a, until}
	}
	switch op % 12 {
	case 0, 1, 2:
		a, err := w.s.Offer(w.want(m))
		if err != nil {
			return
		}
		if h, ok := w.held[a]; ok && h != m {
			w.t.Fatalf("%s was offered to %s while %s lives there", a, m, h)
		}
		if op%12 != 0 {
			bind(a)
		}
	case 3, 4:
		if mine.addr.IsValid() {
			bind(mine.addr)
		}
	case 5: // an arbitrary address, as after a crash or from a liar
		b := ip("10.0.0.0").As4()
		b[3] = arg % 32
		bind(netip.AddrFrom4(b))
	case 6:
		if err := w.s.Release(m, mine.addr); err != nil {
			w.t.Fatal(err)
		}
		delete(w.believes, m)
	case 7:
		if _, err := w.s.Decline(m, mine.addr); err != nil {
			w.t.Fatal(err)
		}
		delete(w.believes, m)
	case 8:
		w.c.Add(time.Duration(arg) * time.Second / 4)
	case 9:
		w.s = w.reopen()
	case 10: // a commit
		b := ip("10.0.0.0").As4()
		b[3] = arg % 32
		a := netip.AddrFrom4(b)
		for other, r := range w.reserved {
			if r == a {
				delete(w.reserved, other)
			}
		}
		w.reserved[m] = a
		w.low = int(arg % 20)
	case 11:
		if _, taken := w.held[mine.addr]; mine.addr.IsValid() && !taken && w.c.Now().Before(mine.until) {
			w.held[mine.addr] = m
		} else {
			for a, h := range w.held {
				if h == m {
					delete(w.held, a)
				}
			}
		}
	}
	w.check()
}

// check: no two clients believe that they have the same address now, and the
// store knows of every belief.
func (w *world) check() {
	now := w.c.Now()
	at := map[netip.Addr]lease.MAC{}
	for m, b := range w.believes {
		if !now.Before(b.until) {
			continue
		}
		if other, ok := at[b.addr]; ok {
			w.t.Fatalf("%s is leased to %s and to %s", b.addr, m, other)
		}
		at[b.addr] = m
		l, ok := w.s.ByAddr(b.addr)
		if !ok || l.MAC != m || l.Expires.Before(b.until) {
			w.t.Fatalf("%s believes in %s until %s, the store says %+v", m, b.addr, b.until, l)
		}
	}
	seen := map[netip.Addr]bool{}
	for _, l := range w.s.All() {
		if seen[l.Addr] {
			w.t.Fatalf("two records of %s", l.Addr)
		}
		seen[l.Addr] = true
	}
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, c: newClock(), believes: map[lease.MAC]belief{}, reserved: map[lease.MAC]netip.Addr{}, low: 10, held: map[netip.Addr]lease.MAC{}}
	db := openDB(t, filepath.Join(t.TempDir(), "db"))
	w.reopen = func() *lease.Store {
		s, err := lease.Open(db, w.c.Now)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	w.s = w.reopen()
	return w
}

func FuzzNoLeaseTwice(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		b := make([]byte, 400)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, ops []byte) {
		w := newWorld(t)
		for len(ops) >= 2 && len(ops) < 4000 {
			w.step(ops[0], ops[1])
			ops = ops[2:]
		}
	})
}

// Many clients at once, with the real clock: whoever is told yes has the address
// alone.
func TestConcurrentClients(t *testing.T) {
	db := openDB(t, filepath.Join(t.TempDir(), "db"))
	s, err := lease.Open(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := lease.Pool{Ranges: []lease.Range{{From: ip("10.0.1.0"), To: ip("10.0.1.63")}}}
	var mu sync.Mutex
	owner := map[netip.Addr]lease.MAC{}
	var wg sync.WaitGroup
	for n := range 100 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			w := lease.Want{MAC: mac(byte(n)), Pool: p}
			for range 5 {
				a, err := s.Offer(w)
				if errors.Is(err, lease.ErrExhausted) {
					return
				}
				if _, err := s.Bind(w, a, time.Hour); err != nil {
					t.Errorf("bind %s to %s: %v", a, w.MAC, err)
					return
				}
				mu.Lock()
				if m, ok := owner[a]; ok && m != w.MAC {
					t.Errorf("%s is leased to %s and %s", a, m, w.MAC)
				}
				owner[a] = w.MAC
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	if len(owner) != 64 {
		t.Errorf("%d of 64 addresses were given", len(owner))
	}
}
