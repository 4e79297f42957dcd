package engine

import (
	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// emit tells what the engine did or saw. It may be called while any lock is held.
func (e *Engine) emit(n provider.Note) {
	if e.cfg.Notes == nil {
		return
	}
	if n.At.IsZero() {
		n.At = e.now()
	}
	n.Message = firstBytes(n.Message, mostText)
	e.cfg.Notes.Note(n)
}

// noteChanges tells what became of the status since it was told last. The caller
// holds e.mu.
func (e *Engine) noteChanges(was, is *Status) {
	if is.Tip != was.Tip && is.Tip != "" {
		e.emit(provider.Note{Kind: provider.NoteCommitSeen, Revision: is.Tip, Subject: is.TipSubject, Generation: is.Generation})
	}
	switch {
	case is.RepoError != "" && was.RepoError == "":
		e.emit(provider.Note{Kind: provider.NoteRepoUnreachable, Message: is.RepoError, Generation: is.Generation})
	case is.RepoError == "" && was.RepoError != "":
		e.emit(provider.Note{Kind: provider.NoteRepoReachable, Generation: is.Generation})
	}
	if is.Attempt != "" && is.Attempt != was.Attempt {
		e.emit(provider.Note{Kind: provider.NoteApplyStarted, Revision: is.Attempt, Generation: is.Generation})
	}
	if w := is.Waiting; w != nil && (was.Waiting == nil || was.Waiting.Revision != w.Revision || was.Waiting.For != w.For) {
		e.emit(provider.Note{Kind: provider.NoteWaiting, Revision: w.Revision, Generation: is.Generation, Reason: w.For, Message: w.Message, Until: w.Until})
	}
	switch {
	case is.ServeError != "" && is.ServeError != was.ServeError:
		e.emit(provider.Note{Kind: provider.NoteTrouble, Message: is.ServeError, Generation: is.Generation})
	case is.ServeError == "" && was.ServeError != "":
		e.emit(provider.Note{Kind: provider.NoteTroubleOver, Generation: is.Generation})
	}
	for i, c := range is.Conditions {
		if i < len(was.Conditions) && (was.Conditions[i].Status != c.Status || was.Conditions[i].Reason != c.Reason) {
			e.emit(provider.Note{
				Kind: provider.NoteCondition, At: c.LastTransition, Revision: c.ObservedRevision, Generation: c.ObservedGeneration,
				Condition: c.Type, Status: new(c.Status), Reason: c.Reason, Message: c.Message,
			})
		}
	}
}

// noteAudited tells what the audit log has of an attempt, or of an order.
func (e *Engine) noteAudited(entry *store.AuditEntry, p *plan.Plan, f *Failure) {
	n := provider.Note{
		Revision: entry.Revision, Generation: entry.Generation, Trigger: entry.Trigger, By: entry.Who.Via,
		Reason: entry.Reason, Message: entry.Message, Hosts: entry.Hosts,
	}
	switch entry.Result {
	case store.AuditRefused:
		n.Kind, n.Retry = provider.NoteCommitRefused, f != nil && f.Retry
	case store.AuditUnchanged:
		n.Kind = provider.NoteUnchanged
	case store.AuditApplied:
		n.Kind = provider.NoteApplied
		if entry.Trigger == store.TriggerRevert {
			n.Kind = provider.NoteReverted
		}
		if p != nil {
			n.Changes = &provider.NoteChanges{Create: p.Summary.Create, Update: p.Summary.Update, Replace: p.Summary.Replace, Delete: p.Summary.Delete}
		}
	case store.AuditDone:
		switch entry.Trigger {
		case store.TriggerRelease:
			n.Kind = provider.NoteReleased
		case store.TriggerSuspend:
			n.Kind = provider.NoteSuspended
		case store.TriggerResume:
			n.Kind = provider.NoteResumed
		case store.TriggerConfirm:
			n.Kind = provider.NoteConfirmed
		default:
			return
		}
	default:
		return // that it waits is told where the status says so
	}
	e.emit(n)
}
