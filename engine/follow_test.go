package engine

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// hang makes Prepare of generations made from rev's text wait until it is
// cancelled, and tells when it waits.
func hang(h *house, name, text string) (waits chan struct{}) {
	waits = make(chan struct{}, 10)
	h.fakes[name].set(func(f *fake) {
		f.onPrepare = func(ctx context.Context, in provider.Input) error {
			if in.Want.Subnets[0].DomainName != text {
				return nil
			}
			waits <- struct{}{}
			<-ctx.Done()
			return errors.New("signal: killed") // as a program that was killed would say
		}
	})
	return waits
}

// A newer commit cancels the attempt under way, whichever provider hangs, and is
// served; the older one leaves no failure behind.
func TestNewerCommitCancels(t *testing.T) {
	for _, name := range []string{"image", "dhcp"} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, nil)
			h.reachedOnce(site("one"))
			waits := hang(h, name, "two")
			two := h.repo.commit(site("two"))
			<-waits
			s := h.wait("work on two", func(s Status) bool { return s.Attempt == two && s.Phase == PhasePreparing })
			if c := condition(t, s, "Synced"); c.Status || c.Reason != "Applying" {
				t.Errorf("%+v", c)
			}
			h.journal.take()
			s = h.reached(h.repo.commit(site("three")))
			if s.Failure != nil || h.served() != "three" || s.Generation != 2 {
				t.Errorf("serving %q: %+v", h.served(), s)
			}
			for _, l := range h.journal.take() {
				if l == "commit dhcp 2" {
					return
				}
			}
			t.Error("three was not committed")
		})
	}
}

// Only the newest of many commits that come during an attempt is tried.
func TestOnlyTheNewestIsTried(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	begun := make(chan string, 10)
	release := make(chan struct{})
	h.fakes["image"].set(func(f *fake) {
		f.onPrepare = func(_ context.Context, in provider.Input) error {
			begun <- in.Want.Subnets[0].DomainName
			<-release // deaf to cancelling
			return nil
		}
	})
	h.repo.commit(site("two"))
	<-begun
	for _, text := range []string{"three", "four"} {
		rev := h.repo.commit(site(text))
		h.wait("look", func(s Status) bool { return s.Tip == rev })
	}
	five := h.repo.commit(site("five"))
	h.wait("look", func(s Status) bool { return s.Tip == five })
	close(release)
	h.reached(five)
	if got := <-begun; got != "five" {
		t.Errorf("%s was tried", got)
	}
	if len(begun) > 0 {
		t.Errorf("%s was tried", <-begun)
	}
	if h.served() != "five" || h.Generation() != 2 {
		t.Errorf("generation %d serves %q", h.Generation(), h.served())
	}
}

// The branch moves back to what is served while a commit is being prepared: that is
// given up.
func TestBranchMovesBack(t *testing.T) {
	h := newHouse(t, nil)
	one := h.reachedOnce(site("one"))
	waits := hang(h, "image", "two")
	two := h.repo.commit(site("two"))
	<-waits
	h.repo.move(one)
	s := h.wait("end of the attempt", func(s Status) bool { return s.Attempt == "" && s.Tip == one })
	if s.Failure != nil || s.Generation != 1 || s.Synced != one {
		t.Errorf("%+v", s)
	}
	// And to and fro: what is wanted in the end is served.
	h.repo.move(two)
	<-waits
	h.repo.move(one)
	h.wait("end of the attempt", func(s Status) bool { return s.Attempt == "" && s.Tip == one })
	h.fakes["image"].set(func(f *fake) { f.onPrepare = nil })
	h.repo.move(two)
	h.reached(two)
}

// A commit that changes nothing makes no generation, but counts as reached, after a
// restart too.
func TestNoChange(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	n := h.fakes["image"].began()
	files := site("one")
	files["README"] = "nothing that is served"
	again := h.repo.commit(files)
	s := h.reached(again)
	if s.Generation != 1 || h.fakes["image"].began() != n || s.Failure != nil {
		t.Errorf("%+v", s)
	}
	if c := condition(t, s, "Synced"); !c.Status {
		t.Errorf("%+v", c)
	}
	h.restart()
	s = h.polls(3)
	if s.Synced != again || s.Generation != 1 {
		t.Errorf("after a restart: %+v", s)
	}
	out := outcome(t)(h.Apply(t.Context(), Order{}))
	if out.Plan == nil || len(out.Plan.Changes) != 0 || out.Generation != 1 {
		t.Errorf("a second apply: %+v", out)
	}
}

// A refused commit whose files are put back as they were is no failure any more.
func TestRevertClearsFailure(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	h.refused(h.repo.commit(map[string]string{"site.hcl": "server {"}))
	s := h.reached(h.repo.commit(site("one")))
	if s.Failure != nil || s.Generation != 1 {
		t.Errorf("%+v", s)
	}
}

