package engine

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/source"
)

// How closely a commit was looked at is remembered with it, so that one that was let
// through unsigned is never taken for one whose signature was checked.
func TestTrustedIsRememberedWithItsSetting(t *testing.T) {
	h := newHouse(t, nil)
	setting := func(verify string) {
		h.repo.mu.Lock()
		defer h.repo.mu.Unlock()
		h.repo.signatures, h.repo.since = verify, nil
	}
	asked := func(want ...source.Trusted) {
		t.Helper()
		h.repo.mu.Lock()
		defer h.repo.mu.Unlock()
		if diff := cmp.Diff(want, h.repo.since); diff != "" {
			t.Errorf("asked with (-want +got)\n%s", diff)
		}
	}
	setting(source.VerifyNone)
	one := h.reachedOnce(site("one"))
	asked(source.Trusted{})
	setting(source.VerifyEvery)
	h.restart() // which looks at the tip again, with the new setting
	h.polls(1)
	two := h.repo.commit(site("two"))
	h.reached(two)
	asked(source.Trusted{Commit: one, Verify: source.VerifyNone}, source.Trusted{Commit: one, Verify: source.VerifyEvery})
}
