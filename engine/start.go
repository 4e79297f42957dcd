package engine

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// start serves the recorded generation, and beside it those that clients are
// still pinned to, from the local store alone: no build, no fetch, no network.
func (e *Engine) start(ctx context.Context) error {
	rec, ok, err := e.cfg.Store.Current()
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := e.remember(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	e.prove()
	e.reconsider()
	if ok {
		rec = e.revertAtStart(rec)
	}
	for _, n := range e.cfg.Store.Numbers() {
		e.inherited = n // the last is the newest
	}
	if ok {
		e.startOn(ctx, rec)
	}
	e.pin()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e.noteTrouble()
	e.update(func(s *Status) { s.Phase = PhaseIdle })
	if slices.ContainsFunc(e.cfg.Store.Unfinished(), func(u store.Unfinished) bool { return u.Recorded }) {
		e.retire(ctx) // which the process before did not come to, or not to its end
	}
	failpoint.Hit("engine.start.end")
	return nil
}

// startOn serves rec, or when that cannot be served the newest generation before it
// that can, or nothing: in each case the API answers, says why, and the tip of the
// ref is tried. An upgrade of this program, a lost file or a port that somebody
// holds must not take more down than it has to.
func (e *Engine) startOn(ctx context.Context, rec *store.Record) {
	older := e.pinned(rec.Number)
	// The earlier ones first: once a socket answers, no machine that is in the
	// middle of a boot misses what it was offered.
	for _, n := range older {
		old, err := e.cfg.Store.Get(n)
		if err == nil {
			err = e.replay(ctx, old, true)
		}
		if err != nil {
			// Its clients are worse off, all others are not: go on and say so.
			e.log.Error("an earlier generation that clients may use cannot be served", "generation", n, "error", err)
			e.unserved[n] = err
		}
	}
	e.broken = nil
	for _, n := range append([]uint64{rec.Number}, older...) {
		if n == e.avoided {
			continue
		}
		one := rec
		err := e.unserved[n]
		if n != rec.Number && err == nil {
			one, err = e.cfg.Store.Get(n)
		}
		if err == nil {
			err = e.replay(ctx, one, false)
		}
		if err == nil {
			e.cfg.Store.Published(one.Number)
			e.log.Info("serving a recorded generation", "generation", one.Number, "revision", one.Revision)
			return
		}
		e.log.Error("the recorded generation cannot be served", "generation", n, "error", err)
		e.unserved[n] = err
		e.broken = rec
	}
}

// remember reads what the loop knew besides the generations.
func (e *Engine) remember() error {
	st, err := e.cfg.Store.State()
	if err != nil {
		return err
	}
	e.update(func(s *Status) {
		s.Synced, s.Held, s.lastRefused = st.Synced, holdOf(st.Held), st.Failed
		s.take(&st.Memory)
		if st.Failed == nil || st.Held != nil {
			return
		}
		if q, ok := s.InQuarantine(st.Failed.Revision); ok {
			s.Failure = refusalOf(q) // the repo may be away: it is not forgotten meanwhile
		}
	})
	return nil
}

// pinned lists the generations other than current that are kept and that some
// machine may still use, newest first. All kept ones count: an open connection
// of before a crash is not known until the client comes back.
func (e *Engine) pinned(current uint64) []uint64 {
	var list []uint64
	for _, h := range e.cfg.Store.List() {
		if h.Number != current {
			list = append(list, h.Number)
		}
	}
	slices.Sort(list)
	slices.Reverse(list)
	return list
}

// replay prepares and commits a recorded generation; as the one that status speaks
// of, unless it is only retained. A panic before the commit is an error: nothing is
// published then, and one record must not keep the others from being served.
func (e *Engine) replay(ctx context.Context, rec *store.Record, retained bool) (err error) {
	committing := false
	defer func() {
		if committing {
			return // half published: only another start puts that right
		}
		if r := recover(); r != nil {
			e.log.Error("panic while a recorded generation is readied", "generation", rec.Number, "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic while generation %d is readied: %v", rec.Number, r)
		}
	}()
	whole, err := e.read(rec)
	if err != nil {
		return err
	}
	own := whole.desired
	t, err := e.prepare(ctx, e.cfg.Providers, provider.Input{
		Generation: rec.Number,
		Want:       own,
		Artifacts:  recorded(rec, own),
		Blobs:      rec.Blobs,
		Offline:    true,
		Retained:   retained,
	})
	if err != nil {
		return err
	}
	committing = true
	if !retained {
		// First: the first machine that a socket answers is pinned to this number.
		e.update(func(s *Status) { e.publish(s, rec, own) })
	}
	t.commit()
	return nil
}
