package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// saved gives the file of a plan of the tip.
func (h *house) saved() []byte {
	h.t.Helper()
	s, err := h.SavePlan(h.t.Context(), "", false)
	if err != nil {
		h.t.Fatal(err)
	}
	b, err := s.Bytes()
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

// held makes a house that serves the second of three commits: the last one is
// refused, so that it does not apply that by itself.
func held(t *testing.T) (h *house, three string) {
	t.Helper()
	h = newHouse(t, nil)
	one := h.repo.commit(fullSite("one"))
	h.run()
	h.reached(one)
	h.reached(h.repo.commit(fullSite("two")))
	three = h.refusing(fullSite("three"))
	return h, three
}

// refusing makes a commit that this machine cannot bring about this once.
func (h *house) refusing(files map[string]string) string {
	h.t.Helper()
	dhcp := h.fakes["dhcp"]
	dhcp.set(func(f *fake) {
		f.onPrepare = func(context.Context, provider.Input) error { return errors.New("not now") }
	})
	rev := h.repo.commit(files)
	h.refused(rev)
	dhcp.set(func(f *fake) { f.onPrepare = nil })
	return rev
}

func TestSavedPlanIsDoneExactly(t *testing.T) {
	h, three := held(t)
	file := h.saved()
	out := outcome(t)(h.Apply(t.Context(), Order{Saved: file, By: store.Actor{Via: store.ViaSocket}}))
	if out.Generation != 3 || out.Revision != three || h.served() != "three" || out.Held != nil {
		t.Errorf("%+v", out)
	}
	s, err := ReadSavedPlan(file)
	if err != nil {
		t.Fatal(err)
	}
	rec := h.current()
	if !rec.SavedPlan || rec.By.Via != store.ViaSocket {
		t.Errorf("%+v", rec)
	}
	lines := h.audit()
	last := lines[len(lines)-1]
	if diff := cmp.Diff(store.AuditChanges(s.Plan), last.Changes); diff != "" || len(last.Changes) == 0 || !last.SavedPlan || last.Result != store.AuditApplied || last.Generation != 3 {
		t.Errorf("what was applied is not what was planned: %s\n%+v", diff, last)
	}

	// Again it is not what would be done.
	again, err := h.Apply(t.Context(), Order{Saved: file})
	if err != nil || again.Failure == nil || again.Failure.Reason != ReasonStale || !strings.Contains(again.Failure.Message, "made against generation 2, but generation 3 is served") {
		t.Errorf("%+v, %v", again, err)
	}
	if h.current().Number != 3 {
		t.Error("the second apply changed something")
	}
}

func TestSavedPlanIsRefusedAfter(t *testing.T) {
	blob := provider.Blob{Digest: "sha256:" + strings.Repeat("ab", 32), Size: 1}
	cases := map[string]struct {
		before func(*house)
		do     func(*house, []byte) []byte // gives the file that is applied
		says   string
	}{
		"a new commit": {
			do:   func(h *house, b []byte) []byte { h.refusing(fullSite("four")); return b },
			says: "the tracked ref was at 000000000000 then",
		},
		"a branch that moved back": {
			do: func(h *house, b []byte) []byte {
				h.repo.move("0000000000000000000000000000000000000002")
				h.polls(1)
				return b
			},
			says: "the tracked ref was at",
		},
		"a rollback": {
			do:   func(h *house, b []byte) []byte { outcome(h.t)(h.Rollback(h.t.Context(), 1, store.Actor{})); return b },
			says: "made against generation 2, but generation 3 is served",
		},
		"a lost file of what is served": {
			before: func(h *house) { h.lay(blob, "x") },
			do:     func(h *house, b []byte) []byte { h.remove(blob); return b },
			says:   "a file of what is served or was built is missing",
		},
		"a written file of what is served": {
			before: func(h *house) { h.lay(blob, "x") },
			do:     func(h *house, b []byte) []byte { h.remove(blob); h.lay(blob, "y"); return b },
			says:   "a file of what is served or was built is missing, damaged",
		},
		"a build": {
			do: func(h *house, b []byte) []byte {
				want, err := ReadSavedPlan(b)
				if err != nil {
					h.t.Fatal(err)
				}
				_, d, err := h.load(h.t.Context(), revision(want.Bound.Revision))
				if err != nil {
					h.t.Fatal(err)
				}
				root, err := h.store.Content().Put(h.t.Context(), strings.NewReader("root"))
				if err != nil {
					h.t.Fatal(err)
				}
				if err := h.store.Content().SetArtifact(provider.Artifact{Recipe: d.Images[0].Recipe, Root: root, Kernel: root, Initrd: root}); err != nil {
					h.t.Fatal(err)
				}
				return b
			},
			says: "damaged or new",
		},
		"another host": {
			do: func(h *house, b []byte) []byte {
				other := newHouse(h.t, nil)
				other.repo.commit(fullSite("one"))
				return other.saved()
			},
			says: "another host made it",
		},
		"a stranger's signature": {
			do: func(h *house, b []byte) []byte {
				s, err := ReadSavedPlan(b)
				if err != nil {
					h.t.Fatal(err)
				}
				stranger, err := newHouse(h.t, nil).store.HostKey()
				if err != nil {
					h.t.Fatal(err)
				}
				key := s.Signature.Key
				if err := s.sign(stranger); err != nil {
					h.t.Fatal(err)
				}
				s.Signature.Key = key
				if b, err = s.Bytes(); err != nil {
					h.t.Fatal(err)
				}
				return b
			},
			says: "its signature does not fit",
		},
		"a plan that was only printed": {
			do: func(h *house, b []byte) []byte {
				s, err := ReadSavedPlan(b)
				if err != nil {
					h.t.Fatal(err)
				}
				if b, err = s.Plan.JSON(); err != nil {
					h.t.Fatal(err)
				}
				return b
			},
			says: "a plan to look at",
		},
		"nothing at all": {
			do:   func(h *house, b []byte) []byte { return []byte{} },
			says: "not what `dlreconcile plan --out FILE` writes",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h, _ := held(t)
			if c.before != nil {
				c.before(h)
			}
			file := c.do(h, h.saved())
			was, serves := h.current().Number, h.served()
			out, err := h.Apply(t.Context(), Order{Saved: file})
			if err != nil || out.Failure == nil || out.Failure.Reason != ReasonStale || out.Failure.Retry || !strings.Contains(out.Failure.Message, c.says) {
				t.Errorf("%+v, %v; want %q", out.Failure, err, c.says)
			}
			if h.current().Number != was || h.served() != serves {
				t.Error("something was applied all the same")
			}
			lines := h.audit()
			if last := lines[len(lines)-1]; last.Result != store.AuditRefused || last.Reason != ReasonStale || len(last.Changes) != 0 || !last.SavedPlan {
				t.Errorf("%+v", last)
			}
		})
	}
}

