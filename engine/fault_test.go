package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// state is what must not change when something goes wrong.
type state struct {
	Served  string
	Kept    []uint64
	Current uint64
	Synced  string
}

func (h *house) state() state {
	h.t.Helper()
	st, err := h.store.State()
	if err != nil {
		h.t.Fatal(err)
	}
	s := state{Served: h.served(), Synced: st.Synced}
	for _, head := range h.store.List() {
		s.Kept = append(s.Kept, head.Number)
	}
	if rec := h.current(); rec != nil {
		s.Current = rec.Number
	}
	return s
}

// Whatever goes wrong in whichever provider: what was served is served on, the
// reason is in the status, those that had prepared are aborted in reverse, and the
// commit that mends it is live at once.
func TestFaults(t *testing.T) {
	order := []string{"image", "export", "bootloader", "dhcp"}
	wrong := hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "No such file", Detail: "There is no motd.", Subject: &hcl.Range{Filename: "site.hcl", Start: hcl.Pos{Line: 3, Column: 5}, End: hcl.Pos{Line: 3, Column: 9}}}}
	faults := []struct {
		name   string
		make   func(*fake)
		reason string
		stage  Phase
		retry  bool
		says   string
		places []string
	}{
		{"error", func(f *fake) {
			f.onPrepare = func(context.Context, provider.Input) error { return errors.New("no space left on device") }
		}, ReasonMachine, PhasePreparing, true, "no space left on device", nil},
		{"timeout of its own", func(f *fake) {
			f.onPrepare = func(context.Context, provider.Input) error { return context.DeadlineExceeded }
		}, ReasonMachine, PhasePreparing, true, "deadline", nil},
		{"cancelled by itself", func(f *fake) {
			f.onPrepare = func(context.Context, provider.Input) error { return context.Canceled }
		}, ReasonMachine, PhasePreparing, true, "canceled", nil},
		{"panic", func(f *fake) {
			f.onPrepare = func(context.Context, provider.Input) error { panic("index out of range") }
		}, ReasonMachine, PhasePreparing, true, "index out of range", nil},
		{"panic in outputs", func(f *fake) {
			f.onOutputs = func() { panic("no outputs") }
		}, ReasonMachine, PhasePreparing, true, "no outputs", nil},
		{"diagnostics", func(f *fake) {
			f.onPrepare = func(context.Context, provider.Input) error { return wrong }
		}, ReasonInvalid, PhasePreparing, false, "No such file", []string{"site.hcl:3,5"}},
		{"observe", func(f *fake) {
			f.onObserve = func() error { return errors.New("cannot look") }
		}, ReasonMachine, PhasePlanning, true, "cannot look", nil},
	}
	for at, name := range order {
		for _, fault := range faults {
			t.Run(name+" "+fault.name, func(t *testing.T) {
				h := newHouse(t, nil)
				good := h.repo.commit(fullSite("good"))
				h.run()
				h.reached(good)
				h.journal.await(t, "retire image", 1)
				before := h.state()
				f := h.fakes[name]
				f.set(fault.make)
				h.journal.take()

				bad := h.repo.commit(fullSite("bad"))
				s := h.refused(bad)
				if s.Failure.Reason != fault.reason || s.Failure.Stage != fault.stage || s.Failure.Retry != fault.retry || !strings.Contains(s.Failure.Message, fault.says) {
					t.Errorf("failure: %+v", s.Failure)
				}
				var places []string
				for _, d := range s.Failure.Diagnostics {
					places = append(places, d.Range.String())
				}
				if diff := cmp.Diff(fault.places, places); diff != "" {
					t.Errorf("diagnostics (-want +got)\n%s", diff)
				}
				if c := condition(t, s, "Ready"); c.Status || c.Message == "" {
					t.Errorf("%+v", c)
				}
				if diff := cmp.Diff(before, h.state()); diff != "" {
					t.Errorf("something changed (-before +after)\n%s", diff)
				}
				if s.Generation != 1 || s.Revision != good || s.Tip != bad || s.Synced != good || s.Attempt != "" || len(s.Progress) != 0 {
					t.Errorf("status: %+v", s)
				}
				var want []string
				if fault.stage == PhasePreparing {
					for _, n := range order[:at+1] {
						want = append(want, "prepare "+n+" 2")
					}
					if fault.name == "panic in outputs" { // it had prepared
						want = append(want, "abort "+name+" 2")
					}
					for i := at - 1; i >= 0; i-- {
						want = append(want, "abort "+order[i]+" 2")
					}
				}
				if diff := cmp.Diff(want, h.journal.take()); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}

				f.set(func(f *fake) { f.onPrepare, f.onOutputs, f.onObserve = nil, nil, nil })
				mended := h.repo.commit(fullSite("mended"))
				s = h.reached(mended)
				if s.Failure != nil || h.served() != "mended" || s.Generation != 2 {
					t.Errorf("after mending: serving %q, %+v", h.served(), s)
				}
			})
		}
	}
}

