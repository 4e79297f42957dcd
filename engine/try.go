package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// What becomes of a generation that is served on trial. The set is closed.
const (
	TriedConfirmed = "confirmed" // it is served for good
	TriedReverted  = "reverted"  // nobody did, and the one before is served again
	TriedReplaced  = "replaced"  // an operator had something else applied
)

// Tried is how a trial ended.
type Tried struct {
	Generation uint64    `json:"generation"`
	Revision   string    `json:"revision"`
	Result     string    `json:"result"` // TriedConfirmed, …
	At         time.Time `json:"at"`
}

// Bounds of a trial: shorter, and nobody can look; longer, and nobody remembers.
const (
	minTry = time.Second
	maxTry = 24 * time.Hour
)

// CheckTry says why a trial cannot last that long; nil when it can, and for 0.
func CheckTry(d time.Duration) error {
	if d != 0 && (d < minTry || d > maxTry) {
		return fmt.Errorf("a trial of %s: want between %s and %s", d, minTry, maxTry)
	}
	return nil
}

// trialCheck is how long the loop believes at most that a timer does not stand still,
// as it does in a machine that sleeps.
const trialCheck = time.Second

// tryable says why a trial would have no way back; nil when it has one.
func (a *attempt) tryable(cur *applied) error {
	if a.j.try == 0 || cur != nil {
		return nil
	}
	return &Failure{
		Revision: a.j.rev.Hash, Stage: PhaseLoading, Reason: ReasonStale, At: a.now(),
		Message: "nothing is served that a trial could go back to: apply it without --try",
	}
}

// onTrial writes down that the generation number, over cur, is served on trial, or
// that whatever was on trial is not any more. One trial after another goes back to
// what was served before the first: nobody confirmed it.
func (a *attempt) onTrial(m *store.Memory, cur *applied, number uint64) {
	before := m.Try
	a.before = before
	if m.Try = nil; a.j.try == 0 {
		return
	}
	t := store.Try{Generation: number, Revision: a.j.rev.Hash, Deadline: a.now().Add(a.j.try).UTC(), By: a.j.by}
	s, _ := a.Status()
	switch {
	case before != nil:
		if t.Back, t.Held = before.Back, before.Held; number == 0 {
			t.Generation = before.Generation
		}
	case number == 0:
		return // it changes nothing: there is nothing to try
	default:
		t.Back, t.Held = cur.record.Number, s.Held.stored()
	}
	m.Try, a.ends = &t, a.elapsed()+a.j.try
}

// noteTried says what became of the trial over, when j ended it; nil is none.
func (s *Status) noteTried(j *job, over *store.Try, at time.Time) {
	if over == nil || j.offline {
		return
	}
	t := Tried{Generation: over.Generation, Revision: over.Revision, Result: TriedReplaced, At: at.UTC()}
	switch {
	case j.over != nil:
		t.Result = TriedReverted
	case j.try != 0 && j.rev.Hash == over.Revision:
		return // the same one, for longer
	}
	s.Tried = &t
}

// reverted quarantines what was tried, and gives why it is not served when the tracked
// ref is at it.
func (e *Engine) reverted(m *store.Memory, over *store.Try) *Failure {
	s, _ := e.Status()
	f := &Failure{
		Revision: over.Revision, Stage: PhaseIdle, Reason: ReasonReverted, At: e.now(),
		Message: fmt.Sprintf("generation %d was served on trial until %s, and nobody confirmed it: generation %d is served again", over.Generation, since(over.Deadline), over.Back),
	}
	quarantine(m, quarantineOf(f))
	// Right after a start the tip is not known: without a hold it was what was tried.
	if over.Held != nil || s.Tip != "" && s.Tip != over.Revision {
		return nil
	}
	m.Failed = &store.Held{Revision: f.Revision, Reason: f.Message, Since: f.At}
	return f
}

// endTrial goes back when a trial is over, and else sees to it that this is looked at
// again. It is called whenever something may have changed about that. What is under
// way is given up for it: nobody knows how long it takes.
func (e *Engine) endTrial(ctx context.Context, st *loopState) {
	s, _ := e.Status()
	if s.Try == nil {
		st.trial.Stop()
		return
	}
	if left := st.ends - e.elapsed(); left > 0 {
		st.trial.Reset(min(left, trialCheck))
		return
	}
	if st.running != nil {
		if st.running.over == nil {
			st.cancel(errTrial)
		}
		return // ended comes back here
	}
	j, err := e.revertJob(s.Try)
	if err != nil {
		e.postpone(st, failure(s.Try.Revision, PhaseLoading, err, e.now()))
		return
	}
	e.begin(ctx, st, j)
}

// postpone has going back tried again later.
func (e *Engine) postpone(st *loopState, f *Failure) {
	if f.Reason == ReasonCancelled {
		return
	}
	wait := st.backoff.next("", f.Cause, e.cfg.Retry)
	st.ends = e.elapsed() + wait
	e.log.Error("a trial is over, and going back fails", "generation", f.Revision, "stage", f.Stage, "error", f.Message, "next", wait)
	told := *f
	told.Retry, told.NextTry = true, e.now().Add(wait)
	e.update(func(s *Status) { s.Failure = &told })
}

// revertJob makes the job of going back from a trial.
func (e *Engine) revertJob(over *store.Try) (job, error) {
	back, err := e.wayBack(over)
	if err != nil {
		return job{}, err
	}
	return job{
		trigger: store.TriggerRevert, generation: back.Number, over: over, hold: holdOf(over.Held),
		rev: source.Revision{Hash: back.Revision, Subject: back.Subject, Author: back.Author},
	}, nil
}

