package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// hangs is a Prepare that did not end with its context. Its provider is asked for
// nothing else until it does.
type hangs struct {
	since time.Time
	left  chan struct{} // closed when nobody waits for it any more
	over  chan struct{} // closed when it has ended, and what it prepared late is aborted
}

// leaveTime is how long a Prepare may take to end after its context has.
const leaveTime = 30 * time.Second

// bounded prepares one provider within Config.PrepareLimit, and gives up waiting for one
// that does not end when it is told to: what is served goes on, and so does the loop.
func (e *Engine) bounded(ctx context.Context, p provider.Provider, in provider.Input) (provider.Txn, error) {
	if h := e.hanging(p); h != nil {
		return nil, fmt.Errorf("%s: it has not come back from what it was asked to prepare at %s; restart the daemon if it never does", p.Name(), h.since.UTC().Format(time.RFC3339))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, e.cfg.PrepareLimit, fmt.Errorf("%s: preparing took longer than %s", p.Name(), e.cfg.PrepareLimit))
	defer cancel()
	type result struct {
		txn provider.Txn
		err error
	}
	done := make(chan result) // without room: what nobody takes is aborted
	h := &hangs{since: e.now(), left: make(chan struct{}), over: make(chan struct{})}
	e.prepares.Go(func() {
		defer close(h.over)
		var r result
		r.txn, r.err = e.guarded(ctx, p, in)
		select {
		case done <- r:
		case <-h.left:
			if r.err == nil && r.txn != nil {
				r.txn.Abort()
			}
		}
	})
	select {
	case r := <-done:
		return r.txn, r.err
	case <-ctx.Done():
	}
	leave := time.NewTimer(e.cfg.leave)
	defer leave.Stop()
	select {
	case r := <-done:
		if r.err == nil && r.txn != nil {
			r.txn.Abort()
		}
		return nil, context.Cause(ctx)
	case <-leave.C:
	}
	e.log.Error("a provider does not come back; it is left alone until it does", "provider", p.Name())
	e.hung[p.Name()] = h
	close(h.left)
	return nil, context.Cause(ctx)
}

// comeBack waits, when nothing else runs any more, until every Prepare has ended; for
// those that were given up for leaveTime at most.
func (e *Engine) comeBack() error {
	leave := time.NewTimer(e.cfg.leave)
	defer leave.Stop()
	late := false
	var list []string
	for _, name := range slices.Sorted(maps.Keys(e.hung)) {
		if !late {
			select {
			case <-e.hung[name].over:
				continue
			case <-leave.C:
				late = true
			}
		}
		select {
		case <-e.hung[name].over:
		default:
			list = append(list, name)
		}
	}
	if len(list) > 0 {
		return fmt.Errorf("%s: it has not come back from what it was asked to prepare; its work ends with the process", strings.Join(list, ", "))
	}
	e.prepares.Wait()
	return nil
}

// hanging gives what a provider has not come back from; nil: nothing. One goroutine at
// a time calls it: the attempt's, or the loop's while there is none.
func (e *Engine) hanging(p provider.Provider) *hangs {
	h := e.hung[p.Name()]
	if h == nil {
		return nil
	}
	select {
	case <-h.over:
		delete(e.hung, p.Name())
		return nil
	default:
		return h
	}
}
