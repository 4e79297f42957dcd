package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// ErrNoSource says that the daemon follows no repo.
var ErrNoSource = errors.New("this daemon follows no repo: start it with --repo")

// ErrStopped says that the engine does not run any more.
var ErrStopped = errors.New("the daemon has stopped")

// Order is what an operator wants applied.
type Order struct {
	// Revision is anything that the source resolves; "" is the tip of the tracked
	// ref. A revision that is not the tip holds the ref: its tip is skipped until a
	// newer commit or Release.
	Revision string
	// Tip says that Revision was not chosen, but what the tip was when it was looked at:
	// see attempt.verify.
	Tip bool
	// Expect, when not nil, is the generation that must be served at present.
	Expect *uint64
	// Saved, when not nil, is the file of a saved plan. It says the two above itself.
	Saved     []byte
	Overrides []string // rules of the policy to pass; see CheckOverrides
	// Try, when not 0, is how long the generation is served on trial: unless it is
	// confirmed by then, the one before is served again. See Confirm.
	Try time.Duration
	By  store.Actor
}

// Apply brings about what an operator wants, and waits for the outcome. When ctx
// ends after the engine took the wish, the wait ends, and the work goes on.
func (e *Engine) Apply(ctx context.Context, o Order) (Outcome, error) {
	j, err := e.orderJob(ctx, o)
	if err != nil {
		return e.refusal(err)
	}
	return e.send(ctx, command{job: j})
}

func (e *Engine) orderJob(ctx context.Context, o Order) (job, error) {
	if err := CheckOverrides(o.Overrides); err != nil {
		return job{}, err
	}
	if err := CheckTry(o.Try); err != nil {
		return job{}, err
	}
	if e.cfg.Source == nil {
		return job{}, ErrNoSource
	}
	var j job
	var err error
	if o.Saved != nil {
		j, err = e.savedJob(ctx, o.Saved)
		j.named = j.hold != nil
	} else {
		j, err = e.applyJob(ctx, o.Revision, false)
		j.expect, j.named = o.Expect, o.Revision != "" && !o.Tip
	}
	j.overrides, j.by, j.try = o.Overrides, o.By, o.Try
	if f := new(Failure); errors.As(err, &f) {
		e.audited(&j, &Outcome{Generation: e.Generation(), Failure: f}, o.Saved != nil)
	}
	return j, err
}

// refusal makes an outcome of why an order was refused before its turn came, where
// that is no fault of this machine's.
func (e *Engine) refusal(err error) (Outcome, error) {
	var f *Failure
	if !errors.As(err, &f) {
		return Outcome{}, err
	}
	s, _ := e.Status()
	return Outcome{Generation: s.Generation, Revision: s.Revision, Held: s.Held, Failure: f}, nil
}

// applyJob makes the job of applying a revision; name "" is the tip. A name may be
// known while the repo cannot be reached: the job is then without a tip, unless the
// caller cannot do without.
func (e *Engine) applyJob(ctx context.Context, name string, needsTip bool) (job, error) {
	j := job{trigger: store.TriggerApply}
	tip, err := e.cfg.Source.Tip(ctx)
	if err != nil && (name == "" || needsTip) {
		return j, err
	}
	j.rev, j.tip = tip, tip.Hash
	if err == nil {
		// The loop may not have looked yet, and a rollback right after this holds the
		// newest commit that is known of.
		e.update(func(s *Status) { s.Tip, s.TipSubject = tip.Hash, tip.Subject })
	}
	if name == "" {
		return j, nil
	}
	if j.rev, err = e.cfg.Source.Resolve(ctx, name); err != nil {
		return j, err
	}
	j.hold = e.hold(tip.Hash, j.rev.Hash, fmt.Sprintf("revision %s was applied by hand", short(j.rev.Hash)))
	return j, nil
}

// Rollback goes back to a recorded generation, from the local store alone, and
// holds the tracked ref where it is. number 0 is the generation before the one
// that is served. No policy is asked.
func (e *Engine) Rollback(ctx context.Context, number uint64, by store.Actor) (Outcome, error) {
	return e.RollbackFrom(ctx, nil, number, by)
}

// RollbackFrom is Rollback for what somebody decided on a generation: when another one
// is served as its turn comes, it is refused as stale. A nil expect is any.
func (e *Engine) RollbackFrom(ctx context.Context, expect *uint64, number uint64, by store.Actor) (Outcome, error) {
	j, err := e.rollbackJob(number)
	if err != nil {
		return Outcome{}, err
	}
	j.by, j.expect = by, expect
	return e.send(ctx, command{job: j})
}

// hold makes the hold under which rev is served; nil when rev is what the tracked
// ref is at. While the repo is away (tip is "") that is the newest commit that is
// known of: the one seen last, else the one held, else the one reached last.
func (e *Engine) hold(tip, rev, reason string) *Hold {
	if tip == "" {
		s, _ := e.Status()
		switch {
		case s.Tip != "":
			tip = s.Tip
		case s.Held != nil:
			tip = s.Held.Revision
		default:
			tip = s.Synced
		}
	}
	if tip == "" || tip == rev {
		return nil
	}
	return &Hold{Revision: tip, Reason: reason, Since: e.now()}
}

func (e *Engine) rollbackJob(number uint64) (job, error) {
	cur := e.current()
	if cur == nil {
		return job{}, errors.New("nothing is applied: there is nothing to go back from")
	}
	target, err := rollbackTarget(e.cfg.Store, cur.record, number)
	if err != nil {
		return job{}, err
	}
	return job{
		trigger:    store.TriggerRollback,
		generation: target.Number,
		rev:        source.Revision{Hash: target.Revision, Subject: target.Subject, Author: target.Author},
		hold:       e.hold("", "", fmt.Sprintf("rolled back to generation %d", target.Number)),
	}, nil
}

// rollbackTarget finds the generation that number means, seen from cur.
func rollbackTarget(s *store.Store, cur *store.Record, number uint64) (*store.Record, error) {
	if number != 0 {
		return s.Get(number)
	}
	// A rollback of a rollback goes on backwards, not in circles.
	from := cur.Number
	if cur.RolledBackTo != 0 {
		from = cur.RolledBackTo
	}
	st, err := s.State()
	if err != nil {
		return nil, err
	}
	reverted := func(revision string) bool { // tried, and not kept
		return slices.ContainsFunc(st.Quarantined, func(q store.Quarantine) bool { return q.Revision == revision && q.Reason == ReasonReverted })
	}
	var best uint64
	for _, h := range s.List() {
		// What is served now may have been served before, under another number.
		if !reverted(h.Revision) && h.Number < from && h.Number > best && h.RolledBackTo == 0 && h.Damaged == "" && h.Revision != cur.Revision {
			best = h.Number
		}
	}
	if best == 0 {
		return nil, fmt.Errorf("no generation before %d is kept: see history", from)
	}
	return s.Get(best)
}

func (e *Engine) send(ctx context.Context, c command) (Outcome, error) {
	c.reply = make(chan Outcome, 1)
	select {
	case e.commands <- c:
	case <-e.stopped:
		return Outcome{}, ErrStopped
	case <-ctx.Done():
		return Outcome{}, ctx.Err()
	}
	// The loop answers every command that it took, also when it ends.
	select {
	case out := <-c.reply:
		return out, nil
	case <-ctx.Done():
		return Outcome{}, ctx.Err()
	}
}

func short(hash string) string { return hash[:min(12, len(hash))] }
