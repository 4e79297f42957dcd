package engine

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// notes keeps what an engine tells.
type notes struct {
	mu   sync.Mutex
	list []provider.Note
}

func (n *notes) Note(note provider.Note) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, note)
}

// take gives what was told since the last call, one line each, without conditions.
func (n *notes) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var lines []string
	for _, note := range n.list {
		if note.Kind == provider.NoteCondition {
			continue
		}
		rev := strings.TrimLeft(note.Revision, "0")
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s", note.Kind, rev, note.Reason)))
	}
	n.list = nil
	return lines
}

// What happens is told, in the order in which it does.
func TestNotes(t *testing.T) {
	told := &notes{}
	h := newHouse(t, func(c *Config) { c.Notes = told })
	check := func(when string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, told.take()); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", when, diff)
		}
	}
	h.reachedOnce(site("one"))
	check("a first commit", "commit.seen 1", "apply.started 1", "applied 1")
	h.refused(h.repo.commit(map[string]string{"site.hcl": "nonsense {}"}))
	check("nonsense", "commit.seen 2", "apply.started 2", "commit.refused 2 invalid")
	h.repo.fail(fmt.Errorf("no route to host"))
	h.polls(2)
	h.repo.fail(nil)
	h.polls(2)
	check("the repo goes away", "repo.unreachable", "repo.reachable")
	h.reached(h.repo.commit(site("three")))
	check("a third", "commit.seen 3", "apply.started 3", "applied 3")
	outcome(t)(h.Rollback(t.Context(), 1, store.Actor{Via: store.ViaSocket}))
	check("a rollback", "apply.started 1", "applied 1")
}

// Each change of a condition is told, once, with what it is now.
func TestNotesOfConditions(t *testing.T) {
	told := &notes{}
	h := newHouse(t, func(c *Config) { c.Notes = told })
	h.reachedOnce(site("one"))
	h.refused(h.repo.commit(map[string]string{"site.hcl": "nonsense {}"}))
	h.polls(3)
	told.mu.Lock()
	defer told.mu.Unlock()
	var ready []string
	for _, n := range told.list {
		if n.Kind == provider.NoteCondition && n.Condition == ConditionReady {
			ready = append(ready, fmt.Sprintf("%v %s", *n.Status, n.Reason))
		}
	}
	if want := []string{"false NothingApplied", "true Serving", "false Refused"}; !slices.Equal(ready, want) {
		t.Errorf("%q, want %q", ready, want)
	}
}
