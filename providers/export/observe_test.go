package export

import (
	"context"
	"errors"
	"testing"
)

// Who gave up was waited for all the same, over the disks of all machines.
func TestObserveGivesUp(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.input(1, a))
	r.mustDial(nameOf("arch", a)+bootA).write(0, "x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Observe(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Each look at the metrics measured the disks that have no limit too.
func TestLimited(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 4<<20)
	in := r.input(1, a)
	r.commit(in)
	r.mustDial(nameOf("arch", a)+bootA).write(0, "x")
	if got := r.Limited(); len(got) != 0 {
		t.Errorf("without a limit: %+v", got)
	}
	in = r.input(2, a)
	in.Want.Exports[0].Limit = 1 << 20
	r.commit(in)
	if got := r.Limited(); len(got) != 1 || got[0].Limit != 1<<20 || got[0].Bytes != 4096 {
		t.Errorf("with one: %+v", got)
	}
}
