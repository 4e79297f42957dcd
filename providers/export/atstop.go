package export

import (
	"context"
	"sync"
	"time"
)

// A machine that is up does not know that the server is rebooted, or its disk mounted
// elsewhere: what it wrote and did not flush must not be gone afterwards, as if it had
// lost its power too. So what connected machines wrote is flushed when the daemon ends
// by itself.

const (
	// flushAtStop is for how long that goes on: a daemon that is restarted has its
	// machines wait for as long, and one whose disk hangs must end.
	flushAtStop = 10 * time.Second
	// flushesAtOnce bounds the threads that wait for the disk.
	flushesAtOnce = 16
)

// stopping is what a provider does that ends. Make one with newStopping.
type stopping struct {
	places chan struct{}  // of flushesAtOnce
	over   chan struct{}  // closed when there is no more time
	wg     sync.WaitGroup // of later

	mu   sync.Mutex      // guards below
	run  context.Context // of Run; nil before it
	left int             // that are not flushed
}

func newStopping() *stopping {
	return &stopping{places: make(chan struct{}, flushesAtOnce), over: make(chan struct{})}
}

// begin notes the context whose end is the provider's.
func (s *stopping) begin(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run = ctx
}

// begun reports whether the provider ends.
func (s *stopping) begun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run != nil && s.run.Err() != nil
}

// later has flush called if there is time for it, and then done in any case, and waits for
// neither.
func (s *stopping) later(flush, done func()) {
	s.count(1)
	s.wg.Go(func() {
		defer done()
		select {
		case <-s.over:
			return
		case s.places <- struct{}{}:
		}
		defer func() { <-s.places }()
		select {
		case <-s.over:
			return
		default:
		}
		flush()
		s.count(-1)
	})
}

func (s *stopping) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left += n
}

// wait returns once all was flushed, with 0; or after most, with how many were not. Those
// that hang in a disk go on until the process ends. It is called once, after the last
// later.
func (s *stopping) wait(most time.Duration) (left int) {
	all := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(all)
	}()
	end := time.NewTimer(most)
	defer end.Stop()
	select {
	case <-all:
	case <-end.C:
	}
	close(s.over)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left
}

// closeOpen closes the overlay of a connection that is over, flushed if the provider ends.
func (a *attachment) closeOpen() {
	o, p := a.overlay, a.p
	if !p.stop.begun() || o.Synced() {
		o.Close()
		return
	}
	p.stop.later(func() {
		if err := o.Sync(); err != nil {
			p.log.Error("what a machine wrote is not flushed: a reboot of the server loses it", "overlay", o.Record().Key.String(), "err", err)
		}
	}, o.Close)
}

// flushed waits for what was closed at the end, and says what there was no time for.
func (p *Provider) flushed() {
	if n := p.stop.wait(flushAtStop); n > 0 {
		p.log.Warn("there was no time to flush what some machines wrote: a reboot of the server loses it", "overlays", n, "after", flushAtStop)
	}
}
