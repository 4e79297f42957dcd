package export

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// A machine whose kept disk had a damaged record was booted from another export, and the
// disk was gone.
func TestAnotherExportLeavesWhatCannotBeRead(t *testing.T) {
	for _, keep := range []schema.Keep{schema.KeepHost, ""} { // "": read-write
		for _, boot := range []string{bootA, ""} {
			t.Run(string(keep)+boot, func(t *testing.T) {
				r := newRig(t)
				a, _ := r.artifact(1, 1<<20)
				in := r.keeping(1, a, keep)
				if keep == "" {
					in.Want.Exports[0].Mode, in.Want.Exports[0].Allow = schema.ReadWrite, []schema.Addr{hostWS01}
				}
				r.commit(in)
				name := nameOf("arch", a)
				first := r.mustDial(name + boot)
				first.write(1000, "precious")
				first.flush()
				first.gone(r)
				r.stop() // else its sweeper may write the record
				records, err := filepath.Glob(filepath.Join(r.state, "overlays", "*", "*", "*", "meta.json"))
				if err != nil || len(records) != 1 {
					t.Fatal(records, err)
				}
				sound, err := os.ReadFile(records[0])
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(records[0], []byte("{"), 0o600); err != nil {
					t.Fatal(err)
				}
				r.start()
				r.commit(in)
				for _, other := range []string{bootB, ""} {
					r.clients.edit(loopback, func(c *provider.Client) { c.Session = "another" + other })
					rescue := r.mustDial(nameOf("sealed", a) + other)
					rescue.read(0, 1)
					rescue.gone(r)
				}
				if err := r.overlays.Sweep(); err != nil {
					t.Error(err)
				}
				r.wantData(1, "after boots from another export")
				r.stop()
				if err := os.WriteFile(records[0], sound, 0o600); err != nil {
					t.Fatal(err)
				}
				r.start()
				r.commit(in)
				r.mustDial(name+bootC).wantText(1000, "precious", "its record is sound again")
			})
		}
	}
}

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
	r.stop() // else its sweeper may write the record after this has
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
	r.start()
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
