package engine

import (
	"slices"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// audit writes down what an attempt came to.
func (a *attempt) audit(out *Outcome) {
	j := a.j
	j.overrides = a.overridden
	a.auditedAttempt(&j, out, j.saved != nil, a.begun, a.applied()...)
	a.keepRefusal(&j, out)
}

// applied gives the changes that were brought about: those of the plan, once its
// generation is recorded.
func (a *attempt) applied() []store.AuditChange {
	if !a.recorded {
		return nil
	}
	return store.AuditChanges(a.plan)
}

// audited is auditedAttempt for what did not come to a beginning.
func (e *Engine) audited(j *job, out *Outcome, saved bool, changes ...store.AuditChange) {
	e.auditedAttempt(j, out, saved, nil, changes...)
}

// auditedAttempt writes one line of the audit log, and then ends the attempt in the
// journal, if it has begun there and was not recorded. It cannot undo what was done, so an
// error is told in the log and in the status, and the line is written before the next
// one. Should the process end before, the next start writes it for a generation that
// has none.
func (e *Engine) auditedAttempt(j *job, out *Outcome, saved bool, begun *store.Attempt, changes ...store.AuditChange) {
	entry := store.AuditEntry{
		Time: e.now(), Trigger: j.trigger, Who: j.by, Revision: j.rev.Hash, Generation: out.Generation,
		Overrides: j.overrides, SavedPlan: saved, Changes: changes,
	}
	if entry.Trigger == "" {
		entry.Trigger = store.TriggerApply
	}
	if entry.Who.Via == "" {
		entry.Who.Via = store.ViaDaemon
	}
	switch {
	case out.Failure != nil:
		entry.Result, entry.Reason, entry.Message = store.AuditRefused, out.Failure.Reason, out.Failure.Message
		if entry.Revision == "" {
			entry.Revision = out.Failure.Revision
		}
	case out.waiting != nil:
		entry.Result, entry.Reason, entry.Message = store.AuditWaiting, out.waiting.For, out.waiting.Message
	case changes != nil:
		entry.Result = store.AuditApplied
		entry.PolicyChanged = len(out.Plan.Policy) > 0
	default:
		entry.Result = store.AuditUnchanged
	}
	if begun != nil {
		entry.Began = begun.Began
	}
	e.writeDown(entry, begun)
	e.noteAudited(&entry, out.Plan, out.Failure)
}

// order is an operator's order that makes no generation.
type order struct {
	trigger  string // store.TriggerRelease, …
	by       store.Actor
	revision string   // that it was about; "": everything, or hosts
	message  string   // the reason that was given with it
	hosts    []string // that it was about
}

// auditOrder writes down what became of an order.
func (e *Engine) auditOrder(o order, out Outcome) {
	entry := store.AuditEntry{
		Time: e.now(), Trigger: o.trigger, Who: o.by, Revision: o.revision, Generation: out.Generation,
		Result: store.AuditDone, Message: o.message, Hosts: o.hosts,
	}
	if entry.Who.Via == "" {
		entry.Who.Via = store.ViaDaemon
	}
	if f := out.Failure; f != nil {
		entry.Result, entry.Reason, entry.Message = store.AuditRefused, f.Reason, f.Message
	}
	e.writeDown(entry, nil)
	if out.Failure == nil {
		e.noteAudited(&entry, nil, nil)
	}
}

// writeDown writes one line, and tells when it cannot. begun is as in owedLine.
func (e *Engine) writeDown(entry store.AuditEntry, begun *store.Attempt) {
	if e.cfg.Meter != nil {
		e.cfg.Meter.Attempt(entry.Result, entry.Reason)
	}
	if err := e.writeAudit(entry, begun); err != nil {
		e.log.Error("what was done cannot be written down", "revision", entry.Revision, "result", entry.Result, "error", err)
		e.emit(provider.Note{Kind: provider.NoteAuditFailed, Revision: entry.Revision, Message: err.Error()})
	}
}

// mostUnwritten bounds the lines that wait for a disk.
const mostUnwritten = 256

// owedLine is a line that is to be in the audit log.
type owedLine struct {
	store.AuditEntry
	begun *store.Attempt // that is over for the journal once the line is written; nil: none
}

// writeAudit writes the lines that could not be written before, and then this one.
func (e *Engine) writeAudit(entry store.AuditEntry, begun *store.Attempt) error {
	e.auditMu.Lock()
	defer e.auditMu.Unlock()
	e.unwritten = append(e.unwritten, owedLine{entry, begun})
	err := e.writeOwed()
	if len(e.unwritten) > mostUnwritten {
		// What was not applied is the smaller loss.
		i := max(0, slices.IndexFunc(e.unwritten, func(l owedLine) bool { return l.Result != store.AuditApplied }))
		e.log.Error("a line of the audit log is lost", "revision", e.unwritten[i].Revision, "generation", e.unwritten[i].Generation, "result", e.unwritten[i].Result)
		e.unwritten = slices.Delete(e.unwritten, i, i+1)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.auditErr = err
	return err
}

// writeOwed writes the lines that wait, in their order. The caller holds auditMu.
func (e *Engine) writeOwed() error {
	for len(e.unwritten) > 0 {
		one := e.unwritten[0]
		if err := e.cfg.Store.Audit(one.AuditEntry); err != nil {
			return err
		}
		e.unwritten = e.unwritten[1:]
		if one.begun != nil {
			e.cfg.Store.Settled(*one.begun)
		}
	}
	return nil
}

// mendAudit writes the lines that the process before did not get to. Once it has, it
// does nothing. It is called while no attempt is under way, which may have recorded what
// it has not written down yet.
func (e *Engine) mendAudit() error {
	if e.auditMended {
		return nil
	}
	e.auditMu.Lock()
	err := e.writeOwed() // those of a try before
	e.auditMu.Unlock()
	if err != nil {
		return err
	}
	missing, err := e.cfg.Store.MissingAudit()
	if err == nil && missing != nil {
		err = e.writeAudit(*missing, nil)
	}
	if err != nil {
		return err
	}
	cut, err := e.cfg.Store.InterruptedAudit()
	if err != nil {
		return err
	}
	for _, one := range cut {
		if one.Line == nil {
			e.cfg.Store.Settled(one.Attempt)
		} else if err := e.writeAudit(*one.Line, &one.Attempt); err != nil {
			return err
		}
	}
	e.auditMended = true
	return nil
}

// prove readies what the engine proves with: the audit log and the host key. Serving
// goes on without either.
func (e *Engine) prove() {
	if err := e.mendAudit(); err != nil {
		e.log.Error("the audit log cannot be mended", "error", err)
		e.mu.Lock()
		e.auditErr = err
		e.mu.Unlock()
	}
	key, err := e.cfg.Store.HostKey()
	if err != nil {
		e.log.Error("plans cannot be saved here", "error", err)
		return
	}
	e.update(func(s *Status) { s.HostKey = key.Public() })
}
