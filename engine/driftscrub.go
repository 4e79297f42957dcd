package engine

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// scrub reads every file that a kept generation needs through, one after the other and
// slowly, once in a while: a disk that gives other bytes than it was given tells nobody.
// It begins at the start, with those that it read longest ago, over restarts too: however
// often the daemon is restarted, it comes to every file.
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
	u := unread{pause: time.NewTimer(time.Hour), first: e.cfg.doubtWait}
	u.pause.Stop()
	defer u.pause.Stop()
	for {
		e.readDoubted(ctx, &u)
		select {
		case <-e.drifts.doubts.wake:
		case <-u.pause.C:
			u.giveBack(e.drifts.doubts)
		case <-round.C:
			began := time.Now()
			uses, err := e.cfg.Store.AllUses()
			if err != nil {
				e.log.Debug("what some generations need is not known", "error", err)
			}
			for _, b := range e.drifts.turns.oldestFirst(store.ByDigest(uses)) {
				e.readDoubted(ctx, &u)
				e.readThrough(ctx, doubt{blob: b}, paced(t.Rate), &u)
			}
			round.Reset(max(t.Scrub-time.Since(began), time.Second))
		case <-ctx.Done():
			return nil
		}
	}
}

// readDoubted reads the files that are doubted: one that changed while nobody watched as
// fast as it goes, others slowly.
func (e *Engine) readDoubted(ctx context.Context, u *unread) {
	for ctx.Err() == nil {
		d, ok := e.drifts.doubts.take()
		if !ok {
			if len(u.list) == 0 {
				u.wait = 0
			}
			return
		}
		pace := paced(e.cfg.Drift.Rate)
		if d.changed {
			pace = nil
		}
		e.readThrough(ctx, d, pace, u)
	}
}

// reading is what came of reading a blob's file through.
type reading struct {
	blob   provider.Blob
	mark   store.Mark // with which it is sound
	spoilt bool
}

// readThrough reads one file and tells watch, unless it is missing, which is seen without
// reading. One that cannot be read, which says nothing about it, is doubted again after
// a pause.
func (e *Engine) readThrough(ctx context.Context, d doubt, pace store.Pace, u *unread) {
	mark, err := e.cfg.Store.Content().Check(ctx, d.blob, pace)
	r := reading{blob: d.blob, mark: mark, spoilt: errors.As(err, new(*store.SpoiltError))}
	switch {
	case err == nil, r.spoilt:
	case errors.Is(err, fs.ErrNotExist), ctx.Err() != nil:
		return
	default:
		again := u.add(d)
		e.log.Error("a file of the content store cannot be read; it is tried again", "digest", d.blob.Digest, "in", again, "error", err)
		return
	}
	select {
	case e.drifts.read <- r:
	case <-ctx.Done():
	}
}

// doubtWait is the first pause before what could not be read is read again. It doubles
// up to doubtWaitMost while there is something.
const (
	doubtWait     = time.Minute
	doubtWaitMost = time.Hour
)

// unread are doubts whose files could not be read. It belongs to scrub.
type unread struct {
	list  []doubt
	pause *time.Timer   // runs while there are some
	first time.Duration // pause
	wait  time.Duration // last pause; 0: none
}

// add takes a doubt, and gives the longest that it stays.
func (u *unread) add(d doubt) time.Duration {
	i := slices.IndexFunc(u.list, func(o doubt) bool { return o.blob.Digest == d.blob.Digest })
	switch {
	case i >= 0:
		u.list[i].changed = u.list[i].changed || d.changed
		return u.wait
	case len(u.list) == 0:
		u.wait = min(max(2*u.wait, u.first), doubtWaitMost)
		u.pause.Reset(u.wait)
	}
	u.list = append(u.list, d)
	return u.wait
}

// giveBack has all read again.
func (u *unread) giveBack(to *doubts) {
	for _, d := range u.list {
		to.add(d)
	}
	u.list = nil
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
