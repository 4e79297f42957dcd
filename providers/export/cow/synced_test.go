package cow

import (
	"errors"
	"testing"
)

// Who is told that there is nothing to sync may tell so: that has to hold.
func TestSynced(t *testing.T) {
	base, b := testBase(3, 64*BlockSize)
	o := openOverlay(t, openStore(t, t.TempDir(), "k"), base, b)
	t.Cleanup(o.Close)
	want := func(want bool, when string) {
		t.Helper()
		if got := o.Synced(); got != want {
			t.Errorf("%s: %t", when, got)
		}
	}
	sync := func() {
		t.Helper()
		if err := o.Sync(); err != nil {
			t.Fatal(err)
		}
		want(true, "after a sync")
	}
	sync()
	for what, do := range map[string]func() error{
		"a write":           func() error { _, err := o.WriteAt(make([]byte, 100), 50); return err },
		"the same again":    func() error { _, err := o.WriteAt(make([]byte, 100), 50); return err },
		"zeros":             func() error { return o.Zero(8*BlockSize, BlockSize) },
		"zeros with blocks": func() error { return o.ZeroRange(12*BlockSize, BlockSize, true, false) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		want(false, "after "+what)
		sync()
	}
	o.mu.Lock()
	want(false, "while somebody writes")
	o.mu.Unlock()
	o.syncMu.Lock() // what is dirty was taken, and is not stable yet
	want(false, "while somebody syncs")
	o.syncMu.Unlock()
	want(true, "after both")
	o.failed = errors.New("the disk lost a page")
	want(false, "after a sync failed")
}
