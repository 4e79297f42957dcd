package export

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/nbd"
	"github.com/dlreconcile/dlreconcile/schema"
)

// INFO told who asked all about a disk that GO refused him; and asking is not attaching.
func TestInfoRefusesWhatGoRefuses(t *testing.T) {
	for _, keep := range []schema.Keep{schema.KeepBoot, schema.KeepHost, schema.KeepConnection} {
		t.Run(string(keep), func(t *testing.T) {
			r := newRig(t)
			a, _ := r.artifact(1, 1<<20)
			r.commit(r.keeping(1, a, keep))
			name := nameOf("arch", a)
			info := func(name string) error {
				_, err := handler{r.Provider}.Info(t.Context(), nbd.Peer{Remote: netip.AddrPortFrom(loopback, 1)}, name)
				return err
			}
			both := func(name, when string, refused bool) {
				t.Helper()
				if err := info(name); refused != errors.Is(err, nbd.ErrForbidden) || !refused && err != nil {
					t.Errorf("INFO %s, %s: %v", name, when, err)
				}
				m, err := r.dial(name)
				if refused != errors.Is(err, errRefused) {
					t.Errorf("GO %s, %s: %v", name, when, err)
				}
				if err == nil {
					m.gone(r)
				}
			}
			m := r.mustDial(name + bootA)
			m.write(0, "x")
			for range 2 { // it takes the disk from nobody
				if err := info(name + bootB); err != nil {
					t.Error(err)
				}
				m.wantText(0, "x", "another boot was asked about")
			}
			m.gone(r)
			both(name+bootA, "come back", keep == schema.KeepConnection)
			both(name+bootB, "the next boot", false)
			both(name+bootA, "booted again", true)
			r.restart()
			r.commit(r.keeping(1, a, keep))
			both(name+bootA, "booted again, restarted", true)

			r.clients.edit(loopback, func(c *provider.Client) { c.Session = "s" })
			if keep == schema.KeepHost {
				both(name, "of its session", false)
				return
			}
			m = r.mustDial(name)
			m.write(0, "x")
			if _, err := r.ResetOverlays(t.Context(), ofTestMachine, true); err != nil {
				t.Fatal(err)
			}
			m.gone(r)
			both(name, "taken away", true)
		})
	}
}
