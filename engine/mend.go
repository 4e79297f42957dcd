package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/store"
)

// mendTime is how long serving a recorded generation again may take. A provider that
// does not end then has leaveTime besides, once. A newer commit and whatever an
// operator wants end it before.
const mendTime = 10 * time.Minute

// mending is how an attempt to serve a recorded generation again went.
type mending struct {
	rec *store.Record
	// retained says that it is served beside the current one.
	retained bool
	err      error // nil: it is served
	cut      bool  // something else had to be done; it says nothing about the generation
}

// mend begins to try the recorded generation again that could not be served at the
// start, if there is one and nothing else runs; else one of the kept ones that could
// not: what they lacked may have been made anew since. It stands in the place of an attempt, so
// that no two prepare at once, while the loop goes on listening. The status does not
// speak of it: nothing new is wanted. See mended.
func (e *Engine) mend(ctx context.Context, st *loopState) {
	rec, retained := e.toMend()
	if rec == nil || st.running != nil {
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	st.running, st.cancel = &job{mends: rec}, cancel
	go func() { st.mended <- e.replayAgain(ctx, rec, retained) }()
}

// toMend gives the generation to try again, and whether only beside the current one; nil
// when there is none. Kept ones take turns.
func (e *Engine) toMend() (rec *store.Record, retained bool) {
	if e.broken != nil {
		return e.broken, false
	}
	all := slices.Sorted(maps.Keys(e.unserved))
	if len(all) == 0 || e.current() == nil {
		return nil, false
	}
	n := all[0]
	if i := slices.IndexFunc(all, func(n uint64) bool { return n > e.mendedLast }); i >= 0 {
		n = all[i]
	}
	e.mendedLast = n
	rec, err := e.cfg.Store.Get(n)
	if err != nil {
		return nil, false // which is told already
	}
	return rec, true
}

// replayAgain serves a recorded generation, or leaves what is served as it is.
func (e *Engine) replayAgain(ctx context.Context, rec *store.Record, retained bool) mending {
	bounded, cancel := context.WithTimeoutCause(ctx, e.cfg.mendTime, fmt.Errorf("serving it again took longer than %s", e.cfg.mendTime))
	defer cancel()
	err := e.replay(bounded, rec, retained)
	return mending{rec: rec, retained: retained, err: err, cut: err != nil && ctx.Err() != nil}
}

// mended takes note of how that went, in the loop's goroutine, and goes on with what
// waits.
func (e *Engine) mended(ctx context.Context, st *loopState, m mending) {
	st.cancel(nil)
	st.running = nil
	switch {
	case m.err == nil:
		e.log.Info("the recorded generation can be served again", "generation", m.rec.Number)
		if !m.retained {
			e.broken = nil
		}
		delete(e.unserved, m.rec.Number)
		e.pin()
	case !m.cut:
		e.unserved[m.rec.Number] = m.err
	}
	e.retire(ctx)
	e.goOn(ctx, st, false)
}
