package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/source"
)

// Any number of triggers while a look is under way are one more look, and that finds
// the newest commit.
func TestTriggersAreOneSlot(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	h.polls(1)
	h.repo.mu.Lock()
	gate := make(chan struct{})
	h.repo.gate = gate
	before := h.repo.looks
	h.repo.mu.Unlock()
	h.Poke()
	h.repo.awaitLooks(t, before+1)
	for range 100 {
		h.Poke()
	}
	h.repo.mu.Lock()
	last := h.repo.add(site("two"))
	last = h.repo.add(site(last))
	h.repo.tip, h.repo.gate = last, nil
	h.repo.mu.Unlock()
	close(gate)
	h.reached(last)
	h.polls(1)
	h.repo.mu.Lock()
	defer h.repo.mu.Unlock()
	// The slot's own, one for the end of the attempt, and the poll above.
	if n := h.repo.looks - before; n > 5 {
		t.Errorf("%d looks after 100 triggers", n)
	}
	if n := len(h.repo.verified); n != 2 {
		t.Errorf("%d attempts: %v", n, h.repo.verified)
	}
}

// awaitLooks waits until so many looks at the tip have begun.
func (r *repo) awaitLooks(t *testing.T, n int) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		r.mu.Lock()
		have, began := r.looks, r.began
		r.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-began:
		case <-deadline:
			t.Fatalf("%d looks, want %d", have, n)
		}
	}
}

// A newer commit takes the place of one that waits for a window, for an approval, that
// is being verified, or whose next try is far, at once.
func TestNewerCommitEndsEveryWait(t *testing.T) {
	for name, wait := range map[string]struct {
		policy string
		is     func(Status, string) bool
	}{
		"window": {nightPolicy, func(s Status, rev string) bool {
			return s.Waiting != nil && s.Waiting.Revision == rev && s.Waiting.For == WaitWindow
		}},
		"approval": {approvePolicy, func(s Status, rev string) bool {
			return s.Waiting != nil && s.Waiting.Revision == rev && s.Waiting.For == WaitApproval
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, nil)
			h.reachedOnce(rack("one", 2, ""))
			first := h.repo.commit(rack("one", 2, wait.policy))
			h.reached(first)
			two := h.repo.commit(rack("two", 2, wait.policy))
			h.wait("a wait", func(s Status) bool { return wait.is(s, two) })
			three := h.repo.commit(rack("three", 2, wait.policy))
			s := h.wait("the next wait", func(s Status) bool { return wait.is(s, three) })
			if s.Failure != nil || s.Generation != 2 {
				t.Errorf("%+v", s)
			}
			// Back to what is served: nothing is waited for.
			h.repo.move(first)
			h.wait("no wait", func(s Status) bool { return s.Waiting == nil && s.Phase == PhaseIdle })
		})
	}
	t.Run("next try", func(t *testing.T) {
		h := newHouse(t, nil) // whose waits are hours
		h.reachedOnce(site("one"))
		h.fakes["image"].set(func(f *fake) {
			f.onPrepare = func(_ context.Context, in provider.Input) error {
				if in.Want.Subnets[0].DomainName == "two" {
					return errors.New("the mirror is away")
				}
				return nil
			}
		})
		h.refused(h.repo.commit(site("two")))
		h.reached(h.repo.commit(site("three")))
	})
	t.Run("verification", func(t *testing.T) {
		slow := &slowVerify{repo: newRepo(), begun: make(chan struct{}, 1)}
		h := newHouse(t, func(c *Config) { c.Source = slow })
		h.repo = slow.repo
		h.reachedOnce(site("one"))
		slow.mu.Lock()
		slow.hangs = slow.add(site("two"))
		slow.tip = slow.hangs
		slow.mu.Unlock()
		h.Poke()
		<-slow.begun
		if s, _ := h.Status(); s.Phase != PhaseVerifying {
			t.Errorf("%s", s.Phase)
		}
		three := h.repo.commit(site("three"))
		if s := h.reached(three); len(s.Quarantined) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// slowVerify is a source that thinks about one commit for ever.
type slowVerify struct {
	*repo
	hangs string
	begun chan struct{}
}

func (s *slowVerify) Verify(ctx context.Context, rev source.Revision, since source.Trusted) (source.Trusted, error) {
	s.mu.Lock()
	hangs := s.hangs == rev.Hash
	s.mu.Unlock()
	if hangs {
		s.begun <- struct{}{}
		<-ctx.Done()
		return source.Trusted{}, ctx.Err()
	}
	return s.repo.Verify(ctx, rev, since)
}

// The status says since when the repo cannot be read, whatever else it says meanwhile,
// and one look catches up with all that came.
func TestRepoAwaySince(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	h.polls(1)
	read := h.clock.now()
	h.clock.sleep(time.Minute)
	gone := h.clock.now()
	h.repo.fail(errors.New("no route to host"))
	h.wait("an error", func(s Status) bool { return s.RepoError != "" })
	h.clock.sleep(time.Hour)
	h.repo.fail(errors.New("no such host"))
	s := h.wait("another", func(s Status) bool { return s.RepoError == "no such host" })
	if !s.RepoSince.Equal(gone) || !s.RepoRead.Equal(read) || h.served() != "one" {
		t.Errorf("since %v, read %v, want %v, %v", s.RepoSince, s.RepoRead, gone, read)
	}
	h.repo.mu.Lock()
	for _, text := range []string{"two", "three"} {
		h.repo.tip = h.repo.add(site(text))
	}
	h.repo.err = nil
	tip := h.repo.tip
	h.repo.mu.Unlock()
	polls := s.Polls
	h.Poke()
	s = h.reached(tip)
	if s.Polls > polls+2 || !s.RepoSince.IsZero() || !s.RepoRead.Equal(h.clock.now()) || s.Generation != 2 {
		t.Errorf("%d looks later: %+v", s.Polls-polls, s)
	}
}