// A branch that is moved back to what is served takes the failure along.
func TestForcePushBackClearsFailure(t *testing.T) {
	h := newHouse(t, nil)
	one := h.reachedOnce(site("one"))
	h.refused(h.repo.commit(map[string]string{"site.hcl": "server {"}))
	h.repo.move(one)
	h.wait("no failure", func(s Status) bool { return s.Failure == nil && s.Tip == one })
}

// The repo comes and goes: what is served stays, and the status says so.
func TestRepoAway(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	h.repo.fail(errors.New("no route to host"))
	s := h.wait("an error", func(s Status) bool { return s.RepoError != "" })
	if c := condition(t, s, "SourceReachable"); c.Status || c.Message != "no route to host" {
		t.Errorf("%+v", c)
	}
	if c := condition(t, s, "Ready"); !c.Status || h.served() != "one" {
		t.Errorf("%+v, serving %q", c, h.served())
	}
	if _, err := h.Apply(t.Context(), Order{}); err == nil {
		t.Error("applied the tip of a repo that cannot be read")
	}
	h.repo.fail(nil)
	h.wait("no error", func(s Status) bool { return s.RepoError == "" })
	h.reached(h.repo.commit(site("two")))
}

// An empty repo is an error of the repo's; the first commit is served.
func TestFirstCommit(t *testing.T) {
	h := newHouse(t, nil)
	h.run()
	s := h.wait("a look", func(s Status) bool { return s.Polls > 0 })
	if s.Generation != 0 || s.RepoError == "" || h.Desired() != nil || h.Generation() != 0 || h.served() != "" {
		t.Errorf("%+v", s)
	}
	if c := condition(t, s, "Ready"); c.Status || c.Reason != "NothingApplied" {
		t.Errorf("%+v", c)
	}
	h.reached(h.repo.commit(site("one")))
	if h.Desired() == nil || h.Generation() != 1 {
		t.Error("nothing is served")
	}
}

// The loop goes on listening while a look takes long: an operator's wish and the
// end of the engine do not wait for the repo.
func TestSlowLook(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	h.reached(h.repo.commit(site("two")))
	h.repo.mu.Lock()
	h.repo.gate = make(chan struct{})
	h.repo.mu.Unlock()
	h.Poke()
	outcome(t)(h.Rollback(t.Context(), 0, store.Actor{}))
	if h.served() != "one" {
		t.Errorf("serving %q", h.served())
	}
	h.stop() // though the look is under way
}

// The settings of the daemon are part of what is served: the first look after a
// start compares, although the commit is the one that was reached.
func TestSettingsChangedSinceTheCommit(t *testing.T) {
	vars := map[string]string{"domain": "one"}
	h := newHouse(t, func(c *Config) { c.Vars = vars })
	files := site("x")
	files["site.hcl"] = `
variable "domain" {
  default = "none"
}

server "main" {
  address = "10.0.0.1"
}

subnet "lan" {
  cidr        = "10.0.0.0/24"
  domain_name = var.domain
}
`
	rev := h.reachedOnce(files)
	if h.served() != "one" {
		t.Fatalf("serving %q", h.served())
	}
	vars = map[string]string{"domain": "two"}
	h.restart()
	h.wait("generation 2", func(s Status) bool { return s.Generation == 2 && s.Phase == PhaseIdle })
	if h.served() != "two" {
		t.Errorf("serving %q", h.served())
	}
	// Back to the values of generation 1, by hand: the same commit, so it is the
	// release that has to look closer.
	outcome(t)(h.Rollback(t.Context(), 1, store.Actor{}))
	if h.served() != "one" {
		t.Errorf("rolled back, serving %q", h.served())
	}
	if s := h.polls(3); s.Revision != rev || h.served() != "one" {
		t.Errorf("held: serving %q", h.served())
	}
	outcome(t)(h.Release(t.Context(), "", store.Actor{}))
	h.wait("generation 4", func(s Status) bool { return s.Generation == 4 && s.Phase == PhaseIdle })
	if h.served() != "two" {
		t.Errorf("released, serving %q", h.served())
	}
}

// The env file that counts is a setting too, and a record keeps its own: a rollback
// needs neither the setting of then nor the repo.
func TestEnvFileOfAGeneration(t *testing.T) {
	env := "one"
	h := newHouse(t, func(c *Config) { c.Env = env })
	files := site("x")
	files["site.hcl"] = `
variable "domain" {}

server "main" {
  address = "10.0.0.1"
}

subnet "lan" {
  cidr        = "10.0.0.0/24"
  domain_name = var.domain
}
`
	files["env/one.hcl"], files["env/two.hcl"] = `domain = "one"`, `domain = "two"`
	h.reachedOnce(files)
	if h.served() != "one" {
		t.Fatalf("serving %q", h.served())
	}
	env = "two"
	h.restart()
	h.wait("generation 2", func(s Status) bool { return s.Generation == 2 && s.Phase == PhaseIdle })
	if h.served() != "two" {
		t.Errorf("serving %q", h.served())
	}
	outcome(t)(h.Rollback(t.Context(), 1, store.Actor{}))
	if h.served() != "one" || h.current().Env != "one" {
		t.Errorf("rolled back, serving %q of env %q", h.served(), h.current().Env)
	}
	h.restart()
	if h.served() != "one" {
		t.Errorf("started again, serving %q", h.served())
	}
}

