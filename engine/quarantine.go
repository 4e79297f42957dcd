package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/store"
)

// mostQuarantined bounds the list of revisions that are not tried by themselves: the
// oldest goes.
const mostQuarantined = 64

// lasting reports whether a failure is one that trying again by itself cannot change:
// its revision is quarantined.
func (f *Failure) lasting() bool {
	switch f.Reason {
	case ReasonInvalid, ReasonDenied, ReasonUntrusted, ReasonReverted:
		return true
	}
	return false
}

// quarantineOf gives the entry for a failure.
func quarantineOf(f *Failure) store.Quarantine {
	text := f.Message
	if len(f.Diagnostics) > 0 {
		var lines []string
		for _, d := range f.Diagnostics {
			lines = append(lines, d.String())
		}
		text = strings.Join(lines, "\n")
	}
	if len(text) > mostText {
		text = firstBytes(text, mostText) + " …"
	}
	return store.Quarantine{Revision: f.Revision, Reason: f.Reason, Stage: string(f.Stage), Message: text, Since: f.At}
}

// refusal gives back the failure that quarantineOf was given, without its places.
func refusalOf(q store.Quarantine) *Failure {
	return &Failure{Revision: q.Revision, Stage: Phase(q.Stage), Reason: q.Reason, Message: q.Message, At: q.Since}
}

// InQuarantine gives the entry of a revision; false when it has none.
func (s *Status) InQuarantine(revision string) (store.Quarantine, bool) {
	i := slices.IndexFunc(s.Quarantined, func(q store.Quarantine) bool { return q.Revision == revision })
	if i < 0 {
		return store.Quarantine{}, false
	}
	return s.Quarantined[i], true
}

// quarantine adds an entry to what is remembered, or takes the place of the one that
// is there.
func quarantine(m *store.Memory, q store.Quarantine) {
	acquit(m, q.Revision)
	m.Quarantined = append(slices.Clip(m.Quarantined), q)
	m.Quarantined = m.Quarantined[max(0, len(m.Quarantined)-mostQuarantined):]
}

// acquit takes revisions out of the quarantine.
func acquit(m *store.Memory, revisions ...string) {
	m.Quarantined = slices.DeleteFunc(slices.Clone(m.Quarantined), func(q store.Quarantine) bool { return slices.Contains(revisions, q.Revision) })
}

// take shows what is remembered.
func (s *Status) take(m *store.Memory) {
	s.unkept = slices.DeleteFunc(slices.Clone(s.unkept), func(q store.Quarantine) bool {
		return slices.ContainsFunc(m.Quarantined, func(kept store.Quarantine) bool { return kept.Revision == q.Revision })
	})
	s.Trusted, s.Quarantined = m.Trusted, append(slices.Clip(m.Quarantined), s.unkept...)
	s.Suspended, s.SuspendedHosts, s.Try = m.Suspended, m.SuspendedHosts, m.Try
}

// forgive gives up entries that only memory has; see unkept.
func (s *Status) forgive(revisions ...string) {
	s.unkept = slices.DeleteFunc(slices.Clone(s.unkept), func(q store.Quarantine) bool { return slices.Contains(revisions, q.Revision) })
}

// keepApart adds an entry that the disk refuses, or takes the place of the one that is
// there: as many as are kept on disk, the oldest goes.
func (s *Status) keepApart(q store.Quarantine) {
	gone := []string{q.Revision}
	s.forgive(q.Revision)
	for len(s.unkept) >= mostQuarantined {
		gone = append(gone, s.unkept[0].Revision)
		s.unkept = s.unkept[1:]
	}
	s.unkept = append(slices.Clip(s.unkept), q)
	s.Quarantined = append(slices.DeleteFunc(slices.Clone(s.Quarantined), func(old store.Quarantine) bool { return slices.Contains(gone, old.Revision) }), q)
}