// A repo that cannot be reached makes no plan stale.
func TestSavedPlanWhileTheRepoIsAway(t *testing.T) {
	h, three := held(t)
	file := h.saved()
	away := errors.New("no route to host")
	h.repo.fail(away)
	// That is this machine's trouble, and says nothing of the plan.
	if out, err := h.Apply(t.Context(), Order{Saved: file}); !errors.Is(err, away) || out.Failure != nil {
		t.Errorf("%+v, %v", out, err)
	}
	h.repo.fail(nil)
	if out := outcome(t)(h.Apply(t.Context(), Order{Saved: file})); out.Revision != three {
		t.Errorf("%+v", out)
	}
}

// A machine that boots, or goes away, makes no plan stale; one that would lose
// something does.
func TestSavedPlanAndMachines(t *testing.T) {
	h, _ := held(t)
	file := h.saved()
	h.nodes.see(plan.Observation{Kind: plan.SawLease, MAC: "52:54:00:00:00:99", Address: "10.0.0.99", Subnet: schema.Addr{Kind: "subnet", Name: "lan"}})
	if bytes.Equal(h.saved(), file) {
		t.Fatal("the machine is in no plan: this proves nothing")
	}
	outcome(t)(h.Apply(t.Context(), Order{Saved: file}))
}

