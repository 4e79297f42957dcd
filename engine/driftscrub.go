package engine

import (
	"context"
	"errors"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// scrub reads every file that a kept generation needs through, one after the other and
// slowly, once in a while: a disk that gives other bytes than it was given tells nobody.
// Before them, and in between, it reads those that nobody vouches for since the start.
// What it finds it hands to watch. It returns nil when ctx ended.
func (e *Engine) scrub(ctx context.Context) error {
	t := e.cfg.Drift
	round := time.NewTimer(time.Hour)
	round.Stop()
	defer round.Stop()
	select {
	case <-e.drifts.doubts.begun: // files have been looked at once
		if t.Scrub > 0 {
			round.Reset(0)
		}
	case <-ctx.Done():
		return nil
	}
	for {
		e.readDoubted(ctx)
		select {
		case <-e.drifts.doubts.wake:
		case <-round.C:
			began := time.Now()
			uses, err := e.cfg.Store.AllUses()
			if err != nil {
				e.log.Debug("what some generations need is not known", "error", err)
			}
			for _, b := range store.ByDigest(uses) {
				e.readDoubted(ctx)
				e.readThrough(ctx, b, paced(t.Rate))
			}
			round.Reset(max(t.Scrub-time.Since(began), time.Second))
		case <-ctx.Done():
			return nil
		}
	}
}

// readDoubted reads the files that are doubted: one that changed while nobody watched as
// fast as it goes, others slowly.
func (e *Engine) readDoubted(ctx context.Context) {
	for ctx.Err() == nil {
		d, ok := e.drifts.doubts.take()
		if !ok {
			return
		}
		pace := paced(e.cfg.Drift.Rate)
		if d.changed {
			pace = nil
		}
		e.readThrough(ctx, d.blob, pace)
	}
}

// reading is what came of reading a blob's file through.
type reading struct {
	blob   provider.Blob
	mark   store.Mark // with which it is sound
	spoilt bool
}

// readThrough reads one file and tells watch, unless it is missing, which is seen without
// reading, or cannot be read, which says nothing.
func (e *Engine) readThrough(ctx context.Context, b provider.Blob, pace store.Pace) {
	mark, err := e.cfg.Store.Content().Check(ctx, b, pace)
	r := reading{blob: b, mark: mark, spoilt: errors.As(err, new(*store.SpoiltError))}
	if err != nil && !r.spoilt {
		return
	}
	select {
	case e.drifts.read <- r:
	case <-ctx.Done():
	}
}

// paced waits after each read for as long as it may have taken at rate bytes a second.
func paced(rate int64) store.Pace {
	var ahead time.Duration
	return func(ctx context.Context, n int) error {
		ahead += time.Duration(int64(n) * int64(time.Second) / rate)
		if ahead < 20*time.Millisecond {
			return nil
		}
		timer := time.NewTimer(ahead)
		defer timer.Stop()
		ahead = 0
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
