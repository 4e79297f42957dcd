package engine

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// Expand, switch, contract: providers prepare and commit in their order, and retire
// in the reverse one.
func TestOrder(t *testing.T) {
	h := newHouse(t, nil)
	rev := h.repo.commit(fullSite("one"))
	h.run()
	s := h.reached(rev)
	h.journal.await(t, "retire image", 1)
	h.stop()

	want := []string{
		"prepare image 1", "prepare export 1", "prepare bootloader 1", "prepare dhcp 1",
		"commit image 1", "commit export 1", "commit bootloader 1", "commit dhcp 1",
		"retire dhcp", "retire bootloader", "retire export", "retire image",
	}
	if diff := cmp.Diff(want, h.journal.take()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if s.Generation != 1 || s.Revision != rev || s.Tip != rev || s.Failure != nil {
		t.Errorf("status: %+v", s)
	}
	for _, kind := range []string{"Ready", "Synced", "SourceReachable"} {
		if c := condition(t, s, kind); !c.Status {
			t.Errorf("%+v", c)
		}
	}
}

// Each provider sees the outputs of those before it, the files and the plan.
func TestInputs(t *testing.T) {
	h := newHouse(t, nil)
	rev := h.repo.commit(fullSite("one"))
	h.run()
	h.reached(rev)
	for name, built := range map[string]int{"image": 0, "export": 1, "bootloader": 2, "dhcp": 3} {
		in := h.fakes[name].inputs[0]
		if len(in.Built) != built {
			t.Errorf("%s got %d outputs, want %d: %v", name, len(in.Built), built, in.Built)
		}
		if in.Offline || in.Retained || in.Files == nil || in.Plan == nil || in.Plan.Summary.Create != 7 {
			t.Errorf("%s: %+v", name, in)
		}
	}
}

// The record holds what serving the generation again needs, and a start hands it to
// the providers, without a build.
func TestRecordAndReplay(t *testing.T) {
	h := newHouse(t, nil)
	rev := h.repo.commit(fullSite("one"))
	h.run()
	h.reached(rev)
	rec := h.current()
	in := h.fakes["dhcp"].inputs[0]
	h.journal.await(t, "retire image", 1)
	if rec.Number != 1 || rec.Revision != rev || rec.Trigger != store.TriggerCommit || rec.Subject != "commit 1" || rec.Author == "" || !rec.Created.Equal(h.clock.now()) {
		t.Errorf("record: %+v", rec)
	}
	if len(rec.Artifacts) != 1 || len(rec.Exports) != 1 || len(rec.Trees) != 1 || len(rec.Blobs) != 1 || len(rec.Bases) != 1 {
		t.Errorf("record: %+v", rec)
	}
	if diff := cmp.Diff(in.Plan, rec.Plan); diff != "" {
		t.Errorf("what is recorded is not what was applied (-applied +recorded)\n%s", diff)
	}

	h.repo.away()
	h.journal.take()
	h.restart()
	if got := h.journal.take(); len(got) < 4 || !slices.Equal(got[:4], []string{"prepare image 1 offline", "prepare export 1 offline", "prepare bootloader 1 offline", "prepare dhcp 1 offline"}) {
		t.Errorf("start: %q", got)
	}
	again := h.fakes["dhcp"].inputs[0]
	if again.Files != nil || again.Plan != nil {
		t.Errorf("a start hands out files or a plan: %+v", again)
	}
	if diff := cmp.Diff(rec.Artifacts, again.Artifacts); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(rec.Blobs, again.Blobs); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(in.Built, again.Built, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("outputs differ after a start (-before +after)\n%s", diff)
	}
	if h.served() != "one" {
		t.Errorf("serving %q", h.served())
	}
}

// retired waits until the n-th retiring, and the collection that goes with it, is
// over.
func (h *house) retired(n int) {
	h.t.Helper()
	h.journal.await(h.t, "retire image", n)
	h.polls(1) // the loop does one thing after the other
}

// While machines are settling every generation from before the start is live; of later
// ones, and afterwards of all, the newest and those that somebody is pinned to. Then
// the store is collected.
func TestRetireSettlesFirst(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Keep = 1 })
	h.run()
	retired := 0
	settled := func() { // what comes after an attempt has come
		retired++
		h.journal.await(t, "retire image", retired)
		h.polls(1) // the loop is done with it
	}
	step := func(text string) {
		h.reached(h.repo.commit(site(text)))
		settled()
	}
	step("one")
	step("two")
	h.nodes.pin(2)
	h.restart()
	settled() // the first look compares
	step("three")
	step("four")
	h.clock.advance(16 * time.Minute)
	step("five")
	h.clock.advance(collectEvery)
	step("six")
	h.stop()

	lives := h.fakes["dhcp"].live
	lives = lives[len(lives)-3:]
	if diff := cmp.Diff(map[uint64]bool{1: true, 2: true, 4: true}, lives[0]); diff != "" {
		t.Errorf("while settling (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(map[uint64]bool{2: true, 5: true}, lives[1]); diff != "" {
		t.Errorf("settled (-want +got)\n%s", diff)
	}
	if h.servedBy(2) != "two" || h.servedBy(3) != "" || h.served() != "six" {
		t.Errorf("serving %q, %q, %q", h.servedBy(2), h.servedBy(3), h.served())
	}
	s, err := store.OpenReadOnly(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	var kept []uint64
	for _, head := range s.List() {
		kept = append(kept, head.Number)
	}
	if diff := cmp.Diff([]uint64{2, 6}, kept); diff != "" {
		t.Errorf("records kept (-want +got)\n%s", diff)
	}
}

// What an open connection or an overlay stands on is not collected.
func TestRoots(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Keep = 1 })
	h.run()
	h.reached(h.repo.commit(site("one")))
	h.fakes["export"].set(func(f *fake) {
		f.seen = []plan.Observation{{Kind: plan.SawConnection, Generation: 1, Artifact: "sha256:77"}}
	})
	h.retired(1)
	h.clock.advance(16 * time.Minute)
	h.reached(h.repo.commit(site("two")))
	h.retired(2)
	h.clock.advance(collectEvery)
	h.reached(h.repo.commit(site("three")))
	h.retired(3)
	h.stop()
	s, err := store.OpenReadOnly(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(1); err != nil {
		t.Errorf("the generation of an open connection is gone: %v", err)
	}
	if _, err := s.Get(2); err == nil {
		t.Error("a generation that nobody needs is still there")
	}
}