// memorize changes what is remembered, on disk and in the status. When the disk does not
// take it, nothing is changed. What it did not take of the quarantine before goes along.
func (e *Engine) memorize(change func(*store.Memory)) error {
	var m store.Memory
	before, _ := e.Status()
	err := e.cfg.Store.UpdateState(func(s *store.State) {
		for _, q := range before.unkept {
			quarantine(&s.Memory, q)
		}
		change(&s.Memory)
		m = s.Memory
	})
	if err == nil {
		e.update(func(s *Status) {
			for _, q := range before.unkept { // taken, or let out by change
				s.forgive(q.Revision)
			}
			s.take(&m)
		})
	}
	return err
}

// note remembers a failure that keeps the tip from being served, so that it is not
// tried again at every poll: never by itself, or not before its back-off is over.
func (e *Engine) note(st *loopState, f *Failure) {
	if f.Reason == ReasonCancelled {
		return
	}
	e.log.Error("not applied; serving on", "revision", f.Revision, "stage", f.Stage, "reason", f.Reason, "cause", f.Cause, "error", f.Message)
	if s, _ := e.Status(); s.Failure != f {
		return // nothing to do with the tip
	}
	if f.lasting() {
		q := quarantineOf(f)
		q.Settings = f.settings
		err := e.memorize(func(m *store.Memory) { quarantine(m, q) })
		if err != nil {
			e.log.Error("what was refused is not remembered over a restart", "revision", f.Revision, "error", err)
			e.update(func(s *Status) {
				s.keepApart(q)
			})
		}
		return
	}
	st.refused = f.Revision
	if !f.Retry {
		return
	}
	wait := st.backoff.next(f.Revision, f.Cause, e.cfg.Retry)
	st.retry.Reset(wait)
	e.update(func(s *Status) {
		if s.Failure == f { // shared with who was answered: not changed in place
			told := *f
			told.NextTry = e.now().Add(wait)
			s.Failure = &told
		}
	})
}

// signsSettings is the purpose of the digest of the settings.
const signsSettings = "settings v1"

// digestSettings gives the digest of the settings as they are now; "" when the host key
// cannot be had.
func (e *Engine) digestSettings() string {
	key, err := e.cfg.Store.HostKey()
	if err != nil {
		return ""
	}
	var more []byte
	if e.cfg.Settings != nil {
		more = e.cfg.Settings()
	}
	raw, err := json.Marshal(struct {
		Server, Env string
		Vars        map[string]string // sorted
		Settings    []byte
	}{e.cfg.Server, e.cfg.Env, e.cfg.Vars, more})
	if err != nil {
		return ""
	}
	return key.Digest(signsSettings, raw)
}

// reconsider takes out of the quarantine what other settings than the present ones were
// the reason of, as far as that can be told. What the policy denied, and what nobody
// confirmed, has nothing to do with them.
func (e *Engine) reconsider() {
	s, _ := e.Status()
	if len(s.Quarantined) == 0 {
		return
	}
	now := e.digestSettings()
	var list []string
	for _, q := range s.Quarantined {
		if (q.Reason == ReasonInvalid || q.Reason == ReasonUntrusted) && q.Settings != now {
			list = append(list, q.Revision)
		}
	}
	if len(list) == 0 {
		return
	}
	if err := e.memorize(func(m *store.Memory) { acquit(m, list...) }); err != nil {
		e.log.Error("what was refused with other settings stays refused", "error", err)
		return
	}
	e.update(func(s *Status) {
		if s.Failure != nil && slices.Contains(list, s.Failure.Revision) {
			s.Failure = nil // Ready stays false until it is served
		}
	})
}

// unrefuse forgets that the tip was refused: the ref is at something else.
func (e *Engine) unrefuse() {
	st, err := e.cfg.Store.State()
	if err == nil && st.Failed == nil {
		return
	}
	if err == nil {
		err = e.memorize(func(m *store.Memory) { m.Failed = nil })
	}
	if err != nil {
		e.log.Error("that the newest commit is not a refused one any more is not remembered over a restart", "error", err)
	}
}

// Release gives up what keeps revisions from being tried. Without a name that is the
// hold, and the refusal of the tip; with one, whatever there is about that revision:
// a hash, its beginning, or anything that the source resolves. The tip of the tracked
// ref is then looked at again.
func (e *Engine) Release(ctx context.Context, name string, by store.Actor) (Outcome, error) {
	return e.ReleaseFrom(ctx, nil, name, by)
}

