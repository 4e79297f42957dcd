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
	a.audited(&j, out, j.saved != nil, a.applied()...)
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

// audited writes one line of the audit log. It cannot undo what was done, so an
// error is told in the log and in the status, and the line is written before the next
// one. Should the process end before, the next start writes it for a generation that
// has none.
func (e *Engine) audited(j *job, out *Outcome, saved bool, changes ...store.AuditChange) {
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
	e.writeDown(entry)
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
	e.writeDown(entry)
	if out.Failure == nil {
		e.noteAudited(&entry, nil, nil)
	}
}

// writeDown writes one line, and tells when it cannot.
func (e *Engine) writeDown(entry store.AuditEntry) {
	if e.cfg.Meter != nil {
		e.cfg.Meter.Attempt(entry.Result, entry.Reason)
	}
	if err := e.writeAudit(entry); err != nil {
		e.log.Error("what was done cannot be written down", "revision", entry.Revision, "result", entry.Result, "error", err)
		e.emit(provider.Note{Kind: provider.NoteAuditFailed, Revision: entry.Revision, Message: err.Error()})
	}
}

// mostUnwritten bounds the lines that wait for a disk.
const mostUnwritten = 256

// writeAudit writes the lines that could not be written before, and then this one.
func (e *Engine) writeAudit(entry store.AuditEntry) error {
	e.auditMu.Lock()
	defer e.auditMu.Unlock()
	e.unwritten = append(e.unwritten, entry)
	var err error
	for len(e.unwritten) > 0 {
		if err = e.cfg.Store.Audit(e.unwritten[0]); err != nil {
			break
		}
		e.unwritten = e.unwritten[1:]
	}
	if len(e.unwritten) > mostUnwritten {
		// What was not applied is the smaller loss.
		i := max(0, slices.IndexFunc(e.unwritten, func(e store.AuditEntry) bool { return e.Result != store.AuditApplied }))
		e.log.Error("a line of the audit log is lost", "revision", e.unwritten[i].Revision, "generation", e.unwritten[i].Generation, "result", e.unwritten[i].Result)
		e.unwritten = slices.Delete(e.unwritten, i, i+1)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.auditErr = err
	return err
}

// mendAudit writes the lines that the process before did not get to.
func (e *Engine) mendAudit() error {
	missing, err := e.cfg.Store.MissingAudit()
	if err == nil && missing != nil {
		err = e.writeAudit(*missing)
	}
	if err != nil {
		return err
	}
	cut, err := e.cfg.Store.InterruptedAudit()
	if err != nil {
		return err
	}
	for _, one := range cut {
		if one.Line != nil {
			if err := e.writeAudit(*one.Line); err != nil {
				return err
			}
		}
		e.cfg.Store.Aborted(one.Attempt)
	}
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