// wayBack gives the record of what was served before a trial, or when that cannot be
// read, of the newest generation before it that can.
func (e *Engine) wayBack(over *store.Try) (*store.Record, error) {
	back, err := e.cfg.Store.Get(over.Back)
	if err == nil {
		return back, nil
	}
	for _, h := range slices.Backward(e.cfg.Store.List()) {
		if h.Number < over.Back && h.Damaged == "" {
			e.log.Error("what was served before a trial cannot be read; an older generation is served", "generation", h.Number, "error", err)
			return e.cfg.Store.Get(h.Number)
		}
	}
	return nil, err
}

// revertAtStart ends a trial that the process before did not get to end: rec, on
// trial, is not served again. It gives what is to be served. While the disk does not
// take that, the trial stays armed, and the loop goes on trying.
func (e *Engine) revertAtStart(rec *store.Record) *store.Record {
	s, _ := e.Status()
	over := s.Try
	if over == nil || over.Generation != rec.Number {
		return rec
	}
	back, err := e.wayBack(over)
	if err != nil {
		e.log.Error("a generation on trial is served on: nothing before it can be read", "generation", rec.Number, "error", err)
		return rec
	}
	e.avoided = rec.Number
	again := *back
	again.Number, again.Parent, again.Created = 0, 0, e.now()
	again.Trigger, again.Held = store.TriggerRevert, over.Held
	again.By, again.Overrides, again.SavedPlan = store.Actor{Via: store.ViaDaemon}, nil, false
	if again.RolledBackTo == 0 {
		again.RolledBackTo = back.Number
	}
	if again.Plan = e.planBack(rec, back); again.Plan == nil {
		again.Plan = &plan.Plan{FormatVersion: plan.FormatVersion, Changes: []plan.Change{}} // nobody can tell
	}
	var m store.Memory
	var f *Failure
	err = e.cfg.Store.Record(&again, func(now *store.Memory) {
		now.Try = nil
		acquit(now, again.Revision)
		f = e.reverted(now, over)
		m = *now
	})
	if err != nil {
		e.log.Error("going back from a trial cannot be recorded; what was served before it is served", "generation", back.Number, "error", err)
		return back
	}
	e.log.Warn("nobody confirmed the generation on trial; going back", "generation", over.Generation, "back", back.Number)
	e.update(func(s *Status) {
		s.noteTried(&job{over: over}, over, e.now())
		s.take(&m)
		s.Held, s.Synced, s.Failure = holdOf(again.Held), again.Revision, f
	})
	j := job{trigger: again.Trigger, rev: source.Revision{Hash: again.Revision}, by: again.By}
	e.audited(&j, &Outcome{Generation: again.Number, Plan: again.Plan}, false, store.AuditChanges(again.Plan)...)
	return &again
}

// planBack says what going from one recorded generation to another changes; nil when
// one of them cannot be read. Machines have not been heard yet.
func (e *Engine) planBack(from, to *store.Record) *plan.Plan {
	a, err := e.read(from)
	if err != nil {
		return nil
	}
	b, err := e.read(to)
	if err != nil {
		return nil
	}
	return e.compareWith(a, to.Revision, b.desired, recorded(to, b.desired), nil)
}

// Confirm keeps the generation that is on trial. generation, when not 0, is the one
// that the caller means.
func (e *Engine) Confirm(ctx context.Context, generation uint64, by store.Actor) (Outcome, error) {
	return e.ConfirmFrom(ctx, nil, generation, by)
}

// ConfirmFrom is Confirm for what somebody decided on a generation; see RollbackFrom.
func (e *Engine) ConfirmFrom(ctx context.Context, expect *uint64, generation uint64, by store.Actor) (Outcome, error) {
	return e.send(ctx, command{do: func(st *loopState) Outcome {
		out := e.decided(expect, func() Outcome { return e.confirm(st, generation) })
		e.auditOrder(order{trigger: store.TriggerConfirm, by: by, revision: out.Revision}, out)
		return out
	}})
}

func (e *Engine) confirm(st *loopState, generation uint64) Outcome {
	s, _ := e.Status()
	out := e.unchangedOutcome()
	stale := func(text string) Outcome {
		out.Failure = &Failure{Revision: s.Revision, Stage: PhaseIdle, Reason: ReasonStale, Message: text, At: e.now()}
		return out
	}
	switch {
	case s.Try == nil && s.Tried != nil && s.Tried.Result == TriedReverted:
		return stale(fmt.Sprintf("nothing is on trial: generation %d was reverted at %s", s.Tried.Generation, since(s.Tried.At)))
	case s.Try == nil:
		return stale("nothing is on trial")
	case generation != 0 && generation != s.Try.Generation:
		return stale(fmt.Sprintf("generation %d is on trial, and not generation %d", s.Try.Generation, generation))
	case e.Generation() != s.Try.Generation, st.running != nil && st.running.over != nil:
		return stale("the trial is over: the generation before it is being served again")
	}
	found := false
	err := e.memorize(func(m *store.Memory) {
		// What is recorded and not yet served has ended this trial already.
		if found = m.Try != nil && m.Try.Generation == s.Try.Generation; found {
			m.Try = nil
		}
	})
	switch {
	case err != nil:
		out.Failure = failure(s.Try.Revision, PhaseIdle, err, e.now())
		return out
	case !found:
		return stale(fmt.Sprintf("generation %d is not on trial any more: what was applied after it is being served in its place", s.Try.Generation))
	}
	st.unsure = true
	e.update(func(now *Status) {
		now.Tried = &Tried{Generation: s.Try.Generation, Revision: s.Try.Revision, Result: TriedConfirmed, At: e.now().UTC()}
		now.Failure = nil // that going back failed; the tip is looked at again
	})
	e.log.Info("confirmed", "generation", s.Try.Generation, "revision", s.Try.Revision)
	return out
}