// ReleaseFrom is Release for what somebody decided on a generation; see RollbackFrom.
func (e *Engine) ReleaseFrom(ctx context.Context, expect *uint64, name string, by store.Actor) (Outcome, error) {
	if name == "" {
		return e.send(ctx, command{do: func(st *loopState) Outcome {
			s, _ := e.Status()
			out := e.decided(expect, func() Outcome { return e.release(st, "") })
			e.auditOrder(order{trigger: store.TriggerRelease, by: by, revision: s.freed()}, out)
			return out
		}})
	}
	s, _ := e.Status()
	hash, err := s.kept(name)
	if err == nil && hash == "" && e.cfg.Source != nil {
		if rev, err := e.cfg.Source.Resolve(ctx, name); err == nil {
			hash, _ = s.kept(rev.Hash)
		}
	}
	if err == nil && hash == "" {
		err = fmt.Errorf("revision %q is neither quarantined nor held: `dlreconcile status` lists those that are", name)
	}
	if err != nil {
		return Outcome{}, err
	}
	return e.send(ctx, command{do: func(st *loopState) Outcome {
		out := e.decided(expect, func() Outcome { return e.release(st, hash) })
		e.auditOrder(order{trigger: store.TriggerRelease, by: by, revision: hash}, out)
		return out
	}})
}

// freed gives the revision that a release without a name is about.
func (s *Status) freed() string {
	if s.Held != nil {
		return s.Held.Revision
	}
	return s.Tip
}

// kept gives the one revision that is kept from being tried and whose hash begins with
// start; "" when none does.
func (s *Status) kept(start string) (string, error) {
	var found []string
	add := func(hash string) {
		if len(start) >= 4 && hash != "" && strings.HasPrefix(hash, strings.ToLower(start)) && !slices.Contains(found, hash) {
			found = append(found, hash)
		}
	}
	for _, q := range s.Quarantined {
		add(q.Revision)
	}
	if s.Held != nil {
		add(s.Held.Revision)
	}
	if s.Failure != nil {
		add(s.Failure.Revision)
	}
	switch len(found) {
	case 0:
		return "", nil
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("revision %q is more than one: %s", start, strings.Join(found, ", "))
}

// release is Release in the loop's goroutine; revision "" is the hold and the tip.
func (e *Engine) release(st *loopState, revision string) Outcome {
	s, _ := e.Status()
	var out Outcome
	err := e.cfg.Store.UpdateState(func(now *store.State) {
		if revision == "" {
			now.Held = nil
			acquit(&now.Memory, s.Tip)
			if now.Failed != nil {
				acquit(&now.Memory, now.Failed.Revision)
			}
		} else {
			acquit(&now.Memory, revision)
			if now.Held != nil && now.Held.Revision == revision {
				now.Held = nil
			}
		}
	})
	after, rerr := e.cfg.Store.State()
	if err == nil {
		err = rerr
	}
	if err != nil {
		out = e.unchangedOutcome()
		out.Failure = failure("", PhaseIdle, err, e.now())
		return out
	}
	if revision == "" || st.refused == revision {
		st.refused, st.backoff = "", backoff{}
		st.retry.Stop()
	}
	st.unsure = true
	e.update(func(s *Status) {
		if s.forgive(revision); revision == "" {
			s.forgive(s.Tip)
		}
		s.Held = holdOf(after.Held)
		if s.Failure != nil && (revision == "" || s.Failure.Revision == revision) {
			s.Failure = nil
		}
		s.take(&after.Memory)
	})
	return e.unchangedOutcome()
}

// unchangedOutcome is what came of an order that concerns no generation.
func (e *Engine) unchangedOutcome() Outcome {
	s, _ := e.Status()
	return Outcome{Generation: s.Generation, Revision: s.Revision, Held: s.Held}
}

// since is for messages.
func since(t time.Time) string { return t.UTC().Format(time.RFC3339) }
