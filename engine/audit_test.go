package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// What the audit log says was applied is what differs between the two generations,
// found without a plan: all of it, and besides that only what follows from it.
func TestAuditIsWhatChanged(t *testing.T) {
	h := newHouse(t, nil)
	files := fullSite("one")
	host := func(n string) string {
		return fmt.Sprintf("host %q {\n  mac     = \"52:54:00:00:00:%s\"\n  address = \"10.0.0.%s\"\n}\n", "ws"+n, n, n)
	}
	files["more.hcl"] = host("22")
	h.repo.commit(files)
	outcome(t)(h.ApplyOffline(t.Context(), Order{}, nil, nil))
	files = fullSite("two")
	files["motd"] = "another\n"
	files["more.hcl"] = host("23")
	h.repo.commit(files)
	file := h.saved()
	before := h.Desired()
	outcome(t)(h.ApplyOffline(t.Context(), Order{Saved: file}, nil, nil))
	was, is := map[schema.Addr]schema.Resource{}, map[schema.Addr]schema.Resource{}
	for _, r := range before.Resources {
		was[r.Addr] = r
	}
	for _, r := range h.Desired().Resources {
		is[r.Addr] = r
	}
	said := map[schema.Addr]plan.Action{}
	lines := h.audit()
	for _, ch := range lines[len(lines)-1].Changes {
		said[ch.Address] = ch.Action
	}
	follows := map[schema.Addr]bool{}
	for _, ch := range h.current().Plan.Changes {
		follows[ch.Address] = ch.Reason == plan.InputChanged || ch.Address.Kind == "image" // by its recipe
	}
	values := func(r schema.Resource) (list []string) {
		for _, at := range r.Attrs {
			list = append(list, at.Name+"="+at.Value)
		}
		return list
	}
	for a, r := range is {
		old, had := was[a]
		switch same := had && cmp.Equal(values(old), values(r)); {
		case !had && said[a] != plan.Create, had && !same && said[a] != plan.Update, same && said[a] != "" && !follows[a]:
			t.Errorf("%s: the log says %q", a, said[a])
		}
	}
	for a := range was {
		if _, ok := is[a]; !ok && said[a] != plan.Delete {
			t.Errorf("%s: the log says %q, and it is gone", a, said[a])
		}
	}
	for a := range said {
		if _, ok := is[a]; !ok && said[a] != plan.Delete {
			t.Errorf("%s: the log says %q, and there is none", a, said[a])
		}
	}
	if said[schema.Addr{Kind: "host", Name: "ws23"}] != plan.Create || said[schema.Addr{Kind: "host", Name: "ws22"}] != plan.Delete || len(said) < 4 {
		t.Errorf("%v", said)
	}
}

// A log that cannot be written stops nothing, and is told.
func TestAuditThatCannotBeWritten(t *testing.T) {
	h := newHouse(t, nil)
	if err := os.Mkdir(filepath.Join(h.dir, "audit.ndjson"), 0o755); err != nil {
		t.Fatal(err)
	}
	one := h.repo.commit(site("one"))
	h.run()
	h.reached(one)
	if s := h.wait("trouble", func(s Status) bool { return s.ServeError != "" }); !strings.Contains(s.ServeError, "audit log") || h.served() != "one" {
		t.Errorf("%+v", s)
	}
}

