package provider

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/dlreconcile/dlreconcile/schema"
)

// EventKinds lists every kind of event there is, those of machines first. The caller owns
// the list.
func EventKinds() []EventKind {
	return []EventKind{
		EventDiscover, EventOffer, EventAck, EventNak, EventTaken, EventFile, EventFileError,
		EventAttach, EventDetach, EventDenied, EventFilling, EventFull, EventPhone,
		NoteCommitSeen, NoteCommitRefused, NoteApplyStarted, NoteApplied, NoteUnchanged, NoteWaiting,
		NoteReverted, NoteConfirmed, NoteReleased, NoteSuspended, NoteResumed, NoteDriftFound, NoteDriftHealed,
		NoteRepoUnreachable, NoteRepoReachable, NoteTrouble, NoteTroubleOver, NoteCondition, NoteAuditFailed, NoteGap,
	}
}

// CheckEventPattern says why a pattern, as of path.Match, matches no kind of event; nil
// when it matches one.
func CheckEventPattern(pattern string) error {
	kinds := EventKinds()
	if _, err := path.Match(pattern, ""); err != nil {
		return fmt.Errorf("%q: %w", pattern, err)
	}
	if slices.ContainsFunc(kinds, func(k EventKind) bool { ok, _ := path.Match(pattern, string(k)); return ok }) {
		return nil
	}
	var names []string
	for _, k := range kinds {
		names = append(names, string(k))
	}
	hint := ""
	if near := schema.Suggest(pattern, names); near != "" {
		hint = fmt.Sprintf(", did you mean %q?", near)
	}
	return fmt.Errorf("no event is of the kind %q%s Kinds are %s", pattern, orStop(hint), strings.Join(names, ", "))
}

// orStop ends a sentence.
func orStop(hint string) string {
	if hint == "" {
		return "."
	}
	return hint
}