func TestObservedDigestCoversWhatTakes(t *testing.T) {
	h := newHouse(t, nil)
	digest := func(impacts ...plan.Impact) string {
		d, err := h.observedDigest(&schema.Desired{}, &plan.Plan{Changes: []plan.Change{{Address: ws01.Host, Impact: impacts}}})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	boots := plan.Impact{Effect: plan.EffectNextBoot, Machines: []string{"host.ws01"}}
	loses := plan.Impact{Effect: plan.EffectDiscards, Machines: []string{"host.ws01"}}
	more := plan.Impact{Effect: plan.EffectDiscards, Machines: []string{"host.ws01", "host.ws02"}}
	if digest() != digest(boots) || digest(loses) != digest(boots, loses) {
		t.Error("a machine that boots makes a plan stale")
	}
	if digest() == digest(loses) || digest(loses) == digest(more) {
		t.Error("a machine that loses something does not")
	}
}

func TestEssenceKeepsWhatTakes(t *testing.T) {
	host := schema.Addr{Kind: "host", Name: "a"}
	p := &plan.Plan{Warnings: []plan.Warning{{Summary: "w"}}, Changes: []plan.Change{{Address: host, Impact: []plan.Impact{
		{Effect: plan.EffectNextBoot, Machines: []string{"host.a"}}, {Effect: plan.EffectDiscards, Machines: []string{"host.a"}},
		{Effect: plan.EffectKeeps}, {Effect: plan.EffectInterrupts}, {Effect: plan.EffectLive},
	}}}}
	got := essence(p)
	if len(got.Changes[0].Impact) != 2 || got.Changes[0].Impact[0].Effect != plan.EffectDiscards || got.Changes[0].Impact[1].Effect != plan.EffectInterrupts || got.Warnings != nil {
		t.Errorf("%+v", got)
	}
	if len(p.Changes[0].Impact) != 5 || len(p.Warnings) != 1 {
		t.Error("the plan itself was changed")
	}
}

// Values of variables are bound without being told.
func TestSavedPlanAndVariables(t *testing.T) {
	files := site("one")
	files["vars.hcl"] = "variable \"secret\" {\n  sensitive = true\n}\n"
	h := newHouse(t, func(c *Config) { c.Vars = map[string]string{"secret": "hunter2"} })
	h.repo.commit(files)
	file := h.saved()
	if bytes.Contains(file, []byte("hunter2")) {
		t.Errorf("%s", file)
	}
	h.stop()
	h.change = func(c *Config) { c.Vars = map[string]string{"secret": "hunter3"} }
	h.open()
	out, err := h.ApplyOffline(t.Context(), Order{Saved: file}, nil, nil)
	if err != nil || out.Failure == nil || !strings.Contains(out.Failure.Message, "other values of variables") {
		t.Errorf("%+v, %v", out, err)
	}
	h.stop()
	for _, change := range []func(*Config){func(c *Config) { c.Server = "main" }, func(c *Config) { c.Env = "lab" }} {
		h.change = func(c *Config) { c.Vars = map[string]string{"secret": "hunter2"}; change(c) }
		h.open()
		out, err := h.ApplyOffline(t.Context(), Order{Saved: file}, nil, nil)
		if err != nil || out.Failure == nil || out.Failure.Reason != ReasonStale || !strings.Contains(out.Failure.Message, "it was made ") {
			t.Errorf("%+v, %v", out, err)
		}
		h.stop()
	}
	h.change = func(c *Config) { c.Vars = map[string]string{"secret": "hunter2"} }
	h.open()
	outcome(t)(h.ApplyOffline(t.Context(), Order{Saved: file}, nil, nil))
}

// Whatever byte of a file is another one, it is refused, and for the right reason.
func TestSavedPlanEveryByteCounts(t *testing.T) {
	h := newHouse(t, nil)
	h.repo.commit(map[string]string{"site.hcl": "server \"main\" {\n  address = \"10.0.0.1\"\n}\n"})
	file := h.saved()
	key, err := h.store.HostKey()
	if err != nil {
		t.Fatal(err)
	}
	accepted := func(b []byte) bool {
		s, err := ReadSavedPlan(b)
		return err == nil && s.verify(key) == nil
	}
	if !accepted(file) {
		t.Fatal("the file itself is refused")
	}
	for i := range file {
		for _, to := range []byte{file[i] ^ 1, file[i] ^ 0x20, ' ', '\t', '0', 'A'} {
			changed := bytes.Clone(file)
			if changed[i] = to; to != file[i] && accepted(changed) {
				t.Fatalf("byte %d may be %q instead of %q", i, to, file[i])
			}
		}
		if accepted(append(bytes.Clone(file[:i]), file[i+1:]...)) {
			t.Fatalf("byte %d may be missing", i)
		}
		if accepted(append(append(bytes.Clone(file[:i]), ' '), file[i:]...)) {
			t.Fatalf("a space may stand before byte %d", i)
		}
	}
	if accepted(append(bytes.Clone(file), '\n')) || accepted(append(bytes.Clone(file), file...)) {
		t.Error("something may follow")
	}
	var other map[string]any
	if err := json.Unmarshal(file, &other); err != nil {
		t.Fatal(err)
	}
	other["also"] = true
	more, err := canonical(other)
	if err != nil {
		t.Fatal(err)
	}
	if accepted(more) {
		t.Error("something else may be in it")
	}
	out, err := h.ApplyOffline(t.Context(), Order{Saved: more}, nil, nil)
	if err != nil || out.Failure == nil || out.Failure.Reason != ReasonStale {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestSavedPlanIsTheSameBytes(t *testing.T) {
	h, _ := held(t)
	first := h.saved()
	for range 5 {
		if !bytes.Equal(h.saved(), first) {
			t.Fatal("the same plan is other bytes")
		}
	}
}

func FuzzReadSavedPlan(f *testing.F) {
	f.Add([]byte(`{"format_version":1,"plan":{"format_version":1,"changes":[]},"bound":{},"signature":{}}`))
	f.Add([]byte(`{"format_version":1,"changes":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadSavedPlan(b)
		if err != nil {
			return
		}
		if again, err := s.Bytes(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s is read, and is %s", b, again)
		}
	})
}

// lay puts a blob into the store, whatever its digest says.
func (h *house) lay(b provider.Blob, text string) {
	h.t.Helper()
	path, err := h.store.Content().Path(b.Digest)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) remove(b provider.Blob) {
	h.t.Helper()
	if err := h.store.Content().Remove(b.Digest); err != nil {
		h.t.Fatal(err)
	}
}
