package store

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
)

// Clock gives times that promises to machines are counted in: leases, boot sessions.
// They go on with what really passed, in suspend too, and never jump: a wall clock
// that is set years forward, or comes up in 1970, ends no lease early and keeps none
// for years. After a reboot of this machine they go on from where they were, as if no
// time had passed: a lease then lasts longer than its machine believes, which harms
// nobody. Over a restart of the process they lose nothing.
//
// Times of a Clock are not for people: Wall makes them so. Safe for concurrent use.
type Clock struct {
	db *Database
	by Ticks

	base time.Time // what the Clock showed when the machine had been up for so long
	up   time.Duration

	mu sync.Mutex // guards what follows; taken last
	// lost is what Lost gives; news says that this was not known at the last start.
	lost time.Time
	news bool
}

// Ticks is what a Clock goes by.
type Ticks struct {
	Wall func() time.Time     // nil: time.Now
	Up   func() time.Duration // since this machine booted, suspend included; nil: what the kernel says
	Boot string               // which boot that is; "": what the kernel says
}

const (
	clockBucket = "clock"
	clockKey    = "now"
	clockEvery  = time.Minute // how often it is written down
)

// clockRecord is what is written down.
type clockRecord struct {
	Boot string        `json:"boot"`
	Up   time.Duration `json:"up"`
	Now  time.Time     `json:"now"`
	Lost time.Time     `json:"lost,omitzero"` // see Lost
}

// Clock opens the clock of this state directory. It is no error that the disk is full:
// what was written down can be read.
func (s *Store) Clock(by Ticks) (*Clock, error) {
	if by.Wall == nil {
		by.Wall = time.Now
	}
	if by.Up == nil {
		by.Up = BootTime
	}
	if by.Boot == "" {
		id, err := os.ReadFile("/proc/sys/kernel/random/boot_id") // see random(4)
		if err != nil {
			return nil, fmt.Errorf("clock: %w", err)
		}
		by.Boot = strings.TrimSpace(string(id))
	}
	c := &Clock{db: s.db, by: by}
	if err := c.db.View(c.open); err != nil {
		return nil, fmt.Errorf("clock: %w", err)
	}
	s.db.Keep(clockBucket, c.put)
	if err := c.Save(); err != nil {
		s.log.Warn("what time it is cannot be written down", "error", err)
	}
	return c, nil
}

func (c *Clock) open(tx *bbolt.Tx) error {
	up := c.by.Up()
	c.base, c.up = c.by.Wall().UTC().Round(0), up
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost, c.news = time.Time{}, false
	defer func() {
		if tx.Bucket([]byte(damageBucket)) != nil { // the file was made anew since
			c.lost, c.news = c.Now(), true
		}
	}()
	b := tx.Bucket([]byte(clockBucket))
	if b == nil {
		return nil
	}
	var r clockRecord
	// What cannot be read is as if it had never been written.
	if json.Unmarshal(b.Get([]byte(clockKey)), &r) == nil {
		c.base, c.lost = r.Now, r.Lost
		if r.Boot == c.by.Boot && up >= r.Up {
			c.base = r.Now.Add(up - r.Up)
		}
	}
	return nil
}

// Now gives the time, in UTC.
func (c *Clock) Now() time.Time { return c.base.Add(c.by.Up() - c.up) }

// Reached says that the Clock showed t already, though that was not written down when
// the machine went down. It is called before anybody uses the Clock.
func (c *Clock) Reached(t time.Time) {
	if d := t.Sub(c.Now()); d > 0 {
		c.base = c.base.Add(d)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.news {
		c.lost = c.Now()
	}
}

// Elapsed gives the time since some moment of this boot.
func (c *Clock) Elapsed() time.Duration { return c.by.Up() }

// Wall gives what the wall clock, as it goes at present, shows at a time of this Clock.
// The zero Time stays zero.
func (c *Clock) Wall(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return c.by.Wall().UTC().Round(0).Add(t.Sub(c.Now()))
}

// Run writes the time down every minute until ctx ends. An error of the disk's is tried
// again: what cannot be written is a lease neither.
func (c *Clock) Run(ctx context.Context) error {
	every := time.NewTicker(clockEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
			_ = c.Save()
		}
	}
}

// Save writes the time down.
func (c *Clock) Save() error {
	if err := failpoint.Hit("store.clock.save"); err != nil {
		return fmt.Errorf("clock: %w", err)
	}
	err := c.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(clockBucket))
		if err != nil {
			return err
		}
		c.mu.Lock()
		news := c.news
		c.mu.Unlock()
		if tx.Bucket([]byte(damageBucket)) != nil && news {
			if err := tx.DeleteBucket([]byte(damageBucket)); err != nil { // it is in the record now
				return err
			}
		}
		return c.put(b)
	})
	if err != nil {
		return fmt.Errorf("clock: %w", err)
	}
	return nil
}

// put writes the time into a bucket.
func (c *Clock) put(b *bbolt.Bucket) error {
	c.mu.Lock()
	lost := c.lost
	c.mu.Unlock()
	up := c.by.Up()
	v, err := json.Marshal(clockRecord{Boot: c.by.Boot, Up: up, Now: c.base.Add(up - c.up), Lost: lost})
	if err != nil {
		return err
	}
	return b.Put([]byte(clockKey), v)
}

// Lost gives when it was found last, of this Clock, that leases may be missing from the
// database; zero: it never was. No lease that was there then is younger.
func (c *Clock) Lost() time.Time {
	found := c.db.leasesLost()
	c.mu.Lock()
	defer c.mu.Unlock()
	if found && !c.news { // after this Clock was opened
		c.lost, c.news = c.Now(), true
	}
	return c.lost
}

// BootTime is the time since this machine booted, suspend included: CLOCK_BOOTTIME of
// clock_gettime(2), which every kernel that runs this has.
func BootTime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}
