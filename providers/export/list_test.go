package export

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/nbd"
	"github.com/dlreconcile/dlreconcile/schema"
)

// wantListed fails unless those exports are listed, and each can be asked about.
func (r *rig) wantListed(when string, names ...string) {
	r.t.Helper()
	h, peer := handler{r.Provider}, nbd.Peer{Remote: netip.AddrPortFrom(loopback, 1)}
	var got []string
	for _, l := range h.List(r.t.Context(), peer) {
		got = append(got, l.Name)
		if _, err := h.Info(r.t.Context(), peer, l.Name); err != nil {
			r.t.Errorf("%s: %s is listed, and refused: %v", when, l.Name, err)
		}
	}
	if !slices.Equal(got, names) {
		r.t.Errorf("%s: %q, want %q", when, got, names)
	}
}

// What INFO and GO would refuse was listed, and a client that asks about all that is
// listed failed.
func TestListLeavesOutWhatIsRefused(t *testing.T) {
	for _, keep := range []schema.Keep{schema.KeepHost, ""} { // "": read-write
		r := newRig(t)
		a, _ := r.artifact(1, 1<<20)
		in := r.keeping(1, a, keep)
		if keep == "" {
			in.Want.Exports[0].Mode, in.Want.Exports[0].Allow = schema.ReadWrite, []schema.Addr{hostWS01}
		}
		r.commit(in)
		name, sealed := nameOf("arch", a), nameOf("sealed", a)
		r.wantListed("at first", name, sealed)
		if got := r.Overlays(provider.OverlayQuery{}); len(got) != 0 {
			t.Errorf("listing made %+v", got)
		}
		for _, boot := range []string{bootA, bootB} {
			m := r.mustDial(name + boot)
			m.write(0, "written")
			r.wantListed("attached", sealed)
			r.wantDenied(name, "attached in a boot of its own")
			m.gone(r)
		}
		r.wantListed("of a boot that may come back", sealed)
		r.wantDenied(name, "not attached")
		r.wantDenied(name, "image reset")
		if _, err := r.ResetOverlays(t.Context(), ofTestMachine, true); err != nil {
			t.Fatal(err)
		}
		r.wantListed("discarded", name, sealed)
	}
}

// Nobody asks for what he lists: a disk that cannot be read is not taken for attached.
func TestListAsksForNothing(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	in := r.keeping(1, a, schema.KeepHost)
	r.commit(in)
	m := r.mustDial(nameOf("arch", a))
	m.write(0, "written")
	m.gone(r)
	r.spoil(in)
	h := handler{r.Provider}
	if l := h.List(t.Context(), nbd.Peer{Remote: netip.AddrPortFrom(loopback, 1)}); len(l) != 1 || l[0].Name != nameOf("sealed", a) {
		t.Errorf("%+v", l)
	}
	if got := r.unread(); len(got.Attached) != 0 || len(r.asks) != 0 {
		t.Errorf("%+v is taken for attached: %v", got, r.asks)
	}
	r.wantDenied(nameOf("arch", a), "meta.json: unexpected end of JSON input")
}
