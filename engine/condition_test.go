package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

func TestConditions(t *testing.T) {
	untrusted := &Failure{Reason: ReasonUntrusted, Message: "no signature"}
	for _, c := range []struct {
		name                 string
		s                    Status
		ready, synced, reach string // reasons, "+" before those that hold
		trusted, healthy     string
	}{
		{"starting", Status{Phase: PhaseStarting}, "Starting", "Behind", "NotAsked", "+NothingRefused", "+Whole"},
		{"not asked", Status{Phase: PhaseIdle, Generation: 1, Synced: "a"}, "+Serving", "Behind", "NotAsked", "+NothingRefused", "+Whole"},
		{"nothing", Status{Phase: PhaseIdle, Polls: 1}, "NothingApplied", "Behind", "+Fetched", "+NothingRefused", "+Whole"},
		{"at tip", Status{Phase: PhaseIdle, Generation: 1, Tip: "a", Synced: "a", Polls: 1}, "+Serving", "+AtTip", "+Fetched", "+NothingRefused", "+Whole"},
		{"behind", Status{Phase: PhaseIdle, Generation: 1, Tip: "b", Synced: "a", Polls: 1}, "+Serving", "Behind", "+Fetched", "+NothingRefused", "+Whole"},
		{"applying", Status{Phase: PhasePreparing, Generation: 1, Tip: "b", Synced: "a", Attempt: "b", Polls: 1}, "+Serving", "Applying", "+Fetched", "+NothingRefused", "+Whole"},
		{"held", Status{Phase: PhaseIdle, Generation: 1, Tip: "b", Synced: "a", Held: &Hold{}, Polls: 1}, "+Serving", "Held", "+Fetched", "+NothingRefused", "+Whole"},
		{"refused", Status{Phase: PhaseIdle, Generation: 1, Tip: "b", Synced: "a", Failure: &Failure{Message: "m"}, Polls: 1}, "Refused", "Refused", "+Fetched", "+NothingRefused", "+Whole"},
		{"untrusted", Status{Phase: PhaseIdle, Generation: 1, Tip: "b", Synced: "a", Failure: untrusted, Polls: 1}, "Refused", "Refused", "+Fetched", "Untrusted", "+Whole"},
		{"trouble", Status{Phase: PhaseIdle, Generation: 1, Tip: "a", Synced: "a", ServeError: "e", Polls: 1}, "ServeError", "+AtTip", "+Fetched", "+NothingRefused", "ServeError"},
		{"unreachable", Status{Phase: PhaseIdle, Generation: 1, Tip: "a", Synced: "a", RepoError: "e", Polls: 1}, "+Serving", "+AtTip", "Unreachable", "+NothingRefused", "+Whole"},
	} {
		c.s.Conditions = conditions(&c.s)
		var got []string
		for _, cond := range c.s.Conditions {
			text := cond.Reason
			if cond.Status {
				text = "+" + text
			}
			got = append(got, text)
		}
		if want := []string{c.ready, c.synced, c.reach, c.trusted, c.healthy}; !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", c.name, got, want)
		}
	}
	if c, ok := (&Status{}).Condition(ConditionReady); ok {
		t.Errorf("a condition of nothing: %+v", c)
	}
}

