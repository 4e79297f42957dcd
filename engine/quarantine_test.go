package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// verifications gives how often a commit was verified: once an attempt.
func (r *repo) verifications(rev string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range r.verified {
		if strings.HasPrefix(v, rev) {
			n++
		}
	}
	return n
}

var broken = map[string]string{"site.hcl": "server {"}

// A commit that is wrong is not tried again by itself, over restarts and when the
// branch comes back to it; the status says so without the repo too.
func TestQuarantineLasts(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	bad := h.repo.commit(broken)
	h.refused(bad)
	h.repo.fail(errors.New("no route to host"))
	h.restart()
	s, _ := h.Status()
	if s.Failure == nil || s.Failure.Revision != bad || s.Failure.Reason != ReasonInvalid || s.Failure.Stage != PhaseLoading || !strings.Contains(s.Failure.Message, "site.hcl:1") || condition(t, s, ConditionReady).Status {
		t.Errorf("without the repo: %+v", s)
	}
	h.repo.fail(nil)
	h.wait("the repo", func(s Status) bool { return s.RepoError == "" })
	if s := h.polls(3); h.repo.verifications(bad) != 1 || s.Failure == nil || condition(t, s, ConditionReady).Status || len(s.Quarantined) != 1 {
		t.Errorf("tried %d times: %+v", h.repo.verifications(bad), s)
	}
	two := h.repo.commit(site("two"))
	if s := h.reached(two); s.Failure != nil || len(s.Quarantined) != 1 {
		t.Errorf("%+v", s)
	}
	h.repo.move(bad)
	if s := h.refused(bad); h.repo.verifications(bad) != 1 || h.served() != "two" || condition(t, s, ConditionReady).Status {
		t.Errorf("tried %d times: %+v", h.repo.verifications(bad), s)
	}
	h.repo.move(two)
	h.wait("no failure", func(s Status) bool { return s.Failure == nil && s.Tip == two })
	h.repo.away()
	h.restart()
	if s, _ := h.Status(); s.Failure != nil || !condition(t, s, ConditionReady).Status {
		t.Errorf("%+v", s)
	}
}

// Other settings of the daemon are another chance, where they may be the reason.
func TestQuarantineEndsWithOtherSettings(t *testing.T) {
	vars := map[string]string{}
	h := newHouse(t, func(c *Config) { c.Vars = vars })
	h.reachedOnce(site("one"))
	needs := site("x")
	needs["site.hcl"] += "variable \"domain\" {}\n"
	rev := h.repo.commit(needs)
	h.refused(rev)
	h.restart()
	if h.polls(2); h.repo.verifications(rev) != 1 {
		t.Errorf("tried %d times with the same settings", h.repo.verifications(rev))
	}
	vars = map[string]string{"domain": "y"}
	h.restart()
	h.reached(rev)
}

// Keys are edited in place: those at the start may be right, those that a commit is
// judged by wrong, and those at the next start right again.
func TestQuarantineEndsWithKeysEditedInPlace(t *testing.T) {
	var mu sync.Mutex
	keys := "right"
	edit := func(to string) {
		mu.Lock()
		defer mu.Unlock()
		keys = to
	}
	h := newHouse(t, func(c *Config) {
		c.Settings = func() []byte {
			mu.Lock()
			defer mu.Unlock()
			return []byte(keys)
		}
	})
	h.reachedOnce(site("one"))
	edit("wrong")
	rev := h.repo.commit(broken)
	h.refused(rev)
	was := h.repo.verifications(rev)
	if h.polls(2); h.repo.verifications(rev) != was {
		t.Errorf("tried %d times with the same keys", h.repo.verifications(rev))
	}
	h.stop() // a look that is under way would try it too
	edit("right")
	h.open()
	h.run()
	h.refused(rev)
	if got := h.repo.verifications(rev); got != was+1 {
		t.Errorf("tried %d times, want once more with other keys", got)
	}
	// And without a restart.
	edit("other")
	h.polls(2)
	h.refused(rev)
	if got := h.repo.verifications(rev); got != was+2 {
		t.Errorf("tried %d times, want once more with yet other keys", got)
	}
}

