package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
)

// skewed is a server whose wall clock is set, that sleeps, restarts and reboots, and
// clients that count the seconds themselves.
type skewed struct {
	t    *testing.T
	dir  string
	wall time.Time
	boot int
	up   time.Duration
	real time.Duration // what has really passed

	st       *store.Store
	clock    *store.Clock
	leases   *lease.Store
	believes map[lease.MAC]skewedLease
}

type skewedLease struct {
	addr  netip.Addr
	until time.Duration // in real time
}

func (w *skewed) open() {
	w.t.Helper()
	var err error
	if w.st, err = store.Open(w.dir, store.Options{}); err != nil {
		w.t.Fatal(err)
	}
	c, err := w.st.Clock(store.Ticks{
		Wall: func() time.Time { return w.wall }, Up: func() time.Duration { return w.up }, Boot: fmt.Sprint("boot ", w.boot),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if w.leases, err = lease.Open(w.st.DB(), c.Now); err != nil {
		w.t.Fatal(err)
	}
	c.Reached(w.leases.Newest())
	w.clock = c
}

func (w *skewed) close() {
	w.t.Helper()
	if err := w.st.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// pass lets time go by, for everybody.
func (w *skewed) pass(d time.Duration) {
	w.real += d
	w.up += d
	w.wall = w.wall.Add(d)
}

// ask has a client ask for an address, its own first if it has one.
func (w *skewed) ask(n byte) {
	w.t.Helper()
	m := lease.MAC{2, 0, 0, 0, 0, n}
	want := lease.Want{MAC: m, Pool: lease.Pool{Ranges: []lease.Range{{From: netip.MustParseAddr("10.0.0.10"), To: netip.MustParseAddr("10.0.0.13")}}}}
	mine := w.believes[m]
	a := mine.addr
	if !a.IsValid() || w.real >= mine.until {
		var err error
		if a, err = w.leases.Offer(want); err != nil {
			if !errors.Is(err, lease.ErrExhausted) {
				w.t.Fatal(err)
			}
			return
		}
	}
	d, err := w.leases.Bind(want, a, 10*time.Minute)
	switch {
	case errors.Is(err, lease.ErrTaken), errors.Is(err, lease.ErrNotAllowed):
		delete(w.believes, m)
		return
	case err != nil:
		w.t.Fatal(err)
	}
	w.believes[m] = skewedLease{a, w.real + d}
	for other, l := range w.believes {
		if other != m && l.addr == a && w.real < l.until {
			w.t.Fatalf("%s is given to %s, and %s has it for another %s", a, m, other, l.until-w.real)
		}
	}
}

// TestNoLeaseTwiceWhateverTheClockShows: more clients than addresses, and a server whose
// clock is set ten years forward and back, that is suspended, restarted and rebooted.
func TestNoLeaseTwiceWhateverTheClockShows(t *testing.T) {
	const decade = 10 * 365 * 24 * time.Hour
	gave, renewed := 0, 0
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := &skewed{t: t, dir: t.TempDir(), wall: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), up: time.Hour, believes: map[lease.MAC]skewedLease{}}
		w.open()
		for range 300 {
			switch r.IntN(12) {
			case 0:
				w.wall = w.wall.Add(decade)
			case 1:
				w.wall = w.wall.Add(-decade)
			case 2: // suspended: the clients of a lab are not
				w.pass(time.Duration(r.IntN(900)) * time.Second)
			case 3:
				w.close()
				w.pass(time.Duration(r.IntN(60)) * time.Second)
				w.open()
			case 4: // rebooted, with a clock that knows nothing of the time
				w.close()
				w.pass(time.Duration(r.IntN(2)*r.IntN(300)) * time.Second)
				w.boot++
				w.up, w.wall = 5*time.Second, time.Date(1970+r.IntN(80), 1, 1, 0, 0, 0, 0, time.UTC)
				w.open()
			case 5:
				if err := w.clock.Save(); err != nil {
					t.Fatal(err)
				}
			case 6:
				w.pass(time.Duration(r.IntN(120)) * time.Second)
			default:
				before := len(w.believes)
				w.ask(byte(r.IntN(9)))
				if len(w.believes) > before {
					gave++
				} else {
					renewed++
				}
			}
		}
		w.close()
	}
	if gave < 30 || renewed < 100 {
		t.Errorf("%d leases given, %d renewals or refusals: it shows nothing", gave, renewed)
	}
}
