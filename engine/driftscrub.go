package engine

import (
	"context"
	"errors"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/store"
)

// scrub reads every file that a kept generation needs through, one after the other and
// slowly, once in a while: a disk that gives other bytes than it was given tells nobody.
// What it finds it hands to watch. It returns nil when ctx ended.
func (e *Engine) scrub(ctx context.Context) error {
	t := e.cfg.Drift
	if t.Scrub < 0 {
		return nil
	}
	for {
		began := time.Now()
		uses, err := e.cfg.Store.AllUses()
		if err != nil {
			e.log.Debug("what some generations need is not known", "error", err)
		}
		for _, b := range store.ByDigest(uses) {
			_, err := e.cfg.Store.Content().Check(ctx, b, paced(t.Rate))
			var spoilt *store.SpoiltError
			if !errors.As(err, &spoilt) {
				continue // missing is seen without reading, and what cannot be read says nothing
			}
			select {
			case e.drifts.suspect <- b.Digest:
			case <-ctx.Done():
			}
		}
		timer := time.NewTimer(max(t.Scrub-time.Since(began), time.Second))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
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