// A commit that cannot be loaded, or that nothing here serves, is refused with the
// places; so is one whose machines would not boot.
func TestRefusals(t *testing.T) {
	broken := site("bad")
	broken["site.hcl"] += "\nhost \"ws02\" {\n  mac = \"52:54:00:00:00:01\"\n}\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		set   func(*house)
		stage Phase
		at    string
	}{
		{"invalid", broken, nil, PhaseLoading, "site.hcl:"},
		{"unserved kind", fullSite("bad"), func(h *house) { h.fakes["export"].kinds = nil }, PhaseLoading, "site.hcl:"},
		{"would not boot", site("bad"), func(h *house) {
			h.fakes["dhcp"].onAnswer = func(provider.Query, []provider.Answer) []provider.Answer { return nil }
		}, PhaseChecking, "site.hcl:11,1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, nil)
			good := h.repo.commit(site("good"))
			h.run()
			h.reached(good)
			before := h.state()
			if c.set != nil {
				h.fakes["dhcp"].set(func(*fake) { c.set(h) })
			}
			bad := h.repo.commit(c.files)
			f := h.refused(bad).Failure
			if f.Reason != ReasonInvalid || f.Stage != c.stage || f.Retry || len(f.Diagnostics) == 0 || !strings.HasPrefix(f.Diagnostics[0].Range.String(), c.at) {
				t.Errorf("%+v", f)
			}
			if diff := cmp.Diff(before, h.state()); diff != "" {
				t.Errorf("something changed (-before +after)\n%s", diff)
			}
			n := h.fakes["image"].began()
			if h.polls(3); h.fakes["image"].began() != n {
				t.Error("a refused commit is tried again at every poll")
			}
			h.fakes["dhcp"].set(func(f *fake) { f.onAnswer = nil })
			if s := h.reached(h.repo.commit(site("mended"))); s.Failure != nil {
				t.Errorf("still failing: %+v", s.Failure)
			}
		})
	}
}

// A panic of something else than a provider, too, costs only the commit.
func TestPanicInCheck(t *testing.T) {
	h := newHouse(t, nil)
	h.fakes["dhcp"].onAnswer = func(provider.Query, []provider.Answer) []provider.Answer { panic("nil map") }
	bad := h.repo.commit(site("bad"))
	h.run()
	if f := h.refused(bad).Failure; f.Reason != ReasonMachine || f.Stage != PhaseChecking || !strings.Contains(f.Message, "nil map") {
		t.Errorf("%+v", f)
	}
	if got := h.journal.take("prepare"); !cmp.Equal(got, []string{"abort dhcp 1", "abort bootloader 1", "abort export 1", "abort image 1"}) {
		t.Errorf("%q", got)
	}
}