// The image below a disk whose record could not be read was collected.
func TestNothingIsCollectedBesideWhatCannotBeRead(t *testing.T) {
	var log strings.Builder
	h := newHouse(t, func(c *Config) {
		c.Keep, c.Log = 1, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))
	})
	h.run()
	unread := func(err error) { h.fakes["export"].set(func(f *fake) { f.unread = err }) }
	unread(errors.New("one disk"))
	h.reached(h.repo.commit(site("one")))
	h.retired(1)
	if s, _ := h.Status(); s.Uncollected != "" {
		t.Errorf("before anything is collected: %q", s.Uncollected)
	}
	lost, err := h.store.Content().Put(t.Context(), strings.NewReader("below the disk"))
	if err != nil {
		t.Fatal(err)
	}
	h.clock.advance(max(0, time.Since(h.clock.now()))) // the file is of now, whatever the test's clock has
	there := func() bool {
		f, err := h.store.Content().Open(lost)
		if err == nil {
			f.Close()
		}
		return err == nil
	}
	retired := 1
	step := func(text string) {
		h.clock.advance(2 * time.Hour)
		h.reached(h.repo.commit(site(text)))
		retired++
		h.retired(retired)
	}
	for _, text := range []string{"two", "three"} {
		step(text)
		s, _ := h.Status()
		if !there() || s.Uncollected != "no artifacts are removed: one disk" {
			t.Errorf("%s: it is there: %t; the status has %q", text, there(), s.Uncollected)
		}
		for _, c := range s.Conditions {
			if want := c.Type != ConditionHealthy; c.Status != want {
				t.Errorf("%s: %+v", text, c)
			}
		}
	}
	unread(nil) // it was discarded
	step("four")
	if s, _ := h.Status(); there() || s.Uncollected != "" {
		t.Errorf("it is there: %t; the status has %q", there(), s.Uncollected)
	}
	h.stop()
	if n := strings.Count(log.String(), "one disk"); n != 1 {
		t.Errorf("told %d times:\n%s", n, log.String())
	}
}
