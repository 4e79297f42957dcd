package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// history makes generations one, two and three, and gives their commits.
func (h *house) history() (one, two, three string) {
	h.t.Helper()
	one = h.reachedOnce(site("one"))
	two = h.repo.commit(site("two"))
	h.reached(two)
	three = h.repo.commit(site("three"))
	h.reached(three)
	return one, two, three
}

// held checks that gen serves text, and that skipped is held, over several polls and
// a restart.
func (h *house) held(gen uint64, text, skipped string) {
	h.t.Helper()
	check := func(when string, s Status) {
		h.t.Helper()
		if s.Held == nil || s.Held.Revision != skipped || s.Generation != gen || h.served() != text || s.Failure != nil {
			h.t.Errorf("%s: serving %q: %+v, held %+v", when, h.served(), s, s.Held)
		}
		if c := condition(h.t, s, "Synced"); c.Status || c.Reason != "Held" {
			h.t.Errorf("%s: %+v", when, c)
		}
	}
	s, _ := h.Status()
	check("at once", s)
	check("after three polls", h.polls(3))
	h.restart()
	s, _ = h.Status()
	check("after a restart", s)
	check("after a restart and three polls", h.polls(3))
}

func TestRollback(t *testing.T) {
	h := newHouse(t, nil)
	_, two, three := h.history()
	out := outcome(t)(h.Rollback(t.Context(), 0, store.Actor{}))
	if out.Generation != 4 || out.Revision != two || out.Held == nil || out.Held.Revision != three || out.Held.Reason != "rolled back to generation 2" || out.Plan.Summary.Update == 0 {
		t.Errorf("%+v", out)
	}
	rec := h.current()
	if rec.RolledBackTo != 2 || rec.Trigger != store.TriggerRollback || rec.Author == "" || rec.Subject != "commit 2" || rec.Held == nil {
		t.Errorf("%+v", rec)
	}
	in := h.fakes["image"].inputs
	if last := in[len(in)-1]; !last.Offline || last.Plan != nil || last.Files != nil || last.Retained {
		t.Errorf("%+v", last)
	}
	h.held(4, "two", three)

	// A newer commit lifts the hold.
	four := h.repo.commit(site("four"))
	if s := h.reached(four); s.Held != nil || s.Generation != 5 || h.served() != "four" {
		t.Errorf("%+v", s)
	}
	h.restart()
	if s := h.polls(2); s.Held != nil || s.Generation != 5 {
		t.Errorf("after a restart: %+v", s)
	}
}

// Without the repo a rollback works the same, and what was the tip is still skipped
// when the repo is back.
func TestRollbackWithoutRepo(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		h := newHouse(t, nil)
		_, _, three := h.history()
		commits, tip := h.repo.commits, h.repo.tip
		h.repo.away()
		if restarted {
			h.restart()
		}
		outcome(t)(h.Rollback(t.Context(), 0, store.Actor{}))
		outcome(t)(h.Rollback(t.Context(), 0, store.Actor{}))
		if h.served() != "one" {
			t.Errorf("serving %q", h.served())
		}
		h.restart() // which knows of no tip, and rolls back to the same once more
		outcome(t)(h.Rollback(t.Context(), 1, store.Actor{}))
		h.repo.mu.Lock()
		h.repo.commits, h.repo.tip, h.repo.err = commits, tip, nil
		h.repo.mu.Unlock()
		h.held(6, "one", three)
		h.stop()
	}
}

// A rollback of a rollback goes on backwards; and one to a number goes where it says.
func TestRollbackTwice(t *testing.T) {
	h := newHouse(t, nil)
	_, _, three := h.history()
	outcome(t)(h.Rollback(t.Context(), 0, store.Actor{}))
	if out := outcome(t)(h.Rollback(t.Context(), 0, store.Actor{})); out.Generation != 5 || h.served() != "one" || out.Held.Revision != three {
		t.Errorf("serving %q: %+v", h.served(), out)
	}
	if _, err := h.Rollback(t.Context(), 0, store.Actor{}); err == nil || !strings.Contains(err.Error(), "no generation before 1") {
		t.Errorf("behind the beginning: %v", err)
	}
	h.held(5, "one", three)

	outcome(t)(h.Rollback(t.Context(), 3, store.Actor{}))
	if h.served() != "three" {
		t.Errorf("serving %q", h.served())
	}
	// To one that repeats another: it counts as that.
	outcome(t)(h.Rollback(t.Context(), 4, store.Actor{}))
	if rec := h.current(); h.served() != "two" || rec.RolledBackTo != 2 {
		t.Errorf("serving %q: %+v", h.served(), rec)
	}
	if outcome(t)(h.Rollback(t.Context(), 0, store.Actor{})); h.served() != "one" {
		t.Errorf("serving %q", h.served())
	}
	if _, err := h.Rollback(t.Context(), 99, store.Actor{}); err == nil {
		t.Error("rolled back to a generation that never was")
	}
}

// A refused tip is skipped after a rollback, and a release tries it again.
func TestRollbackFromRefused(t *testing.T) {
	h := newHouse(t, nil)
	h.history()
	bad := h.repo.commit(map[string]string{"site.hcl": "server {"})
	h.refused(bad)
	out := outcome(t)(h.Rollback(t.Context(), 0, store.Actor{}))
	if out.Held.Revision != bad {
		t.Errorf("%+v", out.Held)
	}
	h.held(4, "two", bad)
	outcome(t)(h.Release(t.Context(), "", store.Actor{}))
	h.refused(bad)
}

