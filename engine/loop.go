package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// command is a wish that reached the loop from outside.
type command struct {
	job   job
	do    func(*loopState) Outcome // in the place of job: what is done at once
	reply chan Outcome
}

// retireEvery is how often the loop looks for things that nobody needs any more.
const retireEvery = 15 * time.Second

// Why an attempt is cancelled.
var (
	errNewer   = errors.New("a newer revision came")
	errCommand = errors.New("an operator wanted something else")
	errStopped = errors.New("the daemon is being stopped")
	errSuspend = errors.New("an operator suspended it")
	errTrial   = errors.New("a trial is over, and going back comes first")
)

// loopState is what only the loop's goroutine touches.
type loopState struct {
	looking  bool // a look at the tip is under way
	again    bool // and another one is wanted after it
	looked   chan look
	running  *job
	cancel   context.CancelCauseFunc // of running
	finished chan *attempt
	mended   chan mending // in the place of finished, where running mends
	next     *job         // starts when the running one has ended
	recheck  bool         // look at the tip when nothing runs any more

	refused string // revision that failed, and is not tried by itself before retry fires
	backoff backoff
	retry   *time.Timer
	window  *time.Timer   // fires when a window may have opened that the tip waits for
	trial   *time.Timer   // fires when the trial may be over
	ends    time.Duration // of Config.Elapsed: when it is
	ticked  time.Duration // of Config.Elapsed: at the last tick of the loop
	// unsure says that the tip is to be compared with what is served even when it
	// is what was reached last: the daemon's own settings, or the program, may have
	// changed since.
	unsure bool
}

type look struct {
	tip source.Revision
	err error
}

// loop is the only goroutine that starts attempts. It returns when ctx ended
// and the attempt under way has.
func (e *Engine) loop(ctx context.Context) error {
	st := newLoopState(e.elapsed())
	defer st.stopTimers()
	retire := time.NewTicker(e.cfg.tick)
	defer retire.Stop()
	// A trial that the start could not end on disk is over.
	st.ends = st.ticked
	e.endTrial(ctx, st)
	for {
		select {
		case <-ctx.Done(): // stop: the attempt sees the same ctx
			e.wind(st)
			return nil
		case <-e.wake: // a trigger fired: look at the tip
			e.endTrial(ctx, st)
			e.look(ctx, st)
		case <-st.retry.C: // a failed revision's back-off is over
			st.refused = ""
			e.look(ctx, st)
		case <-st.window.C: // a window may be open now
			e.look(ctx, st)
		case <-st.trial.C: // a trial may be over
			e.endTrial(ctx, st)
		case l := <-st.looked: // the tip is known, or the repo cannot be read
			e.tip(ctx, st, l)
		case r := <-e.drifts.rebuild: // something of what is served is lost
			e.rebuild(ctx, st, r)
		case <-e.cfg.Store.Damaged(): // a file of the state directory is not what was written
			e.noteTrouble()
		case c := <-e.commands: // an operator wants something
			e.command(ctx, st, c)
		case a := <-st.finished: // an attempt has ended
			e.ended(ctx, st, a.settle())
		case m := <-st.mended: // a recorded generation can be served again, or not yet
			e.mended(ctx, st, m)
		case <-retire.C: // clients may have gone, or the machine has slept
			if st.slept(e.elapsed()) {
				e.look(ctx, st)
			}
			if e.mend(ctx, st); st.running == nil {
				e.retire(ctx)
			}
		}
	}
}

func newLoopState(now time.Duration) *loopState {
	st := &loopState{
		looked: make(chan look, 1), finished: make(chan *attempt, 1), mended: make(chan mending, 1), unsure: true, ticked: now,
		retry: time.NewTimer(time.Hour), window: time.NewTimer(time.Hour), trial: time.NewTimer(time.Hour),
	}
	st.stopTimers()
	return st
}

func (st *loopState) stopTimers() {
	st.retry.Stop()
	st.window.Stop()
	st.trial.Stop()
}

// slept reports whether the machine has slept since the last tick. Its timers stood
// still meanwhile, those of the source too: looks at the tip were missed.
func (st *loopState) slept(now time.Duration) bool {
	gap := now - st.ticked
	st.ticked = now
	return gap > 2*retireEvery
}