// A failure of the machine's is tried again when its back-off is over, and not at
// every poll before that.
func TestRetryBacksOff(t *testing.T) {
	h := newHouse(t, nil)
	tries := make(chan time.Time, 100)
	h.fakes["image"].onPrepare = func(context.Context, provider.Input) error {
		tries <- time.Now()
		return errors.New("port in use")
	}
	bad := h.repo.commit(site("bad"))
	h.run()
	h.refused(bad)
	if h.polls(5); len(tries) != 1 {
		t.Errorf("tried %d times within the back-off, want 1", len(tries))
	}
	// Release tries at once.
	if out, err := h.Release(t.Context(), "", store.Actor{}); err != nil || out.Failure != nil {
		t.Fatal(out, err)
	}
	<-tries
	<-tries
	h.refused(bad)
	h.stop()

	h.change = func(c *Config) { c.Retry = time.Millisecond }
	h.open()
	left := 5
	h.fakes["image"].onPrepare = func(context.Context, provider.Input) error {
		tries <- time.Now()
		if left--; left >= 0 {
			return errors.New("port in use")
		}
		return nil
	}
	h.run()
	if s := h.reached(bad); s.Failure != nil {
		t.Errorf("%+v", s)
	}
	var at []time.Time
	for range len(tries) {
		at = append(at, <-tries)
	}
	if len(at) != 6 {
		t.Fatalf("tried %d times, want 6", len(at))
	}
	for i, wait := 1, time.Millisecond; i < len(at); i, wait = i+1, 2*wait {
		if d := at[i].Sub(at[i-1]); d < wait {
			t.Errorf("try %d came after %v, want %v at least", i+1, d, wait)
		}
	}
}

// A provider that cannot go on ends the engine, and so does a source that stops
// looking without being asked to.
func TestRunEndsWithItsParts(t *testing.T) {
	t.Run("provider", func(t *testing.T) {
		h := newHouse(t, nil)
		h.fakes["export"].onRun = func(context.Context) error { return errors.New("out of descriptors") }
		if err := h.Engine.Run(t.Context(), nil); err == nil || err.Error() != "export: out of descriptors" {
			t.Error(err)
		}
		if _, err := h.Release(t.Context(), "", store.Actor{}); !errors.Is(err, ErrStopped) {
			t.Errorf("a command after the end: %v", err)
		}
	})
	t.Run("provider that just returns", func(t *testing.T) {
		h := newHouse(t, nil)
		h.fakes["export"].onRun = func(context.Context) error { return nil }
		if err := h.Engine.Run(t.Context(), nil); err == nil {
			t.Error("no error")
		}
	})
	t.Run("source", func(t *testing.T) {
		h := newHouse(t, func(c *Config) { c.Source = deaf{newRepo()} })
		if err := h.Engine.Run(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "repo") {
			t.Error(err)
		}
	})
}

// deaf is a source whose watch ends by itself.
type deaf struct{ *repo }

func (deaf) Run(context.Context, chan<- struct{}) error { return nil }

// reachedOnce commits and runs until the commit is served.
func (h *house) reachedOnce(files map[string]string) string {
	h.t.Helper()
	rev := h.repo.commit(files)
	h.run()
	h.reached(rev)
	return rev
}

// Unused kinds of block are named with their places.
func TestRefuseNamesKinds(t *testing.T) {
	e := New(Config{Providers: []provider.Provider{&fake{kinds: []string{"server", "export.nbd"}}}})
	d := &schema.Desired{Resources: []schema.Resource{
		{Addr: schema.Addr{Kind: "server", Name: "main"}},
		{Addr: schema.Addr{Kind: "export", Type: "nbd", Name: "a"}},
		{Addr: schema.Addr{Kind: "export", Type: "nfs", Name: "b"}, Range: schema.Range{File: "x.hcl", Line: 7, Column: 1}},
	}}
	diags := e.refuse(d)
	if len(diags) != 1 || !strings.Contains(diags[0].Summary, "export.nfs.b") || diags[0].Subject.Start.Line != 7 {
		t.Errorf("%v", diags)
	}
}
