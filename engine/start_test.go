package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// A start serves the kept generations beside the current one, and has them before
// the current one opens any socket; without the repo, and without a build.
func TestStartServesKeptGenerations(t *testing.T) {
	h := newHouse(t, nil)
	h.history()
	h.repo.away()
	h.stop()
	h.journal.take()
	h.open()
	h.run()
	if h.served() != "three" || h.servedBy(3) != "three" || h.servedBy(2) != "two" || h.servedBy(1) != "one" {
		t.Errorf("serving %q, %q, %q, %q", h.served(), h.servedBy(3), h.servedBy(2), h.servedBy(1))
	}
	var commits []string
	for _, l := range h.journal.take("retire") {
		if strings.HasPrefix(l, "prepare") && !strings.Contains(l, "offline") || !strings.Contains(l, " 3") && strings.HasPrefix(l, "prepare") != strings.HasSuffix(l, "retained") {
			t.Errorf("at a start: %s", l)
		}
		if strings.HasPrefix(l, "commit dhcp") {
			commits = append(commits, l)
		}
	}
	if diff := cmp.Diff([]string{"commit dhcp 2", "commit dhcp 1", "commit dhcp 3"}, commits); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	s, _ := h.Status()
	if s.Generation != 3 || s.ServeError != "" || !condition(t, s, "Ready").Status {
		t.Errorf("%+v", s)
	}
}

// A kept generation that cannot be served is told, the others are served, and it is
// no trouble any more when no machine needs it.
func TestKeptGenerationCannotBeServed(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Keep = 1 })
	h.history()
	h.stop()
	h.open()
	h.fakes["export"].onPrepare = func(_ context.Context, in provider.Input) error {
		if in.Generation == 2 {
			return errors.New("the blob is gone")
		}
		return nil
	}
	h.nodes.pin(2)
	h.run()
	s, _ := h.Status()
	if c := condition(t, s, "Ready"); c.Status || s.ServeError != "generation 2: the blob is gone" || h.served() != "three" || h.servedBy(1) != "one" || h.servedBy(2) != "" {
		t.Errorf("%+v, serving %q", s, h.served())
	}
	h.reached(h.repo.commit(site("four")))
	h.journal.await(t, "retire image", 4)
	if s, _ := h.Status(); s.ServeError == "" {
		t.Error("the trouble is forgotten while a machine is pinned to the generation")
	}
	h.nodes.pin()
	h.clock.advance(time.Hour)
	h.reached(h.repo.commit(site("five")))
	h.wait("end of the trouble", func(s Status) bool { return s.ServeError == "" })
}

// What the current generation lacked at the start is made anew by the repo's commit, as
// the next one: the one before is served beside it again, and the trouble is over.
func TestTroubleEndsWithARebuild(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	h.stop()
	h.open()
	var made atomic.Bool
	h.fakes["image"].set(func(f *fake) {
		f.onPrepare = func(_ context.Context, in provider.Input) error {
			if !in.Offline {
				made.Store(true)
			}
			if in.Offline && !made.Load() {
				return errors.New("nothing in the store was built from the recipe")
			}
			return nil
		}
	})
	h.run()
	s := h.wait("generation 2", func(s Status) bool { return s.Generation == 2 && s.ServeError == "" && s.Phase == PhaseIdle })
	if !condition(t, s, ConditionHealthy).Status || !condition(t, s, ConditionReady).Status {
		t.Errorf("%+v", s.Conditions)
	}
	if h.served() != "one" || h.servedBy(1) != "one" {
		t.Errorf("serving %q, and to machines on generation 1 %q", h.served(), h.servedBy(1))
	}
}

