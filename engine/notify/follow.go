package notify

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/dlreconcile/dlreconcile/engine"
)

// Engine is what is followed. *engine.Engine is one.
type Engine interface {
	Status() (engine.Status, <-chan struct{})
}

// Run tells the forge what becomes of commits until ctx ends. It returns when both of
// its goroutines have.
func (c *CommitStatus) Run(ctx context.Context, e Engine) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		c.box.run(ctx)
		return nil
	})
	g.Go(func() error {
		for {
			s, changed := e.Status()
			for _, one := range judge(&s) {
				c.put(one)
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return nil
			}
		}
	})
	defer c.client.CloseIdleConnections()
	return g.Wait()
}

// judge says what is to be said of commits in a status: of the newest one, and of one
// that was refused.
func judge(s *engine.Status) []status {
	var list []status
	if f := s.Failure; f != nil && f.Revision != "" {
		again := ""
		if f.Retry {
			again = ", is tried again"
		}
		list = append(list, status{f.Revision, StateFailure, describe("refused (%s%s): %s", f.Reason, again, f.Message)})
		if f.Revision == s.Tip {
			return list
		}
	}
	if s.Tip == "" || s.Phase == engine.PhaseStarting {
		return list
	}
	say := func(state State, format string, args ...any) []status {
		return append(list, status{s.Tip, state, describe(format, args...)})
	}
	switch {
	case s.Try != nil && s.Try.Revision == s.Tip:
		return say(StatePending, "generation %d is on trial until %s", s.Try.Generation, clockOf(s.Try.Deadline))
	case s.Tip == s.Synced && s.Held == nil:
		return say(StateSuccess, "generation %d is served", s.Generation)
	case s.Held != nil:
		return say(StatePending, "held: %s", s.Held.Reason)
	case s.Waiting != nil && s.Waiting.Revision == s.Tip:
		return say(StatePending, "waits for %s: %s", s.Waiting.For, s.Waiting.Message)
	case s.Suspended != nil:
		return say(StatePending, "suspended %s", s.Suspended.Reason)
	case s.Attempt == s.Tip:
		return say(StatePending, "is being applied")
	}
	return list
}