// What the disk does not take of the quarantine is kept from being tried all the same,
// and goes to disk with what is written next.
func TestQuarantineThatTheDiskRefuses(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	e := h.Engine
	q := store.Quarantine{Revision: strings.Repeat("b", 40), Reason: ReasonDenied}
	e.update(func(s *Status) { s.keepApart(q) }) // as note does when it cannot be written
	has := func(when string, s Status) {
		t.Helper()
		if _, ok := s.InQuarantine(q.Revision); !ok {
			t.Errorf("%s: it is let out", when)
		}
	}
	h.reached(h.repo.commit(site("two")))
	s, _ := h.Status()
	has("after an applied commit", s)
	if _, err := h.Suspend(t.Context(), SuspendOrder{}); err != nil {
		t.Fatal(err)
	}
	h.restart()
	s, _ = h.Status()
	has("after an order that was written, and a restart", s)
}

// What release lets out: the tip, or one revision by its hash or the beginning of it.
func TestReleaseLetsOut(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	bad := h.repo.commit(broken)
	h.refused(bad)
	worse := h.repo.commit(map[string]string{"site.hcl": "nonsense {}"})
	h.refused(worse)
	if _, err := h.Release(t.Context(), "abcdef", store.Actor{}); err == nil || !strings.Contains(err.Error(), "neither quarantined nor held") {
		t.Error(err)
	}
	if _, err := h.Release(t.Context(), "0000", store.Actor{}); err == nil || !strings.Contains(err.Error(), "more than one") {
		t.Error(err)
	}
	outcome(t)(h.Release(t.Context(), bad, store.Actor{}))
	if s := h.polls(2); h.repo.verifications(worse) != 1 || len(s.Quarantined) != 1 || s.Failure == nil || s.Failure.Revision != worse {
		t.Errorf("%+v", s)
	}
	outcome(t)(h.Release(t.Context(), "", store.Actor{}))
	h.wait("another try", func(Status) bool { return h.repo.verifications(worse) == 2 })
	h.refused(worse)
	h.repo.move(bad)
	h.wait("the branch", func(s Status) bool { return s.Tip == bad && s.Phase == PhaseIdle && h.repo.verifications(bad) == 2 })
	// A name of a held commit lifts the hold.
	two := h.repo.commit(site("two"))
	h.reached(two)
	outcome(t)(h.Rollback(t.Context(), 1, store.Actor{}))
	outcome(t)(h.Release(t.Context(), two, store.Actor{}))
	if s := h.reached(two); s.Held != nil || h.served() != "two" {
		t.Errorf("%+v", s)
	}
}

func TestQuarantineIsBounded(t *testing.T) {
	var m store.Memory
	for n := range 100 {
		quarantine(&m, quarantineOf(&Failure{Revision: fmt.Sprint(n % 90), Message: strings.Repeat("é", mostText)}))
	}
	if len(m.Quarantined) != mostQuarantined || m.Quarantined[mostQuarantined-1].Revision != "9" || len(m.Quarantined[0].Message) > mostText+8 {
		t.Errorf("%d, the last %s", len(m.Quarantined), m.Quarantined[len(m.Quarantined)-1].Revision)
	}
	acquit(&m, "9")
	if len(m.Quarantined) != mostQuarantined-1 {
		t.Error(len(m.Quarantined))
	}
}

// What only memory has of the quarantine is bounded too, and one revision is in it once.
func TestUnkeptQuarantineIsBounded(t *testing.T) {
	s := Status{Quarantined: []store.Quarantine{{Revision: "kept"}}}
	for n := range 100 {
		s.keepApart(store.Quarantine{Revision: fmt.Sprint(n % 90)})
	}
	if len(s.unkept) != mostQuarantined || len(s.Quarantined) != mostQuarantined+1 || s.Quarantined[0].Revision != "kept" || s.Quarantined[mostQuarantined].Revision != "9" {
		t.Errorf("%d kept apart, %d in all: %+v", len(s.unkept), len(s.Quarantined), s.Quarantined)
	}
}

// A failure of the machine's says by what it came about and when it is tried again,
// and is not quarantined.
func TestFailureSaysWhenItIsTriedAgain(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	h.fakes["dhcp"].set(func(f *fake) {
		f.onPrepare = func(context.Context, provider.Input) error { return fmt.Errorf("dhcp: %w", syscall.EADDRINUSE) }
	})
	bad := h.repo.commit(site("two"))
	s := h.wait("the next try", func(s Status) bool { return s.Failure != nil && !s.Failure.NextTry.IsZero() })
	// The unit is an hour here, instead of 5 s.
	want := h.clock.now().Add(2 * time.Second * time.Duration(time.Hour/retryUnit))
	if f := s.Failure; f.Revision != bad || f.Reason != ReasonMachine || f.Cause != CausePort || !f.Retry || !f.NextTry.Equal(want) || len(s.Quarantined) != 0 {
		t.Errorf("%+v, want the next at %v", f, want)
	}
}

