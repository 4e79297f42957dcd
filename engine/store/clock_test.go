package store

import (
	"testing"
	"time"
)

// machine is what a Clock goes by, as a test sets it.
type machine struct {
	wall time.Time
	boot string
	up   time.Duration
}

func (m *machine) ticks() Ticks {
	return Ticks{Wall: func() time.Time { return m.wall }, Boot: m.boot, Up: func() time.Duration { return m.up }}
}

// pass lets time go by, on both clocks.
func (m *machine) pass(d time.Duration) {
	m.wall = m.wall.Add(d)
	m.up += d
}

func openHere(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func clockOf(t *testing.T, s *Store, m *machine) *Clock {
	t.Helper()
	c, err := s.Clock(m.ticks())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const decade = 10 * 365 * 24 * time.Hour

func TestClockGoesOnWhenTheWallClockIsSet(t *testing.T) {
	for name, jump := range map[string]time.Duration{"forward": decade, "back": -decade} {
		t.Run(name, func(t *testing.T) {
			s := openHere(t)
			m := &machine{wall: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), boot: "one", up: time.Hour}
			c := clockOf(t, s, m)
			start := c.Now()
			if !start.Equal(m.wall) {
				t.Errorf("it begins at %s, and the wall clock shows %s", start, m.wall)
			}
			m.pass(time.Minute)
			m.wall = m.wall.Add(jump)
			m.pass(time.Minute)
			if got := c.Now().Sub(start); got != 2*time.Minute {
				t.Errorf("%s have passed by it, 2m by the machine", got)
			}
			if got, want := c.Wall(start), m.wall.Add(-2*time.Minute); !got.Equal(want) {
				t.Errorf("its start is shown as %s, want %s", got, want)
			}
			if !c.Wall(time.Time{}).IsZero() {
				t.Error("no time is shown as one")
			}

			// The process starts again, and the wall clock is set meanwhile.
			if err := c.Save(); err != nil {
				t.Fatal(err)
			}
			m.wall = m.wall.Add(jump)
			m.pass(time.Hour)
			if got := clockOf(t, s, m).Now().Sub(start); got != time.Hour+2*time.Minute {
				t.Errorf("after a restart %s have passed, want 1h2m", got)
			}
		})
	}
}

// TestClockNeverGoesBackOverAReboot: what was given out before it lies before it, and
// nothing ends because the machine came up in another year.
func TestClockNeverGoesBackOverAReboot(t *testing.T) {
	for name, jump := range map[string]time.Duration{"forward": decade, "back": -decade, "not": 0} {
		t.Run(name, func(t *testing.T) {
			s := openHere(t)
			m := &machine{wall: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), boot: "one", up: time.Hour}
			c := clockOf(t, s, m)
			written := c.Now()
			m.pass(clockEvery - time.Second) // just before it would have been written down again
			before := c.Now()
			m.boot, m.up, m.wall = "two", 20*time.Second, m.wall.Add(jump)
			c = clockOf(t, s, m)
			if after := c.Now(); !after.Equal(written) {
				t.Errorf("%s was written down before the reboot, %s is shown after it", written, after)
			}
			c.Reached(before)
			if after := c.Now(); !after.Equal(before) {
				t.Errorf("%s was given out before the reboot, %s is shown after it", before, after)
			}
			c.Reached(written)
			if after := c.Now(); !after.Equal(before) {
				t.Errorf("it went back to %s", after)
			}
		})
	}
}

func TestClockCountsSuspend(t *testing.T) {
	s := openHere(t)
	c, err := s.Clock(Ticks{})
	if err != nil {
		t.Fatal(err)
	}
	one := c.Elapsed()
	two := c.Elapsed()
	if one <= 0 || two < one {
		t.Errorf("up for %s, then %s", one, two)
	}
	if d := time.Since(c.Now()); d > time.Minute || d < -time.Minute {
		t.Errorf("a new clock is %s from the wall clock", d)
	}
}