// wind waits for what is under way and answers who waits, after ctx ended.
func (e *Engine) wind(st *loopState) {
	switch {
	case st.running != nil && st.running.mends != nil:
		<-st.mended
		st.cancel(nil)
	case st.running != nil:
		out := (<-st.finished).settle()
		st.cancel(nil)
		st.running.answer(out)
		if out.Failure != nil && st.running.trigger != store.TriggerRevert {
			e.note(st, out.Failure)
		}
	}
	e.drop(st.next, errStopped)
	if st.looking {
		<-st.looked
	}
}

// drop gives up a job whose turn never came. An order leaves a line in the audit log
// all the same, a commit that a newer one replaced does not.
func (e *Engine) drop(j *job, why error) {
	if j == nil || j.reply == nil {
		return
	}
	out := Outcome{Failure: e.cancelled(j, why)}
	if cur := e.current(); cur != nil {
		out.Generation, out.Revision = cur.record.Number, cur.record.Revision
	}
	unused := *j
	unused.overrides = nil // no rule was asked
	e.audited(&unused, &out, j.saved != nil)
	j.answer(out)
}

// look asks the source for its tip without keeping the loop waiting. The source
// bounds how long that takes: a first clone may take minutes.
func (e *Engine) look(ctx context.Context, st *loopState) {
	if e.cfg.Source == nil {
		return
	}
	if st.looking {
		st.again = true
		return
	}
	st.looking, st.again = true, false
	go func() {
		var l look
		defer func() {
			if r := recover(); r != nil { // of a hostile remote's making
				l.err = fmt.Errorf("panic while reading the repo: %v", r)
			}
			st.looked <- l
		}()
		l.tip, l.err = e.cfg.Source.Tip(ctx)
	}()
}

// tip decides what the newest commit means.
func (e *Engine) tip(ctx context.Context, st *loopState, l look) {
	st.looking = false
	if st.again {
		defer e.look(ctx, st)
	}
	if l.err != nil {
		if ctx.Err() == nil {
			e.log.Warn("the repo cannot be read; serving on", "error", l.err)
			e.update(func(s *Status) {
				if s.RepoError = l.err.Error(); s.RepoSince.IsZero() {
					s.RepoSince = e.now()
				}
				s.Polls++
			})
		}
		return
	}
	// What will be done unless this tip changes it.
	coming := st.running
	if st.next != nil {
		coming = st.next
	}
	if s, _ := e.Status(); st.running == nil || st.running.mends != nil {
		if _, refused := s.InQuarantine(l.tip.Hash); refused {
			e.reconsider() // keys may have changed meanwhile
		}
	}
	var settled bool // nothing is to be done about this tip
	var better bool  // it is no refused one any more
	// Counted at the end: who sees the count sees what came of the look.
	defer e.update(func(s *Status) { s.Polls++ })
	e.update(func(s *Status) {
		s.RepoError, s.RepoSince, s.RepoRead = "", time.Time{}, e.now()
		s.Tip, s.TipSubject = l.tip.Hash, l.tip.Subject
		q, refused := s.InQuarantine(l.tip.Hash)
		switch {
		case s.Held != nil && s.Held.Revision == l.tip.Hash, st.refused == l.tip.Hash:
			settled = true
		case refused:
			settled = true
			if s.Waiting = nil; s.Failure == nil || s.Failure.Revision != q.Revision {
				s.Failure = refusalOf(q)
			}
			if s.Phase == PhaseWaiting {
				s.Phase = PhaseIdle
			}
		case s.Suspended != nil, s.Try != nil: // it waits; what it is of is seen then
			settled = true
		case s.Waiting != nil && s.Waiting.Revision == l.tip.Hash && !s.Waiting.due(e.now()):
			settled = true
			e.awaitWindow(st, s.Waiting)
		case s.Held == nil && s.Synced == l.tip.Hash && s.Generation != 0 && !st.unsure:
			settled = true
			if st.running == nil || st.running.mends != nil {
				better = s.Failure != nil
				s.Failure, s.Waiting = nil, nil
				if s.Phase == PhaseWaiting {
					s.Phase = PhaseIdle
				}
			}
		}
	})
	if better {
		e.unrefuse()
	}
	switch {
	case coming != nil && (coming.ordered() || coming.rev.Hash == l.tip.Hash):
		// An operator's wish goes first; or it is under way, or has just failed.
		st.recheck = true
	case settled && st.running != nil && (st.running.trigger == store.TriggerDrift || st.running.mends != nil):
		// It concerns what is served, and not the tip. A commit that waits for it to end
		// is one that the ref does not have any more.
		st.next = nil
	case settled && st.running != nil:
		// The ref moved back meanwhile: nobody wants what is under way any more.
		// Should it get through all the same, the next look puts it right.
		st.next, st.recheck = nil, true
		st.cancel(errNewer)
	case !settled:
		st.refused = ""
		e.begin(ctx, st, job{trigger: store.TriggerCommit, rev: l.tip})
	}
}

