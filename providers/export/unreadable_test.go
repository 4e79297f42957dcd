package export

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dlreconcile/dlreconcile/schema"
)

// A disk whose record cannot be read may be anybody's of the machine: no boot of it gets a
// fresh one instead.
func TestUnreadableRecordOfAKeptDisk(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.keeping(1, a, schema.KeepHost))
	name := nameOf("arch", a)
	first := r.mustDial(name + bootA)
	first.write(1000, "of the first boot")
	second := r.mustDial(name + bootB) // takes it over
	second.wantText(1000, "of the first boot", "the next boot")
	second.gone(r)
	records, err := filepath.Glob(filepath.Join(r.state, "overlays", "*", "*", "*", "meta.json"))
	if err != nil || len(records) != 1 {
		t.Fatal(records, err)
	}
	b, err := os.ReadFile(records[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(records[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.commit(r.keeping(1, a, schema.KeepHost))
	for _, boot := range []string{bootA, bootB, bootC, ""} {
		r.wantDenied(name+boot, "record cannot be read")
	}
	if err := os.WriteFile(records[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.commit(r.keeping(1, a, schema.KeepHost))
	r.mustDial(name+bootB).wantText(1000, "of the first boot", "its record is back")
}
