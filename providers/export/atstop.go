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

// wait returns once served did, and after it all was flushed: with 0, true. Or after most,
// with how many were not flushed, and whether served returned. What hangs in a disk goes on
// until the process ends. later is called within served, and wait once.
func (s *stopping) wait(most time.Duration, served func()) (left int, ended bool) {
	all, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(all)
		served()
		close(over)
		s.wg.Wait()
	}()
	end := time.NewTimer(most)
	defer end.Stop()
	select {
	case <-all:
	case <-end.C:
	}
	close(s.over)
	select {
	case <-over:
		ended = true
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left, ended
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

// endSoon waits for served, which ends connections, and for what is flushed then, as long
// as there is time, and says what there was none for.
func (p *Provider) endSoon(served func()) {
	left, ended := p.stop.wait(flushAtStop, served)
	if left > 0 {
		p.log.Warn("there was no time to flush what some machines wrote: a reboot of the server loses it", "overlays", left, "after", flushAtStop)
	}
	if !ended {
		p.log.Warn("connections wait for a disk, and are not waited for", "connections", p.Counts().Open, "after", flushAtStop)
	}
}