// A line that found no room is written before the next one, or by the next start.
func TestAuditLineIsNotLost(t *testing.T) {
	for _, restart := range []bool{false, true} {
		h := newHouse(t, nil)
		h.reachedOnce(site("one"))
		// In the place of a full disk.
		path := filepath.Join(h.dir, "audit.ndjson")
		full := func(is bool) {
			from, to := path, path+".away"
			if !is {
				from, to = to, path
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
			if is {
				if err := os.Mkdir(path, 0o755); err != nil {
					t.Fatal(err)
				}
			}
		}
		full(true)
		h.reached(h.repo.commit(site("two")))
		bad := h.repo.commit(map[string]string{"site.hcl": "nonsense {}"})
		h.refused(bad)
		full(false)
		want := []string{"1 applied", "2 applied", "2 refused", "2 unchanged"}
		if restart {
			h.stop()
			h.open()
			h.run()
			h.refused(bad)
			want = []string{"1 applied", "2 applied recovered", "2 unchanged"} // it is not tried again
		}
		if out := outcome(t)(h.Apply(t.Context(), Order{Revision: strings.Repeat("0", 39) + "2"})); out.Generation != 2 {
			t.Errorf("%+v", out)
		}
		var got []string
		for _, e := range h.audit() {
			line := fmt.Sprintf("%d %s", e.Generation, e.Result)
			if e.Recovered {
				line += " recovered"
			}
			got = append(got, line)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("restart %v: (-want +got)\n%s", restart, diff)
		}
		if h.auditErr != nil {
			t.Error(h.auditErr)
		}
		h.stop()
	}
}

// Lines that wait for a disk do not fill the memory, and those of what was applied
// are kept longest.
func TestUnwrittenAuditIsBounded(t *testing.T) {
	h := newHouse(t, nil)
	if err := os.Mkdir(filepath.Join(h.dir, "audit.ndjson"), 0o755); err != nil {
		t.Fatal(err)
	}
	for n := range uint64(2 * mostUnwritten) {
		e := store.AuditEntry{Trigger: store.TriggerCommit, Generation: n, Result: store.AuditRefused}
		if n%4 == 0 {
			e.Result = store.AuditApplied
		}
		if h.writeAudit(e, nil) == nil || h.auditErr == nil {
			t.Fatal("a folder was written to")
		}
	}
	var applied int
	for _, e := range h.unwritten {
		if e.Result == store.AuditApplied {
			applied++
		}
	}
	if len(h.unwritten) != mostUnwritten || applied != mostUnwritten/2 {
		t.Errorf("%d, %d of them of what was applied", len(h.unwritten), applied)
	}
}

// audit reads the audit log.
func (h *house) audit() []store.AuditEntry {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, "audit.ndjson"))
	if err != nil {
		h.t.Fatal(err)
	}
	var out []store.AuditEntry
	for line := range strings.Lines(string(b)) {
		var e store.AuditEntry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			h.t.Fatalf("%s: %v", line, err)
		}
		out = append(out, e)
	}
	return out
}

