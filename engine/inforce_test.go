package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// lost has every start of a generation from lo on fail; a new one can be prepared.
func (h *house) lost(lo uint64) {
	h.fakes["export"].set(func(f *fake) {
		f.onPrepare = func(_ context.Context, in provider.Input) error {
			if in.Offline && in.Generation >= lo {
				return errors.New("the blob is gone")
			}
			return nil
		}
	})
}

// A commit that waits for an approval waits on after a restart at which the
// generation that asks for it cannot be served, whatever stands in.
func TestLostGenerationKeepsItsPolicy(t *testing.T) {
	for name, c := range map[string]struct {
		lost   uint64
		serves string
	}{
		"an older one stands in": {2, "one"},
		"nothing stands in":      {1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, nil)
			h.reachedOnce(rack("one", 2, ""))
			h.reached(h.repo.commit(rack("two", 2, approvePolicy)))
			three := h.repo.commit(rack("three", 2, ""))
			h.waits(three)
			h.stop()
			h.open()
			h.lost(c.lost)
			h.run()
			if w := h.waits(three); w.For != WaitApproval || w.Range.String() != "policy.hcl:1,1" || h.served() != c.serves {
				t.Errorf("serving %q: %+v", h.served(), w)
			}
			before := len(h.audit())
			if s := h.polls(2); s.Waiting == nil || len(h.audit()) != before {
				t.Errorf("%+v", s)
			}
			outcome(t)(h.Apply(t.Context(), Order{}))
			if h.reached(three); h.served() != "three" || h.current().Number != 3 {
				t.Errorf("serving %q", h.served())
			}
			// Its policy is in force now.
			h.reached(h.repo.commit(rack("four", 2, "")))
		})
	}
}

// What a commit deletes is counted in what is recorded, not in what happens to be
// served after a start.
func TestLostGenerationCountsWhatIsDeleted(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(rack("one", 1, ""))
	h.reached(h.repo.commit(rack("two", 15, "")))
	h.repo.fail(errors.New("away"))
	h.stop()
	h.open()
	h.lost(1)
	h.run()
	three := h.repo.commit(rack("three", 1, ""))
	h.repo.fail(nil)
	if s := h.refused(three); s.Failure.Reason != ReasonDenied || !strings.Contains(s.Failure.Message, "14 of ") || h.served() != "" {
		t.Errorf("serving %q: %+v", h.served(), s.Failure)
	}
	// Nothing stands in here, so an operator's order deletes nothing.
	outcome(t)(h.Apply(t.Context(), Order{}))
	if h.reached(three); h.served() != "three" {
		t.Errorf("serving %q", h.served())
	}
}

// The generation whose policy is in force cannot be read: nobody can tell what it
// would let through, so an operator is asked.
func TestUnreadableGenerationAsksAnOperator(t *testing.T) {
	for name, spoil := range map[string]func(*testing.T, *house) string{
		"a damaged record": func(t *testing.T, h *house) string {
			h.open()
			if err := os.Truncate(filepath.Join(h.dir, "generations", "0000000002.json"), 100); err != nil {
				t.Fatal(err)
			}
			return "generation 2, which cannot be read any more"
		},
		"another server's name": func(_ *testing.T, h *house) string {
			h.change = func(c *Config) { c.Server = "other" }
			h.open()
			return "no such server block"
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, nil)
			h.reachedOnce(rack("one", 2, ""))
			h.reached(h.repo.commit(rack("two", 2, approvePolicy)))
			h.stop()
			files := rack("three", 2, "")
			message := spoil(t, h)
			if h.cfg.Server != "" {
				files["site.hcl"] = strings.Replace(files["site.hcl"], `server "main"`, `server "other"`, 1)
			}
			three := h.repo.commit(files)
			h.run()
			w := h.waits(three)
			if w.For != WaitApproval || !strings.Contains(w.Message, message) || w.Command != "dlreconcile apply --rev "+short(three) || h.served() == "three" {
				t.Errorf("serving %q: %+v", h.served(), w)
			}
			outcome(t)(h.Apply(t.Context(), Order{}))
			if s := h.reached(three); h.served() != "three" || s.Waiting != nil {
				t.Errorf("serving %q: %+v", h.served(), s)
			}
		})
	}
}

// A restart while an earlier generation stands in writes nothing again.
func TestStandInLeavesTheAuditLogAlone(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(rack("one", 2, ""))
	h.reached(h.repo.commit(rack("two", 2, approvePolicy)))
	h.waits(h.repo.commit(rack("three", 2, "")))
	h.stop()
	var results []string
	for range 2 {
		h.open()
		h.lost(2)
		h.run()
		h.polls(2)
		h.stop()
	}
	for _, e := range h.audit() {
		results = append(results, e.Result)
	}
	if diff := cmp.Diff([]string{"applied", "applied", "waiting", "waiting", "waiting"}, results); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
