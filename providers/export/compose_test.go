package export

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// A machine that came while its disk was copied waited for all of the copy.
func TestAttachingEndsACopy(t *testing.T) {
	r := newRig(t)
	a := r.ext4(1 << 20)
	r.commit(r.keeping(1, a, schema.KeepHost))
	name := nameOf("arch", a)
	m := r.mustDial(name + bootA)
	m.write(0, "written")
	m.gone(r)
	f := r.listed(ofTestMachine)[0]
	alone, done, err := r.alone(t.Context(), f, "use --live")
	if err != nil {
		t.Fatal(err)
	}
	other := r.mustDial(nameOf("sealed", a) + bootA) // which is another disk
	other.read(0, 1)
	other.gone(r)
	if err := alone.Err(); err != nil {
		t.Errorf("an attachment to another disk: %v", err)
	}
	m = r.mustDial(name + bootB)
	if !errors.Is(alone.Err(), context.Canceled) {
		t.Error("the copy goes on")
	}
	for _, err := range []error{ended(alone, alone.Err()), r.second(f)} {
		if !errors.Is(err, provider.ErrAttached) || !strings.Contains(err.Error(), "--live") || !strings.Contains(err.Error(), name) {
			t.Errorf("%v", err)
		}
	}
	m.wantText(0, "written", "the next boot")
	done()
	if len(r.copies) != 0 {
		t.Error("a copy that is over is remembered")
	}
	m.gone(r)
	if _, err := r.PromoteOverlay(t.Context(), ofTestMachine, false); err != nil {
		t.Errorf("tried again: %v", err)
	}
}

// second gives why a copy of a disk that is attached cannot begin.
func (r *rig) second(f found) error {
	_, _, err := r.alone(r.t.Context(), f, "use --live")
	return err
}