// What a build reports is shown while it goes on, newest line per step, and nothing
// of a build that outlives its attempt.
func TestProgress(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	image := schema.Addr{Kind: "image", Name: "debian"}
	reports := make(chan func(provider.Progress), 1)
	waits := hang(h, "image", "two")
	h.fakes["image"].set(func(f *fake) {
		inner := f.onPrepare
		f.onPrepare = func(ctx context.Context, in provider.Input) error {
			if in.Want.Subnets[0].DomainName == "two" {
				for n := range int64(100) {
					in.Report(provider.Progress{Addr: image, Step: "debootstrap", Done: n, Total: 100})
				}
				in.Report(provider.Progress{Addr: image, Step: "mkfs", Text: "writing"})
				reports <- in.Progress
			}
			return inner(ctx, in)
		}
	})
	h.repo.commit(site("two"))
	<-waits
	s, _ := h.Status()
	want := []provider.Progress{{Addr: image, Step: "debootstrap", Done: 99, Total: 100}, {Addr: image, Step: "mkfs", Text: "writing"}}
	if diff := cmp.Diff(want, s.Progress); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	h.reached(h.repo.commit(site("three")))
	late := <-reports
	late(provider.Progress{Addr: image, Step: "late"})
	if s, _ := h.Status(); len(s.Progress) != 0 {
		t.Errorf("a build that nobody waits for reports: %+v", s.Progress)
	}
}

// The attempt under way when the engine ends is cancelled, waited for, and leaves
// nothing; who waits for it is told.
func TestStopDuringAnAttempt(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	h.journal.await(t, "retire image", 1)
	waits := hang(h, "dhcp", "two")
	two := h.repo.commit(site("two"))
	<-waits
	type result struct {
		out Outcome
		err error
	}
	ask := func() chan result {
		done := make(chan result, 1)
		go func() {
			out, err := h.Apply(context.Background(), Order{Revision: two})
			done <- result{out, err}
		}()
		return done
	}
	first := ask()
	<-waits // the operator's attempt runs
	h.journal.take()
	h.stop()
	for _, r := range []result{<-first} {
		if r.err != nil || r.out.Failure == nil || r.out.Failure.Reason != ReasonCancelled || r.out.Failure.Stage != PhasePreparing {
			t.Errorf("%+v, %v", r.out, r.err)
		}
	}
	if diff := cmp.Diff([]string{"abort bootloader 2", "abort export 2", "abort image 2"}, h.journal.take()); diff != "" {
		t.Error(diff)
	}
	if _, err := h.Apply(t.Context(), Order{Revision: two}); !errors.Is(err, ErrStopped) {
		t.Errorf("after the end: %v", err)
	}
	s, err := store.OpenReadOnly(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	if rec, _, err := s.Current(); err != nil || rec.Number != 1 {
		t.Error(rec, err)
	}
}

// A commit that comes during the check is not too late: nothing is recorded of the
// older one.
func TestNewerCommitDuringTheCheck(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	inside, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h.fakes["dhcp"].set(func(f *fake) {
		f.onAnswer = func(_ provider.Query, list []provider.Answer) []provider.Answer {
			if list[0].Text == "two" {
				once.Do(func() {
					close(inside)
					<-release
				})
			}
			return list
		}
	})
	h.repo.commit(site("two"))
	<-inside
	three := h.repo.commit(site("three"))
	h.wait("look", func(s Status) bool { return s.Tip == three })
	close(release)
	if s := h.reached(three); s.Generation != 2 || h.current().Revision != three {
		t.Errorf("%+v", s)
	}
}

// A release comes just when the attempt at the tip has failed, before the loop has
// taken note: the tip is tried again, not at some later poll.
func TestReleaseRacesWithFailure(t *testing.T) {
	h := newHouse(t, nil)
	tip := h.repo.commit(site("one"))
	ctx := t.Context()
	st := newLoopState(0)
	defer st.stopTimers()
	h.begin(ctx, st, job{trigger: store.TriggerCommit, rev: revision(tip)})
	out := (<-st.finished).settle()
	out.Failure = &Failure{Revision: tip, Reason: ReasonMachine, Retry: true}
	h.update(func(s *Status) { s.Failure = out.Failure })
	reply := make(chan Outcome, 1)
	h.command(ctx, st, command{do: func(st *loopState) Outcome { return h.release(st, "") }, reply: reply})
	<-reply
	h.tip(ctx, st, <-st.looked)
	h.ended(ctx, st, out)
	if !st.looking || st.refused != "" {
		t.Fatalf("nobody looks at the tip any more: %+v", st)
	}
	<-st.looked
}
