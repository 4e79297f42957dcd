package export

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/schema"
)

// A client that names no boot comes back at once, with its file system still mounted: it
// got a fresh disk under it.
func TestResetUnderAForeignClient(t *testing.T) {
	for _, keep := range []schema.Keep{schema.KeepBoot, schema.KeepHost, schema.KeepConnection} {
		for _, begins := range []string{"", "begun by attaching", "its boot"} {
			t.Run(string(keep)+" "+begins, func(t *testing.T) {
				r := newRig(t)
				a, sealed := r.artifact(1, 1<<20)
				r.commit(r.keeping(1, a, keep))
				name := nameOf("arch", a)
				var seen atomic.Bool // whether attaching begins a session
				seen.Store(true)
				session := func(s string) { r.clients.edit(loopback, func(c *provider.Client) { c.Session = s }) }
				switch begins {
				case "":
				case "its boot":
					session(begins)
				default:
					r.events.onEvent(func(e provider.Event) {
						if e.Kind == provider.EventAttach && seen.Load() {
							session(begins)
						}
					})
				}
				m := r.mustDial(name)
				other := r.mustDial(name) // they share, or have one each
				m.write(0, "written")
				list, err := r.ResetOverlays(t.Context(), ofTestMachine, true)
				if err != nil || len(list) == 0 || !list[0].Refused {
					t.Fatalf("%+v, %v", list, err)
				}
				m.wantDropped("by force")
				other.wantDropped("by force")
				r.wantData(0, "discarded")
				r.wantDenied(name, "image reset")
				session("") // forgotten
				r.wantDenied(name, "image reset")
				r.restart()
				r.commit(r.keeping(1, a, keep))
				r.wantDenied(name, "image reset")
				r.ahead.Store(int64(3 * goneAfter)) // and it asks until it gets one
				r.retire()
				r.wantData(0, "discarded")
				r.wantDenied(name, "image reset")
				if list, err := r.DiffOverlays(t.Context(), ofTestMachine, false); err != nil || len(list) == 0 || !list[0].Refused || list[0].Limit != 0 {
					t.Errorf("%+v, %v", list, err)
				}
				if _, err := r.PromoteOverlay(t.Context(), ofTestMachine, false); !errors.Is(err, provider.ErrNoOverlay) {
					t.Errorf("%v", err)
				}
				// It was switched off, the operator says.
				if list, err := r.ResetOverlays(t.Context(), ofTestMachine, false); err != nil || len(list) == 0 || list[0].Refused {
					t.Errorf("%+v, %v", list, err)
				}
				m = r.mustDial(name)
				m.wantText(0, string(sealed[:7]), "asked once more")
				m.write(0, "again")
				if _, err := r.ResetOverlays(t.Context(), ofTestMachine, true); err != nil {
					t.Fatal(err)
				}
				m.wantDropped("by force")
				seen.Store(false)
				session("the next boot")
				m = r.mustDial(name)
				m.wantText(0, string(sealed[:7]), "it was seen booting")
				session("")
				m.write(0, "and again")
				if keep != schema.KeepConnection {
					r.mustDial(name).wantText(0, "and again", "the next boot's, and the session is forgotten")
				}
				if list := r.Overlays(ofTestMachine); len(list) != 1 || list[0].Refused {
					t.Errorf("%+v", list)
				}
			})
		}
	}
}

// A client that names no boot has lost its connection, and will be back with its file
// system mounted: it was not attached just then, and got a fresh disk.
func TestResetBetweenTwoConnections(t *testing.T) {
	for _, keep := range []schema.Keep{schema.KeepBoot, schema.KeepHost} {
		t.Run(string(keep), func(t *testing.T) {
			r := newRig(t)
			a, sealed := r.artifact(1, 1<<20)
			r.commit(r.keeping(1, a, keep))
			name := nameOf("arch", a)
			reset := func(refused bool) {
				t.Helper()
				if list, err := r.DiffOverlays(t.Context(), ofTestMachine, false); err != nil || len(list) != 1 || list[0].RefusedAfter != refused {
					t.Errorf("before it is asked for: %+v, %v, want %t", list, err, refused)
				}
				if list, err := r.ResetOverlays(t.Context(), ofTestMachine, false); err != nil || len(list) != 1 || list[0].Refused != refused {
					t.Fatalf("%+v, %v, want refused %t", list, err, refused)
				}
			}
			begin := func() {
				t.Helper()
				m := r.mustDial(name)
				m.wantText(0, string(sealed[:7]), "a fresh one")
				m.write(0, "written")
				m.gone(r)
			}
			begin()
			reset(true)
			r.wantDenied(name, "image reset")
			reset(false) // it is switched off
			begin()
			r.ahead.Add(int64(comesBack)) // the daemon was off as long: nobody could come back
			r.restart()
			r.commit(r.keeping(1, a, keep))
			reset(true)
			r.wantDenied(name, "image reset")
			reset(false)
			begin()
			r.ahead.Add(int64(comesBack))
			reset(false) // nobody came
			m := r.mustDial(name)
			m.wantText(0, string(sealed[:7]), "it was away")
			m.gone(r)
			reset(true)
			reset(false)
			named := r.mustDial(name + bootA)
			named.write(0, "written")
			named.gone(r)
			reset(false) // who names a boot is told apart by it
		})
	}
}

// A crash while a connection is waited for brought the old disk back.
func TestResetIsOnDiskBeforeItWaits(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.keeping(1, a, schema.KeepHost))
	name := nameOf("arch", a)
	m := r.mustDial(name + bootA)
	m.write(0, "written")
	m.gone(r)
	ctx, cancel := context.WithCancelCause(t.Context())
	stuck := &attachment{key: r.listed(ofTestMachine)[0].key, done: make(chan struct{})}
	saved := false
	stuck.drop = sync.OnceFunc(func() {
		other, err := cow.OpenStore(r.state+"/overlays", cow.Config{}) // as the next process would
		if err != nil {
			t.Error(err)
			return
		}
		rec, ok := other.Lookup(stuck.key)
		saved = !ok || rec.Retired
		cancel(errors.New("it takes too long"))
	})
	r.mu.Lock()
	r.conns[stuck] = struct{}{}
	r.mu.Unlock()
	_, err := r.ResetOverlays(ctx, ofTestMachine, true)
	if err == nil || !strings.Contains(err.Error(), "they are discarded") || !strings.Contains(err.Error(), "it takes too long") {
		t.Errorf("%v", err)
	}
	if !saved {
		t.Error("its connection was dropped, and a crash would have brought the disk back")
	}
	r.mu.Lock()
	delete(r.conns, stuck)
	r.mu.Unlock()
	r.restart()
	r.commit(r.keeping(1, a, schema.KeepHost))
	r.wantRefused(name+bootA, "its disk is gone")
	r.wantData(0, "discarded")
}
