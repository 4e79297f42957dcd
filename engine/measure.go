package engine

import (
	"context"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/plan"
)

// marks are the moments that ages are counted from, by the engine's clock; zero where
// there was none.
type marks struct {
	phase time.Time // the present phase began
	read  time.Time // the repo was last read well
	tip   time.Time // the tip was first seen
}

// measure takes the moments in the passing. The caller holds e.mu.
func (e *Engine) measure(was, is *Status) {
	now := e.now()
	if is.Phase != was.Phase {
		if e.cfg.Meter != nil && was.Attempt != "" && was.Phase != PhaseIdle && was.Phase != PhaseStarting && was.Phase != PhaseWaiting {
			e.cfg.Meter.Phase(was.Phase, max(0, now.Sub(e.marks.phase)))
		}
		e.marks.phase = now
	}
	if is.Tip != was.Tip {
		e.marks.tip = now
	}
	if is.Polls > was.Polls && is.RepoError == "" || is.Tip != was.Tip {
		e.marks.read = now
	}
}

// Ages says how long ago something was.
type Ages struct {
	// Read is since the repo was last read well; from the start on while it never was.
	Read time.Duration
	// Behind is since the newest commit was seen, while it is not served; else 0.
	Behind time.Duration
}

// Ages gives the present ages.
func (e *Engine) Ages() Ages {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	a := Ages{Read: max(0, now.Sub(e.started))}
	if !e.marks.read.IsZero() {
		a.Read = max(0, now.Sub(e.marks.read))
	}
	if s := &e.status; s.Tip != "" && s.Tip != s.Synced {
		a.Behind = max(0, now.Sub(e.marks.tip))
	}
	return a
}

// Observations gives what the providers and the record of machines see now.
func (e *Engine) Observations(ctx context.Context) ([]plan.Observation, error) { return e.observe(ctx) }