// begin starts an attempt, or puts it next and cancels the one under way. The
// caller has seen to it that a wish of an operator's only gives way to another.
func (e *Engine) begin(ctx context.Context, st *loopState, j job) {
	if st.running == nil {
		if j.trigger != store.TriggerDrift && (!j.ordered() || j.rev.Hash == st.backoff.revision) {
			st.retry.Stop() // an operator's other wish leaves the tip's next try alone
		}
		e.update(func(s *Status) {
			s.Phase, s.Attempt, s.Progress = PhaseLoading, j.rev.Hash, nil
			if j.reply == nil {
				s.Waiting = nil // what it waits for, if it does, is told at the end
			}
		})
		j.broken = e.broken
		actx, cancel := context.WithCancelCause(ctx)
		st.running, st.cancel = &j, cancel
		go func() { st.finished <- e.attempt(actx, j) }()
		return
	}
	why := errNewer
	if j.reply != nil {
		why = errCommand
	}
	e.drop(st.next, why)
	st.next = &j
	st.cancel(why)
}

// ended takes note of how an attempt went and goes on with what waits.
func (e *Engine) ended(ctx context.Context, st *loopState, out Outcome) {
	j := st.running
	st.cancel(nil)
	st.running = nil
	j.answer(out)
	switch f := out.Failure; {
	case j.trigger == store.TriggerDrift: // what is so of the tip stays so
		if f == nil {
			e.retire(ctx)
		} else if f.Reason != ReasonCancelled {
			e.log.Error("what is lost cannot be made anew", "revision", f.Revision, "stage", f.Stage, "reason", f.Reason, "error", f.Message)
		}
	case f != nil && j.trigger == store.TriggerRevert:
		e.postpone(st, f)
	case f != nil:
		e.note(st, f)
	case out.waiting != nil:
		e.log.Info("not applied yet", "revision", j.rev.Hash, "waiting_for", out.waiting.For, "until", out.waiting.Until, "reason", out.waiting.Message)
		st.refused, st.backoff = "", backoff{}
		st.retry.Stop()
		e.awaitWindow(st, out.waiting)
	default:
		st.unsure, st.refused, st.backoff = false, "", backoff{}
		st.retry.Stop()
		if out.Try != nil {
			st.ends = out.ends
		}
		e.broken = nil
		e.retire(ctx)
	}
	e.goOn(ctx, st, j.ordered())
	if e.broken == nil {
		e.mend(ctx, st) // what it made may be what a kept generation lacked
	}
}

// goOn begins what waits, now that nothing runs. look says that the tip is to be looked
// at again.
func (e *Engine) goOn(ctx context.Context, st *loopState, look bool) {
	if e.endTrial(ctx, st); st.running != nil {
		return // what waits goes on waiting
	}
	switch {
	case st.next != nil:
		next := *st.next
		st.next = nil
		e.begin(ctx, st, next)
	case st.recheck || look:
		st.recheck = false
		e.look(ctx, st)
	}
}

// windowCheck is how long the loop believes at most that the clock goes on as it
// does: it may be set, and a suspended machine's timers stand still.
const windowCheck = 30 * time.Second

// awaitWindow has the tip looked at again when the window that it waits for opens.
func (e *Engine) awaitWindow(st *loopState, w *Waiting) {
	if w.For != WaitWindow || w.Until.IsZero() {
		return
	}
	st.window.Reset(min(max(w.Until.Sub(e.now()), 0), windowCheck))
}

// command takes an operator's wish.
func (e *Engine) command(ctx context.Context, st *loopState, c command) {
	if c.do != nil {
		c.reply <- c.do(st)
		e.endTrial(ctx, st)
		e.look(ctx, st)
		return
	}
	c.job.reply = c.reply
	e.begin(ctx, st, c.job)
}
