package engine

import (
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/dlreconcile/dlreconcile/engine/store"
)

// Types of conditions. The set is closed, and a status has each of them, in this
// order.
const (
	// ConditionReady says that what is served is what is wanted, as far as is known:
	// it is never true while a commit is refused, over restarts too.
	ConditionReady = "Ready"
	// ConditionSynced says that the newest commit is what is served.
	ConditionSynced = "Synced"
	// ConditionSourceReachable says that the last look at the repo found a commit.
	ConditionSourceReachable = "SourceReachable"
	// ConditionTrusted says that no commit was refused for its signature or history, and
	// that it could be checked.
	ConditionTrusted = "Trusted"
	// ConditionHealthy says that what is served is served whole.
	ConditionHealthy = "Healthy"
)

// Condition is one yes-or-no fact with its reason.
type Condition struct {
	Type    string `json:"type"` // ConditionReady, …
	Status  bool   `json:"status"`
	Reason  string `json:"reason"` // one word
	Message string `json:"message,omitempty"`
	// ObservedRevision is the newest commit that was seen when this was so last, ""
	// while none was; ObservedGeneration is what was served.
	ObservedRevision   string `json:"observed_revision"`
	ObservedGeneration uint64 `json:"observed_generation"`
	// LastTransition is when Status or Reason became what they are, by the daemon's
	// clock; UTC. A new message is no transition.
	LastTransition time.Time `json:"last_transition"`
}

// Condition gives the condition of a type; ok is false when there is none such.
func (s *Status) Condition(kind string) (Condition, bool) {
	i := slices.IndexFunc(s.Conditions, func(c Condition) bool { return c.Type == kind })
	if i < 0 {
		return Condition{}, false
	}
	return s.Conditions[i], true
}

// reassess works the conditions of s anew, and keeps of each that did not change
// since when it holds. It leaves the old slice as it was: readers may have it.
func (s *Status) reassess(now func() time.Time) {
	s.noteRefusal()
	was := s.Conditions
	s.Conditions = conditions(s)
	for i := range s.Conditions {
		c := &s.Conditions[i]
		c.ObservedRevision, c.ObservedGeneration = s.Tip, s.Generation
		if i < len(was) && was[i].Status == c.Status && was[i].Reason == c.Reason {
			c.LastTransition = was[i].LastTransition
		} else {
			c.LastTransition = now().UTC()
		}
	}
}

// conditions says what holds of s. It neither dates nor compares.
func conditions(s *Status) []Condition {
	return []Condition{readyCondition(s), syncedCondition(s), sourceCondition(s), trustedCondition(s), healthyCondition(s)}
}

func readyCondition(s *Status) Condition {
	no := func(reason, message string) Condition {
		return Condition{Type: ConditionReady, Reason: reason, Message: message}
	}
	message, refused := s.refused()
	switch {
	case s.Phase == PhaseStarting:
		return no("Starting", "")
	case refused:
		return no("Refused", message)
	case s.ServeError != "":
		return no("ServeError", s.ServeError)
	case s.Generation == 0:
		return no("NothingApplied", "")
	}
	return Condition{Type: ConditionReady, Status: true, Reason: "Serving"}
}

// noteRefusal remembers which commit was refused last, until it is served or the tip
// is another one: while it is tried again, it has not been let through yet.
func (s *Status) noteRefusal() {
	if f := s.Failure; f != nil {
		s.lastRefused = &store.Held{Revision: f.Revision, Reason: f.Message, Since: f.At}
	} else if r := s.lastRefused; r != nil && (r.Revision == s.Synced || s.Tip != "" && s.Tip != r.Revision) {
		s.lastRefused = nil
	}
}

// refused reports whether a commit is refused at present, and why. One that is held
// is not wanted.
func (s *Status) refused() (message string, ok bool) {
	switch {
	case s.Failure != nil:
		return s.Failure.Message, true
	case s.lastRefused != nil && s.Held == nil:
		return s.lastRefused.Reason, true
	}
	return "", false
}

// keepRefusal has the next process know whether the tip was refused. out is what an
// attempt came to.
func (e *Engine) keepRefusal(j *job, out *Outcome) {
	if j.trigger == store.TriggerDrift {
		return
	}
	if j.trigger == store.TriggerRevert {
		return // what was on trial is refused, and that was written with the generation
	}
	var refusal *store.Held
	if f := out.Failure; f != nil {
		e.mu.Lock()
		ofTip := j.failsTip(f, &e.status)
		e.mu.Unlock()
		if !ofTip {
			return
		}
		refusal = &store.Held{Revision: f.Revision, Reason: firstBytes(f.Message, mostText), Since: f.At}
	} else if j.hold != nil {
		return // the tip is what it was, and is tried again when it is released
	}
	if err := e.cfg.Store.UpdateState(func(st *store.State) { st.Failed = refusal }); err != nil {
		e.log.Error("what is refused cannot be written down", "revision", j.rev.Hash, "error", err)
	}
}

func syncedCondition(s *Status) Condition {
	no := func(reason, message string) Condition {
		return Condition{Type: ConditionSynced, Reason: reason, Message: message}
	}
	message, refused := s.refused()
	switch {
	case refused:
		return no("Refused", message)
	case s.Suspended != nil:
		return no("Suspended", s.Suspended.Reason)
	case s.Try != nil:
		return no("OnTrial", fmt.Sprintf("generation %d goes back unless it is confirmed", s.Try.Generation))
	case s.Held != nil:
		return no("Held", s.Held.Reason)
	case s.Waiting != nil:
		return no("Waiting", s.Waiting.Message)
	case s.Attempt != "":
		return no("Applying", "")
	case s.Tip == "" || s.Tip != s.Synced:
		return no("Behind", "")
	}
	return Condition{Type: ConditionSynced, Status: true, Reason: "AtTip"}
}

func sourceCondition(s *Status) Condition {
	switch {
	case s.Polls == 0:
		return Condition{Type: ConditionSourceReachable, Reason: "NotAsked"}
	case s.RepoError != "":
		return Condition{Type: ConditionSourceReachable, Reason: "Unreachable", Message: s.RepoError}
	}
	return Condition{Type: ConditionSourceReachable, Status: true, Reason: "Fetched"}
}

func trustedCondition(s *Status) Condition {
	if f := s.Failure; f != nil && f.Reason == ReasonUntrusted {
		return Condition{Type: ConditionTrusted, Reason: "Untrusted", Message: f.Message}
	} else if f != nil && f.Cause == CauseKeys {
		return Condition{Type: ConditionTrusted, Reason: "KeysUnreadable", Message: f.Message}
	}
	return Condition{Type: ConditionTrusted, Status: true, Reason: "NothingRefused"}
}

func healthyCondition(s *Status) Condition {
	if s.ServeError != "" {
		return Condition{Type: ConditionHealthy, Reason: "ServeError", Message: s.ServeError}
	}
	if s.Uncollected != "" {
		return Condition{Type: ConditionHealthy, Reason: "Uncollected", Message: s.Uncollected}
	}
	if text := driftText(s.Drift); text != "" {
		return Condition{Type: ConditionHealthy, Reason: "Drift", Message: text}
	}
	return Condition{Type: ConditionHealthy, Status: true, Reason: "Whole"}
}

// mostText bounds how much of a message is kept on disk, or told in an event, in bytes.
const mostText = 4 << 10

// firstBytes gives the beginning of a text, at most n bytes of it, in whole runes.
func firstBytes(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