// A commit that is too large, or leads out of the tree, is like that for good.
func TestLimitsAreOfTheCommit(t *testing.T) {
	for _, err := range []error{source.ErrLimit, source.ErrEscapes, source.ErrLFS, source.ErrSubmodule} {
		if f := failure("rev", PhaseLoading, fmt.Errorf("blob: %w", err), time.Time{}); f.Reason != ReasonInvalid || f.Retry || !f.lasting() {
			t.Errorf("%v: %+v", err, f)
		}
	}
}

// The trust gate: nothing of an untrusted commit is loaded, it is quarantined, and a
// newer one that is trusted is served.
func TestUntrustedCommitIsRefused(t *testing.T) {
	h := newHouse(t, nil)
	one := h.reachedOnce(site("one"))
	distrust := func(reason string) string {
		h.repo.mu.Lock()
		next := fmt.Sprintf("%040d", len(h.repo.commits)+1)
		h.repo.distrust[next] = &source.UntrustedError{Revision: next, Commit: next, Reason: reason, Message: "has no signature"}
		h.repo.mu.Unlock()
		return h.repo.commit(site(reason))
	}
	unsigned := distrust(source.ReasonUnsigned)
	s := h.refused(unsigned)
	if f := s.Failure; f.Reason != ReasonUntrusted || f.Cause != source.ReasonUnsigned || f.Stage != PhaseVerifying || f.Retry || s.Trusted != one || h.served() != "one" {
		t.Errorf("%+v, trusted %s", f, s.Trusted)
	}
	if c := condition(t, s, ConditionTrusted); c.Status {
		t.Errorf("%+v", c)
	}
	// By hand it is refused too, named or not; so is its saved plan.
	for _, o := range []Order{{}, {Revision: unsigned}} {
		if out, err := h.Apply(t.Context(), o); err != nil || out.Failure == nil || out.Failure.Reason != ReasonUntrusted {
			t.Errorf("%+v, %v", out, err)
		}
	}
	h.restart()
	n := h.repo.verifications(unsigned)
	if s := h.polls(2); h.repo.verifications(unsigned) != n || s.Failure == nil || s.Failure.Reason != ReasonUntrusted {
		t.Errorf("%+v", s)
	}
	two := h.repo.commit(site("two"))
	if s := h.reached(two); s.Trusted != two {
		t.Errorf("trusted %s", s.Trusted)
	}
	h.repo.mu.Lock()
	last := h.repo.verified[len(h.repo.verified)-1]
	h.repo.mu.Unlock()
	if diff := cmp.Diff(two+" "+one, last); diff != "" {
		t.Error(diff)
	}
	// A rewind waits for an operator who names it, and is then what is trusted.
	back := distrust(source.ReasonRewound)
	h.refused(back)
	if out, _ := h.Apply(t.Context(), Order{}); out.Failure == nil {
		t.Error("the tip was not named")
	}
	h.repo.mu.Lock()
	h.repo.rewound = map[string]bool{back: true}
	h.repo.mu.Unlock()
	if out, _ := h.Apply(t.Context(), Order{Revision: back, Tip: true}); out.Failure == nil {
		t.Error("the tip was seen, and not chosen")
	}
	outcome(t)(h.Apply(t.Context(), Order{Revision: back}))
	if s := h.reached(back); s.Trusted != back || s.Failure != nil || len(s.Quarantined) != 1 {
		t.Errorf("%+v", s)
	}
	// Going back asks nobody.
	outcome(t)(h.Rollback(t.Context(), 1, store.Actor{}))
	h.restart()
	if s, _ := h.Status(); s.Trusted != back || s.Revision != one {
		t.Errorf("%+v", s)
	}
}

// What cannot be found out now is tried again.
func TestVerificationThatFails(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Retry = time.Millisecond })
	h.reachedOnce(site("one"))
	h.repo.mu.Lock()
	next := fmt.Sprintf("%040d", len(h.repo.commits)+1)
	h.repo.distrust[next] = source.ErrKeys
	h.repo.mu.Unlock()
	two := h.repo.commit(site("two"))
	h.wait("a failure", func(s Status) bool { return s.Failure != nil && s.Failure.Reason == ReasonMachine })
	h.repo.mu.Lock()
	delete(h.repo.distrust, next)
	h.repo.mu.Unlock()
	h.reached(two)
}
