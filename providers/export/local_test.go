package export

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/nbd"
	"github.com/dlreconcile/dlreconcile/schema"
)

// locally says what a program of this machine may have, and why not the rest.
func (r *rig) locally(names ...string) (listed []string, refused map[string]error) {
	r.t.Helper()
	h, peer := handler{r.Provider}, nbd.Peer{Local: true}
	for _, l := range h.List(r.t.Context(), peer) {
		listed = append(listed, l.Name)
	}
	refused = map[string]error{}
	for _, n := range names {
		_, asked := h.Info(r.t.Context(), peer, n)
		e, attached := h.Open(r.t.Context(), peer, n)
		if attached == nil {
			e.Detached(nbd.Stats{})
		}
		if (asked == nil) != (attached == nil) {
			r.t.Errorf("%s: INFO gives %v, GO %v", n, asked, attached)
		}
		if attached != nil && !errors.Is(attached, nbd.ErrForbidden) {
			r.t.Errorf("%s: the client sees %v", n, attached)
		}
		refused[n] = attached
	}
	return listed, refused
}

// The Unix socket gave its whole group what an export keeps for some machines, or for TLS,
// and what machines had written.
func TestUnixSocketServesWhatEverybodyMayHave(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	cowName, roName := nameOf("arch", a), nameOf("sealed", a)
	in := func(gen uint64, change func(cow, ro *schema.Export)) provider.Input {
		in := r.input(gen, a)
		change(in.Want.Exports[0], in.Want.Exports[1])
		return in
	}
	r.commit(in(1, func(_, _ *schema.Export) {}))
	listed, refused := r.locally("arch", cowName, "sealed", roName)
	if want := []string{cowName, roName}; !slices.Equal(listed, want) || errors.Join(refused["arch"], refused[cowName], refused[roName]) != nil {
		t.Errorf("open: %v, %v", listed, refused)
	}

	r.commit(in(2, func(cow, ro *schema.Export) {
		cow.Allow = []schema.Addr{hostWS01}
		ro.Allow = []schema.Addr{subnetLAN}
	}))
	listed, refused = r.locally("arch", cowName, "sealed", roName, "nothing")
	if len(listed) != 0 {
		t.Errorf("with allow: %v are listed", listed)
	}
	for n, err := range refused { // by the names of generation 1, too
		if err == nil || (n == "nothing") == strings.Contains(err.Error(), "allow") {
			t.Errorf("with allow: %s: %v", n, err)
		}
	}

	b, _ := r.artifact(2, 1<<20)
	next := r.input(3, b)
	next.Built[imageArch].Artifact.Promoted = true
	r.commit(next)
	listed, refused = r.locally("arch", nameOf("arch", b), "sealed", cowName)
	if len(listed) != 0 {
		t.Errorf("promoted: %v are listed", listed)
	}
	for _, n := range []string{"arch", nameOf("arch", b), "sealed"} {
		if err := refused[n]; err == nil || !strings.Contains(err.Error(), "what a machine wrote") {
			t.Errorf("promoted: %s: %v", n, err)
		}
	}
	if err := refused[cowName]; err == nil || !strings.Contains(err.Error(), "allow") {
		t.Errorf("what was for some is for all, now that its export has another image: %v", err)
	}
}

func TestUnixSocketServesNothingThatNeedsTLS(t *testing.T) {
	r := newRig(t)
	r.tls = &TLS{Usable: func() error { return nil }}
	a, _ := r.artifact(1, 1<<20)
	in := r.input(1, a)
	in.Want.Exports[1].TLS = schema.TLSRequired
	r.commit(in)
	listed, refused := r.locally("arch", "sealed")
	if want := []string{nameOf("arch", a)}; !slices.Equal(listed, want) || refused["arch"] != nil {
		t.Errorf("%v, %v", listed, refused)
	}
	if err := refused["sealed"]; err == nil || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("%v", err)
	}
}
