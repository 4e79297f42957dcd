package engine

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A FIFO in the place of a hint keeps no start waiting, nor an end.
func TestProvenIsAFIFO(t *testing.T) {
	h := newHouse(t, nil)
	h.stop()
	if err := unix.Mkfifo(filepath.Join(h.dir, provenFile), 0o600); err != nil {
		t.Fatal(err)
	}
	h.open()
	h.cfg.Store.ReadHint(provenFile, mostProven)
	if list, _ := filepath.Glob(filepath.Join(h.dir, provenFile+".damaged-*")); len(list) != 1 {
		t.Errorf("set aside: %q", list)
	}
}
