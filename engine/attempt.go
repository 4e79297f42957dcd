package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/explain"
	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// job is one thing to bring about: a revision, or an earlier generation.
type job struct {
	trigger    string          // store.TriggerCommit and so on, for the record
	rev        source.Revision // of the repo; for a rollback what the generation recorded
	generation uint64          // to go back to; 0 for a revision
	hold       *Hold           // what the tracked ref is held at, once it is served
	expect     *uint64         // generation that the caller saw; nil: any
	saved      *SavedPlan      // what is to be done, exactly; nil: whatever the plan says
	overrides  []string        // rules of the policy that are passed; see CheckOverrides
	by         store.Actor
	tip        string         // of the tracked ref when the job was made, "" when not known
	named      bool           // the operator named the revision, and did not just want the tip
	try        time.Duration  // how long it is served on trial; 0: for good
	over       *store.Try     // the trial that this goes back from; else nil
	reply      chan<- Outcome // capacity 1, answered once; nil: nobody waits
	// broken is the recorded generation while something else, or nothing, stands in for
	// it; else nil. See Engine.broken.
	broken *store.Record
	// mends is the recorded generation that is tried again, and nothing else is done;
	// else nil. See mend.
	mends *store.Record
	// approve, when not nil, is shown the plan before anything is prepared; its
	// error ends the attempt.
	approve func(*plan.Plan) error
	// offline records the generation and publishes nothing: there are no servers
	// in this process.
	offline bool
}

// ordered reports whether a newer commit has to wait until j is done: somebody wants
// it, or a trial is over. What is lost is made anew by the engine itself.
func (j *job) ordered() bool {
	return j.trigger != store.TriggerDrift && (j.reply != nil || j.generation != 0)
}

func (j *job) answer(out Outcome) {
	if j.reply != nil {
		j.reply <- out
	}
}

// attempt brings one job about, or leaves everything as it was. It runs in a
// goroutine of its own while the loop goes on listening; no two run at once. What came
// of it is shown by settle.
func (e *Engine) attempt(ctx context.Context, j job) *attempt {
	// Before anything is judged by them: keys that change meanwhile are another matter.
	a := &attempt{Engine: e, j: j, stage: PhaseLoading, settings: e.digestSettings()}
	if err := e.mendAudit(); err != nil { // which the start could not
		e.log.Error("the audit log cannot be mended", "error", err)
	}
	err := a.run(ctx)
	out := &a.out
	out.Plan = a.plan
	if cur := e.current(); cur != nil {
		out.Generation, out.Revision = cur.record.Number, cur.record.Revision
	}
	var wait *waitError
	switch {
	case errors.As(err, &wait) && ctx.Err() == nil:
		out.waiting = &wait.Waiting
	case err != nil:
		out.Failure = a.failure(ctx, err)
		out.Failure.settings = a.settings
	}
	a.audit(out)
	return a
}

// attempt is one run of a job.
type attempt struct {
	*Engine
	j        job
	stage    Phase
	plan     *plan.Plan // what was, or would be, applied; nil: it did not come to that
	obs      []plan.Observation
	begun    *store.Attempt // as the journal has it; nil: it did not come to that
	recorded bool           // there is no way back
	// overridden lists the rules that would have stopped it, sorted.
	overridden []string
	missing    error           // why the commit has no configuration; nil: it has its folder
	trusted    *source.Trusted // what Verify let through, where the tracked ref is at it
	memory     store.Memory    // as it was written; see remember
	before     *store.Try      // the trial that it ended, or went on with; nil: none
	after      *Failure        // why the tip is not served although the attempt succeeded
	settings   string          // digest of those in force
	ends       time.Duration   // of Config.Elapsed: when the trial does
	out        Outcome         // what came of it, but for what settle adds
}

func (a *attempt) enter(p Phase) {
	a.stage = p
	a.update(func(s *Status) { s.Phase = p })
}

// failure makes a Failure of why the attempt ended.
func (a *attempt) failure(ctx context.Context, err error) *Failure {
	if ctx.Err() != nil {
		// Whatever the error says: a killed program does not know why.
		why := context.Cause(ctx)
		if errors.Is(why, context.Canceled) {
			why = errStopped
		}
		f := a.cancelled(&a.j, why)
		f.Stage = a.stage
		return f
	}
	f := failure(a.j.rev.Hash, a.stage, err, a.now())
	if a.j.generation != 0 {
		f.Retry = false
	}
	return f
}

