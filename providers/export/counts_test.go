package export

import (
	"errors"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// What metrics show is what clients did.
func TestCounts(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.input(1, a))
	c := r.mustDial(nameOf("arch", a) + bootA)
	c.write(1000, "twelve bytes")
	c.wantText(1000, "twelve bytes", "")
	r.clients.set(loopback, provider.Client{})
	if _, err := r.dialFrom(loopback, "nothing@000000000000"); !errors.Is(err, errRefused) {
		t.Errorf("%v", err)
	}
	got := r.Counts()
	if got.Connections != 2 || got.Open != 1 || got.Read != 12 || got.Written != 12 || got.Refused != 0 {
		t.Errorf("%+v", got)
	}
}