// Orders that make no generation are written down too, with whose they were.
func TestOrdersAreAudited(t *testing.T) {
	told := &notes{}
	h := newHouse(t, func(c *Config) { c.Notes = told })
	h.reachedOnce(site("one"))
	h.reached(h.repo.commit(site("two")))
	uid := uint32(1000)
	by := store.Actor{Via: store.ViaSocket, UID: &uid}
	outcome(t)(h.Rollback(t.Context(), 1, by))
	outcome(t)(h.Suspend(t.Context(), SuspendOrder{Hosts: []string{"ws01"}, Reason: "a talk", By: by}))
	outcome(t)(h.Resume(t.Context(), []string{"ws01"}, by))
	if out, err := h.Confirm(t.Context(), 0, by); err != nil || out.Failure == nil {
		t.Errorf("%+v, %v", out, err)
	}
	outcome(t)(h.Release(t.Context(), "", by))
	h.wait("the second again", func(s Status) bool { return s.Generation == 4 && s.Phase == PhaseIdle })
	var got []string
	for _, e := range h.audit()[2:] {
		who := e.Who.Via
		if e.Who.UID != nil {
			who = fmt.Sprint(*e.Who.UID)
		}
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s", who, e.Trigger, e.Result, e.Reason, strings.Join(e.Hosts, " "))))
	}
	want := []string{"1000 rollback applied", "1000 suspend done  host.ws01", "1000 resume done  host.ws01", "1000 confirm refused stale", "1000 release done", "daemon commit applied"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	kinds := strings.Join(told.take(), "\n")
	for _, kind := range []string{"suspended", "resumed", "released"} {
		if !strings.Contains("\n"+kinds, "\n"+kind) {
			t.Errorf("%s is not told:\n%s", kind, kinds)
		}
	}
	r, err := h.store.VerifyAudit("")
	if err != nil || r.Wrong != nil || r.Lines != 8 {
		t.Errorf("%+v, %v", r, err)
	}
}

// An attempt that the end of the process cut off has one line, whatever cuts off the
// starts that follow.
func TestInterruptedAttemptIsAudited(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	a := store.Attempt{Generation: 2, Base: 1, Trigger: store.TriggerCommit, Revision: strings.Repeat("c", 40), Began: h.clock.now().UTC()}
	if err := h.store.Begin(a); err != nil {
		t.Fatal(err)
	}
	lines := func() (list []store.AuditEntry) {
		for _, e := range h.audit() {
			if e.Result == store.AuditInterrupted {
				list = append(list, e)
			}
		}
		return list
	}
	for when := range 3 {
		h.restart()
		list := lines()
		if len(list) != 1 {
			t.Fatalf("start %d: %+v", when, list)
		}
		e := list[0]
		if e.Revision != a.Revision || e.Trigger != a.Trigger || e.Generation != 1 || !e.Time.Equal(a.Began) || !e.Recovered || !strings.Contains(e.Message, "generation 2") {
			t.Errorf("%+v", e)
		}
		if when == 0 { // as if it had died before the journal knew
			if err := h.store.Begin(a); err != nil {
				t.Fatal(err)
			}
		}
	}
	if r, err := h.store.VerifyAudit(""); err != nil || r.Wrong != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// blockAudit makes the log unwritable, and gives it back.
func (h *house) blockAudit() (giveBack func()) {
	h.t.Helper()
	path := filepath.Join(h.dir, "audit.ndjson")
	if err := os.Rename(path, path+".away"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		h.t.Fatal(err)
	}
	return func() {
		h.t.Helper()
		if err := os.Remove(path); err != nil {
			h.t.Fatal(err)
		}
		if err := os.Rename(path+".away", path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			h.t.Fatal(err)
		}
	}
}

// linesOf gives "RESULT TIME" of each line about a revision, by when its attempt began.
func (h *house) linesOf(revision string) (list []string) {
	h.t.Helper()
	for _, e := range h.audit() {
		if e.Revision == revision {
			list = append(list, e.Result+" "+e.Began.Format("15:04"))
		}
	}
	return list
}

// failsToPrepare has every attempt begin and come to nothing.
func (h *house) failsToPrepare() {
	h.fakes["image"].set(func(f *fake) {
		f.onPrepare = func(_ context.Context, in provider.Input) error {
			if in.Offline {
				return nil
			}
			return errors.New("no room")
		}
	})
}

// An attempt whose line was not written when the process ended has one after the next
// start, whatever else began at the same number since.
func TestEveryAttemptHasOneLine(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	h.repo.mu.Lock()
	bad := h.repo.add(site("bad"))
	h.repo.mu.Unlock()
	start := func() {
		t.Helper()
		h.stop()
		h.open()
		h.failsToPrepare()
		if err := h.start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	try := func() {
		t.Helper()
		h.clock.advance(time.Hour)
		out := h.attempt(t.Context(), job{trigger: store.TriggerCommit, rev: revision(bad)}).settle()
		if out.Failure == nil || !strings.Contains(out.Failure.Message, "no room") {
			t.Fatalf("%+v", out)
		}
	}
	giveBack := h.blockAudit()
	start()
	try() // 13:00
	start()
	try() // 14:00; the start could not write the one before down, and this one has its number
	start()
	giveBack()
	try() // 15:00
	want := []string{"interrupted 13:00", "interrupted 14:00", "refused 15:00"}
	has := func() {
		t.Helper()
		if got := h.linesOf(bad); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	has()
	start()
	has()

	// In one process: what could not be written is, and is over then.
	giveBack = h.blockAudit()
	try() // 16:00
	try()
	giveBack()
	try() // 18:00
	want = append(want, "refused 16:00", "refused 17:00", "refused 18:00")
	has()
	start()
	has()
	if n := len(h.store.Unfinished()); n != 0 {
		t.Errorf("%d attempts are open in the journal", n)
	}
}

// The end of the process between an attempt's line and the journal's does not give it
// another one.
func TestRefusedAttemptIsNotInterruptedToo(t *testing.T) {
	h := newHouse(t, nil)
	h.reachedOnce(site("one"))
	rev := strings.Repeat("c", 40)
	a := store.Attempt{Generation: 2, Base: 1, Trigger: store.TriggerCommit, Revision: rev, Began: h.clock.now().UTC()}
	line := store.AuditEntry{Time: a.Began.Add(time.Second), Began: a.Began, Trigger: a.Trigger, Revision: rev, Generation: 1, Result: store.AuditRefused}
	if err := errors.Join(h.store.Begin(a), h.store.Audit(line)); err != nil {
		t.Fatal(err)
	}
	h.restart()
	if got := h.linesOf(rev); !slices.Equal(got, []string{"refused 12:00"}) {
		t.Errorf("%q", got)
	}
	h.restart()
	if n := len(h.store.Unfinished()); n != 0 {
		t.Errorf("%d attempts are open in the journal", n)
	}
}

// The very first attempt, too, and where nothing runs.
func TestFirstAttemptIsAuditedWithoutADaemon(t *testing.T) {
	h := newHouse(t, nil)
	rev := strings.Repeat("c", 40)
	if err := h.store.Begin(store.Attempt{Generation: 1, Trigger: store.TriggerApply, Revision: rev, Began: h.clock.now()}); err != nil {
		t.Fatal(err)
	}
	h.stop()
	h.open()
	h.clock.advance(time.Hour)
	h.repo.commit(site("one"))
	outcome(t)(h.ApplyOffline(t.Context(), Order{}, nil, nil))
	if got := h.linesOf(rev); !slices.Equal(got, []string{"interrupted 12:00"}) {
		t.Errorf("%q", got)
	}
}