// run is attempt's steps. A panic on the way is an error: what is served is
// unharmed, and the commit that causes it must not take the daemon along.
func (a *attempt) run(ctx context.Context) (err error) {
	defer func() {
		if a.recorded {
			return // half published: only a start from the record puts that right
		}
		if r := recover(); r != nil {
			a.log.Error("panic in an attempt", "revision", a.j.rev.Hash, "stage", a.stage, "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic while %s: %v", a.stage, r)
		}
	}()
	cur := a.current()
	if err := a.expected(); err != nil {
		return err
	}
	if err := a.awake(); err != nil {
		return err
	}
	if err := a.tryable(cur); err != nil {
		return err
	}

	a.enter(PhaseVerifying)
	if err := a.verify(ctx); err != nil {
		return err
	}

	a.enter(PhaseLoading)
	rec, in, err := a.load(ctx)
	if err != nil {
		return err
	}

	a.enter(PhasePlanning)
	if a.obs, err = a.observe(ctx); err != nil {
		return err
	}
	a.plan = a.compare(a.j.rev.Hash, in.Want, in.Artifacts, a.obs)
	if err := a.unchanged(in.Want); err != nil {
		return err
	}
	if cur != nil && !a.plan.Pending() && a.j.generation == 0 && a.j.trigger != store.TriggerDrift && a.lasts(cur) {
		// The commit says what is served already: no new generation, but the
		// revision counts as reached, now and after a restart.
		return a.setSynced()
	}
	a.enter(PhaseGating)
	if err := a.gate(cur, in.Want, rec.Files); err != nil {
		return err
	}
	if a.j.approve != nil {
		if err := a.j.approve(a.plan); err != nil {
			f := a.cancelled(&a.j, err)
			f.Stage = a.stage
			return f
		}
	}
	if !in.Offline {
		in.Plan = a.plan
	}

	// Prepare: everything that can fail.
	a.enter(PhasePreparing)
	if in.Generation, err = a.cfg.Store.Next(); err != nil {
		return err
	}
	// Unless it is recorded, it ends when its line is written: see audit.
	a.begun = &store.Attempt{Generation: in.Generation, Base: a.Generation(), Trigger: a.j.trigger, Revision: a.j.rev.Hash, Began: a.now().UTC()}
	if err := a.cfg.Store.Begin(*a.begun); err != nil {
		return err
	}
	unpin := a.cfg.Store.Content().Pin()
	defer unpin()
	t, err := a.prepare(ctx, a.cfg.Providers, in)
	if err != nil {
		return err
	}
	defer t.abort() // nothing to do once committed

	// Check: every machine resolves from the tables about to be published.
	a.enter(PhaseChecking)
	if diags := explain.Check(t.answer, in.Want); diags.HasErrors() {
		return diags
	}
	if err := ctx.Err(); err != nil {
		return err
	}

	if a.j.trigger == store.TriggerDrift && t.same(cur.record) {
		return nil // what was lost is there again, and that is all
	}

	// Record, then publish. After the rename there is no way back, and none
	// is needed: Commit cannot fail.
	a.enter(PhaseRecording)
	rec.Number, rec.Created = in.Generation, a.now()
	rec.Plan, rec.Held = a.plan, a.j.hold.stored()
	rec.By, rec.Overrides, rec.SavedPlan = a.j.by, a.overridden, a.j.saved != nil
	rec.Bases = bases(in.Want)
	t.fill(rec)
	if err := a.cfg.Store.Record(rec, func(m *store.Memory) { a.remember(m, cur, rec.Number) }); err != nil {
		return err
	}
	a.recorded = true
	publish := func() {
		a.update(func(s *Status) {
			a.publish(s, rec, in.Want)
			s.Synced, s.Held = rec.Revision, a.j.hold
		})
	}
	if cur == nil {
		publish() // sockets answer from now on, and machines are pinned to this number
	}
	if !a.j.offline {
		failpoint.Hit("engine.publish.begin")
		t.commit()
		failpoint.Hit("engine.publish.end")
		a.cfg.Store.Published(rec.Number)
	}
	if cur != nil {
		publish() // not before DHCP has the table
	}
	sum := a.plan.Summary
	a.log.Info("applied", "generation", rec.Number, "revision", rec.Revision, "trigger", a.j.trigger,
		"create", sum.Create, "update", sum.Update, "replace", sum.Replace, "delete", sum.Delete)
	return nil
}

// lasts reports whether a start would serve cur: not when it stands in for a newer
// generation that could not be served.
func (a *attempt) lasts(cur *applied) bool {
	rec, ok, err := a.cfg.Store.Current()
	return err == nil && ok && rec.Number == cur.record.Number
}

// expected compares what is served with what the caller saw.
func (a *attempt) expected() error {
	if a.j.expect == nil {
		return nil
	}
	return a.expectBase(a.j.rev.Hash, *a.j.expect)
}