// A condition says since when it is so: a new message or a look at the repo is no
// transition.
func TestConditionTransitions(t *testing.T) {
	h := newHouse(t, nil)
	begun := h.clock.now()
	s := h.reached(h.reachedOnce(site("one")))
	if c := condition(t, s, ConditionSynced); !c.Status || !c.LastTransition.Equal(begun) || c.ObservedGeneration != 1 || c.ObservedRevision != s.Tip {
		t.Errorf("%+v", c)
	}
	h.clock.advance(time.Minute)
	bad := h.repo.commit(map[string]string{"site.hcl": "nonsense {}"})
	first := condition(t, h.refused(bad), ConditionReady)
	if first.Status || first.Reason != "Refused" || !first.LastTransition.Equal(begun.Add(time.Minute)) || first.ObservedRevision != bad || first.ObservedGeneration != 1 {
		t.Errorf("%+v", first)
	}
	h.clock.advance(time.Minute)
	worse := h.repo.commit(map[string]string{"site.hcl": "folly {}"})
	second := condition(t, h.refused(worse), ConditionReady)
	if !second.LastTransition.Equal(first.LastTransition) || second.Message == first.Message || second.ObservedRevision != worse {
		t.Errorf("%+v after %+v", second, first)
	}
	if c := condition(t, h.polls(1), ConditionHealthy); !c.Status || !c.LastTransition.Equal(begun) {
		t.Errorf("%+v", c)
	}
	h.clock.advance(time.Minute)
	if c := condition(t, h.reached(h.repo.commit(site("two"))), ConditionReady); !c.Status || !c.LastTransition.Equal(begun.Add(3*time.Minute)) {
		t.Errorf("%+v", c)
	}
}

// Whatever happens, in whatever order, restarts included: Ready is not true while the
// newest commit is one that was refused, and says when it became what it is.
func TestReadyNeverWhileRefused(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { readyStory(t, rand.New(rand.NewPCG(seed, 5))) })
	}
}

func readyStory(t *testing.T, dice *rand.Rand) {
	h := newHouse(t, nil)
	var mu sync.Mutex
	refused := map[string]bool{} // commits that some process refused, in any status seen
	var was []Condition
	check := func(s Status) {
		mu.Lock()
		defer mu.Unlock()
		if s.Failure != nil {
			refused[s.Failure.Revision] = true
		}
		ready := condition(t, s, ConditionReady)
		if ready.Status && (s.Failure != nil || s.Held == nil && s.Tip != s.Synced && refused[s.Tip]) {
			t.Errorf("ready, and %s is refused: %+v", s.Tip, s)
		}
		for i, c := range s.Conditions {
			if was == nil {
				break
			}
			if same := c.Status == was[i].Status && c.Reason == was[i].Reason; same && c.LastTransition.Before(was[i].LastTransition) {
				t.Errorf("%+v after %+v", c, was[i])
			}
		}
		was = s.Conditions
	}
	quiet := func() Status {
		s := h.wait("quiet", func(s Status) bool {
			check(s)
			return s.Attempt == "" && s.Polls > 0
		})
		return s
	}
	broken := func(on bool) {
		h.fakes["dhcp"].set(func(f *fake) {
			f.onPrepare = nil
			if on {
				f.onPrepare = func(_ context.Context, in provider.Input) error {
					if in.Want.Subnets[0].DomainName == "broken" {
						return errors.New("no space left on device")
					}
					return nil
				}
			}
		})
	}
	h.repo.commit(site("one"))
	h.run()
	broken(true)
	quiet()
	polls := func() { h.polls(1) }
	for n := range 40 {
		switch dice.IntN(9) {
		case 0, 1:
			h.repo.commit(site(fmt.Sprint("good", n)))
		case 2:
			h.repo.commit(map[string]string{"site.hcl": fmt.Sprintf("nonsense%d {}", n)})
		case 3:
			h.repo.commit(site("broken"))
		case 4:
			h.repo.fail(errors.New("no route to host"))
			polls()
			check(quiet())
			h.repo.fail(nil)
		case 5:
			_, _ = h.Rollback(t.Context(), 0, store.Actor{}) // there may be nothing to go back to
		case 6:
			outcome(t)(h.Release(t.Context(), "", store.Actor{}))
		case 7:
			s, _ := h.Status()
			if _, err := h.Apply(t.Context(), Order{Revision: s.Revision}); err != nil {
				t.Fatal(err)
			}
		case 8:
			h.stop()
			h.open()
			broken(true)
			h.run()
			mu.Lock()
			was = nil
			mu.Unlock()
		}
		h.clock.advance(time.Second)
		check(quiet())
		polls()
		check(quiet())
	}
}
