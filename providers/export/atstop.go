package export

import (
	"context"
	"sync"
	"time"

	"github.com/dlreconcile/dlreconcile/providers/export/cow"
)

// A machine that is up does not know that the server is rebooted, or its disk mounted
// elsewhere: what it wrote and did not flush must not be gone afterwards, as if it had
// lost its power too. So what connected machines wrote is flushed when the daemon ends
// by itself.

const (
	// flushAtStop is for how long that goes on: a daemon that is restarted has its
	// machines wait for as long.
	flushAtStop = 10 * time.Second
	// flushesAtOnce bounds the threads that wait for the disk.
	flushesAtOnce = 16
)

// stopping is when the provider ends, and what it does then.
type stopping struct {
	places chan struct{} // of flushesAtOnce

	mu    sync.Mutex      // guards below
	run   context.Context // of Run; nil before it
	until time.Time       // zero: the first flush was not asked for yet
	late  int             // overlays that there was no time for
}

func newStopping() stopping { return stopping{places: make(chan struct{}, flushesAtOnce)} }

// begin notes the context whose end is the provider's.
func (s *stopping) begin(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run, s.until, s.late = ctx, time.Time{}, 0
}

// may reports whether an overlay is flushed now: the provider ends, and it is not too
// late for it.
func (s *stopping) may(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil || s.run.Err() == nil {
		return false
	}
	if s.until.IsZero() {
		s.until = now.Add(flushAtStop)
	}
	if now.After(s.until) {
		s.late++
		return false
	}
	return true
}

// flushAtStop has what a machine wrote on stable storage if the provider ends.
func (p *Provider) flushAtStop(o *cow.Overlay) {
	if o.Synced() {
		return
	}
	p.stop.places <- struct{}{}
	defer func() { <-p.stop.places }()
	if !p.stop.may(p.now()) {
		return
	}
	if err := o.Sync(); err != nil {
		p.log.Error("what a machine wrote is not flushed: a reboot of the server loses it", "overlay", o.Record().Key.String(), "err", err)
	}
}

// stopped says what there was no time for.
func (p *Provider) stopped() {
	p.stop.mu.Lock()
	defer p.stop.mu.Unlock()
	if p.stop.late > 0 {
		p.log.Warn("there was no time to flush what some machines wrote: a reboot of the server loses it", "overlays", p.stop.late, "after", flushAtStop)
	}
}