func TestRelease(t *testing.T) {
	h := newHouse(t, nil)
	_, _, three := h.history()
	outcome(t)(h.Rollback(t.Context(), 0, store.Actor{}))
	if out := outcome(t)(h.Release(t.Context(), "", store.Actor{})); out.Held != nil || out.Generation != 4 {
		t.Errorf("%+v", out)
	}
	if s := h.reached(three); s.Held != nil || h.served() != "three" || s.Generation != 5 {
		t.Errorf("serving %q: %+v", h.served(), s)
	}
	h.restart()
	if s := h.polls(2); s.Held != nil || s.Generation != 5 {
		t.Errorf("%+v", s)
	}
}

// A rollback that fails leaves everything, and is not tried again by itself.
func TestRollbackFails(t *testing.T) {
	h := newHouse(t, nil)
	_, _, three := h.history()
	before := h.state()
	h.fakes["export"].set(func(f *fake) {
		f.onPrepare = func(context.Context, provider.Input) error { return errors.New("the blob is gone") }
	})
	out, err := h.Rollback(t.Context(), 0, store.Actor{})
	if err != nil || out.Failure == nil || out.Failure.Reason != ReasonMachine || out.Failure.Retry || out.Held != nil || out.Generation != 3 {
		t.Errorf("%+v, %+v, %v", out, out.Failure, err)
	}
	if diff := cmp.Diff(before, h.state()); diff != "" {
		t.Error(diff)
	}
	if s := h.polls(3); s.Failure != nil || s.Synced != three {
		t.Errorf("the tip is served, and yet: %+v", s.Failure)
	}
}

// Nothing is served: there is nothing to go back from.
func TestRollbackFromNothing(t *testing.T) {
	h := newHouse(t, nil)
	h.run()
	if _, err := h.Rollback(t.Context(), 0, store.Actor{}); err == nil {
		t.Error("no error")
	}
}

// An operator's wish goes before commits: it cancels the attempt at one, and is not
// cancelled by another. What came meanwhile is looked at afterwards.
func TestOperatorGoesFirst(t *testing.T) {
	h := newHouse(t, nil)
	h.history()
	waits := hang(h, "image", "four")
	h.repo.commit(site("four"))
	<-waits
	inside, release := make(chan struct{}), make(chan struct{})
	h.fakes["dhcp"].set(func(f *fake) {
		f.onPrepare = func(ctx context.Context, in provider.Input) error {
			if !in.Offline {
				return nil
			}
			close(inside)
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	done := make(chan Outcome)
	go func() {
		out, err := h.Rollback(context.Background(), 1, store.Actor{})
		if err != nil {
			t.Error(err)
		}
		done <- out
	}()
	<-inside
	five := h.repo.commit(site("five"))
	h.wait("look", func(s Status) bool { return s.Tip == five })
	close(release)
	if out := outcome(t)(<-done, nil); out.Generation != 4 || out.Held == nil {
		t.Errorf("%+v", out)
	}
	// five is newer than what is held.
	if s := h.reached(five); s.Held != nil || h.served() != "five" {
		t.Errorf("serving %q: %+v", h.served(), s)
	}
}

// The newest of several wishes wins, and everybody gets an answer.
func TestOperatorsWishesReplaceEachOther(t *testing.T) {
	h := newHouse(t, nil)
	one, two, three := h.history()
	begun, release := make(chan struct{}, 10), make(chan struct{})
	h.fakes["image"].set(func(f *fake) {
		f.onPrepare = func(context.Context, provider.Input) error {
			begun <- struct{}{}
			<-release // deaf to cancelling
			return nil
		}
	})
	// The second and third ask while the first is at work: each takes the turn of
	// the one before, whose reply says so.
	answers := make([]chan Outcome, 3)
	ask := func(n int, rev string) {
		answers[n] = make(chan Outcome, 1)
		go func() {
			out, err := h.Apply(context.Background(), Order{Revision: rev})
			if err != nil {
				t.Error(err)
			}
			answers[n] <- out
		}()
	}
	ask(0, one)
	<-begun
	ask(1, two)
	ask(2, two)
	replaced := 1
	var early Outcome
	select {
	case early = <-answers[1]:
	case early = <-answers[2]:
		replaced = 2
	}
	if early.Failure == nil || early.Failure.Reason != ReasonCancelled || early.Failure.Message != errCommand.Error() {
		t.Errorf("%+v", early)
	}
	close(release)
	if out := <-answers[0]; out.Failure == nil || out.Failure.Reason != ReasonCancelled || out.Failure.Stage != PhasePreparing {
		t.Errorf("%+v", out)
	}
	if out := outcome(t)(<-answers[3-replaced], nil); out.Revision != two || out.Held == nil || out.Held.Revision != three {
		t.Errorf("%+v", out)
	}
	if s, _ := h.Status(); s.Failure != nil || h.served() != "two" {
		t.Errorf("serving %q: %+v", h.served(), s)
	}
	// Each left its line, the one whose turn never came too.
	var got []string
	for _, e := range h.audit()[3:] {
		got = append(got, fmt.Sprintf("%s %s %s", e.Result, e.Reason, e.Message))
	}
	slices.Sort(got)
	cancelled := "refused cancelled " + errCommand.Error()
	if diff := cmp.Diff([]string{"applied  ", cancelled, cancelled}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
