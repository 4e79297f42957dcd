package provider

import (
	"time"

	"github.com/dlreconcile/dlreconcile/schema"
)

// Kinds of notes: what the engine did or saw. Together with the kinds of Event they
// are one set, and it is closed.
const (
	NoteCommitSeen      EventKind = "commit.seen"      // the tracked ref is at another commit: Revision, Subject
	NoteCommitRefused   EventKind = "commit.refused"   // an attempt failed: Revision, Reason, Message, Retry
	NoteApplyStarted    EventKind = "apply.started"    // an attempt began: Revision
	NoteApplied         EventKind = "applied"          // a generation is served: Revision, Generation, Trigger, Changes
	NoteUnchanged       EventKind = "unchanged"        // a revision describes what is served: Revision
	NoteWaiting         EventKind = "waiting"          // a revision is not applied yet: Revision, Reason, Message, Until
	NoteReverted        EventKind = "reverted"         // a trial went back by itself: Generation
	NoteConfirmed       EventKind = "confirmed"        // a trial is kept: Generation
	NoteReleased        EventKind = "released"         // a hold or a quarantine was given up
	NoteSuspended       EventKind = "suspended"        // Hosts, or everything when there are none; Message is the reason
	NoteResumed         EventKind = "resumed"          // likewise
	NoteDriftFound      EventKind = "drift.found"      // Address, Message
	NoteDriftHealed     EventKind = "drift.healed"     // Address
	NoteRepoUnreachable EventKind = "repo.unreachable" // Message
	NoteRepoReachable   EventKind = "repo.reachable"
	NoteTrouble         EventKind = "trouble"      // what is served is not served whole: Message
	NoteTroubleOver     EventKind = "trouble.over" //
	NoteCondition       EventKind = "condition"    // a condition changed: Condition, Status, Reason
	NoteAuditFailed     EventKind = "audit.failed" // a line of the audit log cannot be written: Message
	NoteGap             EventKind = "gap"          // events before the next one are forgotten: Missed
)

// IsNote reports whether k is the kind of a note.
func (k EventKind) IsNote() bool {
	switch k {
	case NoteCommitSeen, NoteCommitRefused, NoteApplyStarted, NoteApplied, NoteUnchanged, NoteWaiting, NoteReverted, NoteConfirmed,
		NoteReleased, NoteSuspended, NoteResumed, NoteDriftFound, NoteDriftHealed, NoteRepoUnreachable, NoteRepoReachable,
		NoteTrouble, NoteTroubleOver, NoteCondition, NoteAuditFailed, NoteGap:
		return true
	}
	return false
}

// Note is one thing that the engine did or saw. There are no secrets in it: what it
// says stands in the status or in the audit log.
type Note struct {
	Kind       EventKind    `json:"kind"`
	At         time.Time    `json:"at"` // zero: when it is noted
	Revision   string       `json:"revision,omitempty"`
	Subject    string       `json:"subject,omitempty"`
	Generation uint64       `json:"generation,omitempty"` // served
	Trigger    string       `json:"trigger,omitempty"`
	By         string       `json:"by,omitempty"`     // who gave the order: "daemon", "socket", …
	Reason     string       `json:"reason,omitempty"` // one word
	Message    string       `json:"message,omitempty"`
	Retry      bool         `json:"retry,omitempty"` // it is tried again by itself
	Until      time.Time    `json:"until,omitzero"`
	Address    schema.Addr  `json:"resource,omitzero"`
	Hosts      []string     `json:"hosts,omitempty"`
	Changes    *NoteChanges `json:"changes,omitempty"`
	Condition  string       `json:"condition,omitempty"`
	Status     *bool        `json:"status,omitempty"` // of the condition
	Missed     uint64       `json:"missed,omitempty"` // 0 in a gap: nobody knows how many
}

// NoteChanges counts what was applied.
type NoteChanges struct {
	Create  int `json:"create"`
	Update  int `json:"update"`
	Replace int `json:"replace"`
	Delete  int `json:"delete"`
}