// A damaged record: the one before is served, and the status says what is wrong.
func TestDamagedRecord(t *testing.T) {
	h := newHouse(t, nil)
	h.history()
	h.stop()
	path := filepath.Join(h.dir, "generations", "0000000003.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b[:len(b)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	h.repo.fail(errors.New("away"))
	h.open()
	h.run()
	s, _ := h.Status()
	if h.served() != "two" || s.Generation != 2 || !strings.Contains(s.ServeError, path+" is damaged") || strings.Count(s.ServeError, "damaged") != 1 {
		t.Errorf("serving %q: %+v", h.served(), s)
	}
	// The repo says what is right.
	h.repo.fail(nil)
	h.wait("generation 4", func(s Status) bool { return s.Generation == 4 && s.Phase == PhaseIdle })
	if h.served() != "three" {
		t.Errorf("serving %q", h.served())
	}
}

// Damage that is found while machines are served is in the status at once.
func TestDamageIsToldAtOnce(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.tick = time.Hour })
	h.reachedOnce(site("one"))
	path := filepath.Join(h.dir, "state.db")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := h.store.DB().Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists([]byte("leases"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	h.wait("the status tells", func(s Status) bool { return strings.Contains(s.ServeError, path+" is damaged") })
}

// ready is told once, when the recorded generation is served and before the repo is
// asked.
func TestReady(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	h.stop()
	h.open()
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := h.Engine.Run(ctx, func() {
		calls++
		if h.served() != "one" {
			t.Errorf("ready while serving %q", h.served())
		}
		if s, _ := h.Status(); s.Polls != 0 || condition(t, s, "SourceReachable").Reason != "NotAsked" {
			t.Errorf("%+v", s)
		}
		cancel()
	})
	if err != nil || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// A start that is interrupted is no error.
func TestStartInterrupted(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	h.stop()
	h.open()
	ctx, cancel := context.WithCancel(t.Context())
	h.fakes["bootloader"].onPrepare = func(ctx context.Context, _ provider.Input) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	h.journal.take()
	if err := h.Engine.Run(ctx, func() { t.Error("ready") }); err != nil {
		t.Error(err)
	}
	if got := h.journal.take("prepare"); !cmp.Equal(got, []string{"abort export 1", "abort image 1"}) {
		t.Errorf("%q", got)
	}
}

// A recorded generation that cannot be served at a start: the newest one that can is
// served instead, the status says why, and it is tried again.
func TestStartFallsBack(t *testing.T) {
	h := newHouse(t, nil)
	_, _, three := h.history()
	h.repo.fail(errors.New("away"))
	h.stop()
	h.open()
	fail := func(_ context.Context, in provider.Input) error {
		if !in.Retained && in.Generation == 3 {
			return errors.New("port in use")
		}
		return nil
	}
	h.fakes["dhcp"].set(func(f *fake) { f.onPrepare = fail })
	if err := h.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, _ := h.Status()
	if s.Generation != 2 || h.served() != "two" || h.servedBy(1) != "one" || s.ServeError != "generation 3: port in use" || condition(t, s, "Ready").Status {
		t.Errorf("serving %q: %+v", h.served(), s)
	}
	h.mendNow()
	if s, _ := h.Status(); s.Generation != 2 || h.served() != "two" {
		t.Errorf("serving %q: %+v", h.served(), s)
	}
	h.fakes["dhcp"].set(func(f *fake) { f.onPrepare = nil })
	h.mendNow()
	h.noteTrouble()
	if s, _ := h.Status(); s.Generation != 3 || s.Revision != three || h.served() != "three" || h.servedBy(2) != "two" || s.ServeError != "" {
		t.Errorf("serving %q: %+v", h.served(), s)
	}
	h.journal.take()
	h.mendNow()
	if got := h.journal.take(); len(got) > 0 {
		t.Errorf("with nothing to mend: %q", got)
	}
}

// Nothing of what is recorded can be served: the engine lives, and the tip is tried.
func TestStartWithNothingThatCanBeServed(t *testing.T) {
	h := newHouse(t, nil)
	h.history()
	h.stop()
	h.open()
	h.fakes["dhcp"].set(func(f *fake) {
		f.onPrepare = func(_ context.Context, in provider.Input) error {
			if in.Offline {
				return errors.New("the blobs are gone")
			}
			return nil
		}
	})
	h.run()
	s := h.wait("generation 4", func(s Status) bool { return s.Generation == 4 && s.Phase == PhaseIdle })
	if h.served() != "three" || s.Failure != nil {
		t.Errorf("serving %q: %+v", h.served(), s)
	}
}

// What stands in for a generation that could not be served is what an operator asks
// for: it is recorded as that, so that the next start serves it too.
func TestApplyOfTheStandInLasts(t *testing.T) {
	h := newHouse(t, nil)
	_, two, three := h.history()
	h.stop()
	h.open()
	h.fakes["dhcp"].set(func(f *fake) {
		f.onPrepare = func(_ context.Context, in provider.Input) error {
			if in.Want.Subnets[0].DomainName == "three" {
				return errors.New("port in use")
			}
			return nil
		}
	})
	h.run()
	h.refused(three)
	if out := outcome(t)(h.Apply(t.Context(), Order{Revision: two})); out.Generation != 4 || out.Held == nil || out.Held.Revision != three {
		t.Errorf("%+v", out)
	}
	h.held(4, "two", three)
}
