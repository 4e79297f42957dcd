package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// sampleRecord is a record with everything in it; n makes it differ.
func sampleRecord(n int) *Record {
	return &Record{
		Revision: fmt.Sprintf("%040x", n), Subject: fmt.Sprintf("change %d <&>", n), Author: "A <a@example.org>",
		Trigger: TriggerCommit, Created: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		Files: Files{
			"site.hcl": fmt.Appendf(nil, "# %d\n<tag> & \u2028\n", n), "empty": {}, "d/raw.bin": {0xff, 0xfe, byte(n)},
			"hosts.csv": []byte(strings.Repeat("02:00:00:00:00:01,ws01\n", largeFile/20)),
		},
		Digests:   []schema.File{{Path: "root.tar", Digest: "sha256:" + strings.Repeat("ab", 32), Size: 7}},
		Variables: map[string]string{"site": `"berlin"`}, Given: []string{"password"}, Env: "lab",
		Bases:   []string{"sha256:" + strings.Repeat("cd", 32)},
		Trees:   []TreeRef{{Host: schema.Addr{Kind: "host", Name: "ws", Key: "ws01"}, Subnet: schema.Addr{Kind: "subnet", Name: "lan"}, ID: "abc"}},
		Exports: map[schema.Addr]string{{Kind: "export", Type: "nbd", Name: "a"}: "a@0123456789ab"},
		Plan:    &plan.Plan{FormatVersion: 1, Summary: plan.Summary{Create: n}},
	}
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	if _, ok, err := s.Current(); ok || err != nil || len(s.List()) != 0 {
		t.Fatalf("an empty directory: %v %v %v", ok, err, s.List())
	}
	first, second := sampleRecord(1), sampleRecord(2)
	second.Held = &Held{Revision: "bad", Reason: "rolled back", Since: first.Created}
	second.RolledBackTo, second.Trigger = 1, TriggerRollback
	mustRecord(t, s, first)
	if n, err := s.Next(); n != 2 || err != nil {
		t.Fatalf("next is %d, %v", n, err)
	}
	mustRecord(t, s, second)
	if first.Number != 1 || second.Number != 2 || second.Parent != 1 {
		t.Fatalf("numbers %d, %d and parent %d", first.Number, second.Number, second.Parent)
	}
	check := func(s *Store) {
		t.Helper()
		for _, want := range []*Record{first, second} {
			got, err := s.Get(want.Number)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		if diff := cmp.Diff(second, mustCurrent(t, s)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]Header{first.Header(), second.Header()}, s.List()); diff != "" {
			t.Error(diff)
		}
		st, err := s.State()
		if diff := cmp.Diff(State{Held: second.Held, Synced: second.Revision}, st); diff != "" || err != nil {
			t.Error(diff, err)
		}
		if _, err := s.Get(3); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a generation that is not there: %v", err)
		}
		if err := s.Damage(); err != nil {
			t.Error(err)
		}
	}
	check(s)
	ro, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	check(ro)
	for what, err := range map[string]error{
		"Record": ro.Record(sampleRecord(3)), "UpdateState": ro.UpdateState(func(*State) {}), "GC": second2(ro.GC(t.Context(), Roots{})),
	} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s of a directory opened for reading: %v", what, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(mustOpen(t, dir, Options{}))
	if _, err := OpenReadOnly(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
	// Large files are shared between generations, not repeated.
	blobs := 0
	if err := s.Content().Each(func(provider.Blob) error { blobs++; return nil }); err != nil || blobs != 1 {
		t.Errorf("%d blobs, %v; want the one large file", blobs, err)
	}
	// Text stays readable in the file.
	if b, err := os.ReadFile(s.recordPath(1)); err != nil || !strings.Contains(string(b), "change 1 ") {
		t.Errorf("%s, %v", b, err)
	}
}

func second2[T any](_ T, err error) error { return err }

func TestRecordOverTheWire(t *testing.T) {
	want := sampleRecord(1)
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Record
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, &got); diff != "" {
		t.Fatal(diff)
	}
}

func TestRecordRefusesTheWrongTurn(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	mustRecord(t, s, sampleRecord(1))
	rec := sampleRecord(2)
	rec.Number = 7
	if err := s.Record(rec); err == nil || !strings.Contains(err.Error(), "the turn of generation 2") {
		t.Errorf("number 7 as the second: %v", err)
	}
	rec = sampleRecord(2)
	rec.Trigger = ""
	if err := s.Record(rec); err == nil {
		t.Error("a record without a trigger is taken")
	}
	if got := mustCurrent(t, s).Number; got != 1 {
		t.Errorf("current is %d", got)
	}
}

// A record that was written, but never became current, is not part of history, and
// its number does not come again.
func TestCrashBeforeTheSwitch(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	mustRecord(t, s, sampleRecord(1))
	before, err := os.ReadFile(s.pointerPath())
	if err != nil {
		t.Fatal(err)
	}
	mustRecord(t, s, sampleRecord(2))
	if err := os.WriteFile(s.pointerPath(), before, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, Options{})
	if got := mustCurrent(t, s).Number; got != 1 || len(s.List()) != 1 {
		t.Fatalf("current is %d of %v", got, s.List())
	}
	if _, err := s.GC(t.Context(), Roots{Keep: 1}); err != nil {
		t.Fatal(err)
	}
	gone := func(when string, s *Store) {
		t.Helper()
		if _, err := s.Get(2); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: generation 2 never became current, and can be had: %v", when, err)
		}
		for _, h := range s.List() {
			if h.Number == 2 {
				t.Errorf("%s: generation 2 never became current, and is listed", when)
			}
		}
	}
	gone("after the crash", s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, Options{}) // the number stays taken over another start
	if rec := mustRecord(t, s, sampleRecord(3)); rec.Number != 3 || rec.Parent != 1 {
		t.Fatalf("the next one is %d after %d", rec.Number, rec.Parent)
	}
	gone("after the next generation", s)
	if l := s.List(); len(l) != 2 {
		t.Errorf("history is %+v, want generations 1 and 3", l)
	}
}

// The same at the very first generation, when there is no pointer yet.
func TestCrashBeforeTheFirstSwitch(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	mustRecord(t, s, sampleRecord(1))
	if err := errors.Join(os.Remove(s.pointerPath()), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, Options{})
	if _, ok, err := s.Current(); ok || err != nil {
		t.Fatalf("current: %v %v", ok, err)
	}
	if rec := mustRecord(t, s, sampleRecord(2)); rec.Number != 2 || len(s.List()) != 1 {
		t.Fatalf("the next one is %d in %+v", rec.Number, s.List())
	}
}

// Whoever removes the pointer does not lose the history with it, nor does one whose
// pointer is damaged.
func TestOpenRemovesNoHistory(t *testing.T) {
	for what, spoil := range map[string]func(string) error{
		"removed": os.Remove, "damaged": func(p string) error { return os.Truncate(p, 3) },
	} {
		dir := t.TempDir()
		s := mustOpen(t, dir, Options{})
		mustRecord(t, s, sampleRecord(1))
		mustRecord(t, s, sampleRecord(2))
		if err := errors.Join(spoil(s.pointerPath()), s.Close()); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, dir, Options{})
		for n := uint64(1); n <= 2; n++ {
			if _, err := s.Get(n); err != nil {
				t.Errorf("pointer %s: %v", what, err)
			}
		}
	}
}

func TestDamagedRecordsFallBack(t *testing.T) {
	mangle := map[string]func(path string) error{
		"removed":   os.Remove,
		"emptied":   func(p string) error { return os.Truncate(p, 0) },
		"truncated": func(p string) error { st, _ := os.Stat(p); return os.Truncate(p, st.Size()/2) },
		"one bit": func(p string) error {
			b, err := os.ReadFile(p)
			b[len(b)/2] ^= 1
			return errors.Join(err, os.WriteFile(p, b, 0o640))
		},
		"garbage": func(p string) error { return os.WriteFile(p, []byte("{}"), 0o640) },
		"of the future": func(p string) error {
			b, err := os.ReadFile(p)
			return errors.Join(err, os.WriteFile(p, []byte(strings.Replace(string(b), `"format_version":1`, `"format_version":9`, 1)), 0o640))
		},
	}
	for name, f := range mangle {
		for _, file := range []string{"generations/0000000003.json", "current", "blob"} {
			if file == "blob" && name == "of the future" || file == "current" && name == "removed" {
				continue // another case
			}
			t.Run(name+" "+file, func(t *testing.T) {
				dir := t.TempDir()
				s := mustOpen(t, dir, Options{})
				for n := 1; n <= 3; n++ {
					rec := sampleRecord(n)
					rec.Held = &Held{Revision: fmt.Sprint(n)}
					if n < 3 {
						delete(rec.Files, "hosts.csv")
					}
					mustRecord(t, s, rec)
				}
				path := filepath.Join(dir, file)
				if file == "blob" {
					if err := s.Content().Each(func(b provider.Blob) (err error) { path, err = s.Content().Path(b.Digest); return err }); err != nil {
						t.Fatal(err)
					}
				}
				if err := f(path); err != nil {
					t.Fatal(err)
				}
				want := uint64(3)
				if file != "current" {
					want = 2
				}
				if got := mustCurrent(t, s).Number; got != want {
					t.Errorf("current is %d, want %d", got, want)
				}
				st, err := s.State()
				if err != nil || st.Held == nil || st.Held.Revision != "3" {
					t.Errorf("state %+v, %v", st, err)
				}
				if s.Damage() == nil {
					t.Error("no damage is told")
				}
				if rec := mustRecord(t, s, sampleRecord(4)); rec.Number != 4 {
					t.Errorf("the next one is %d", rec.Number)
				}
				if err := s.UpdateState(func(st *State) { st.Synced = "new" }); err != nil {
					t.Error(err)
				}
				if got := mustCurrent(t, s).Number; got != 4 {
					t.Errorf("then current is %d", got)
				}
				if st, err := s.State(); err != nil || st.Synced != "new" || st.Held != nil {
					t.Errorf("then the state is %+v, %v", st, err)
				}
			})
		}
	}
}

func TestNothingUsableIsAnError(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	mustRecord(t, s, sampleRecord(1))
	if err := os.Truncate(s.recordPath(1), 10); err != nil {
		t.Fatal(err)
	}
	if rec, ok, err := s.Current(); ok || !errors.As(err, new(*DamagedError)) {
		t.Fatalf("%v %v %v", rec, ok, err)
	}
	if l := s.List(); len(l) != 1 || l[0].Damaged == "" {
		t.Fatalf("%+v", l)
	}
}

func TestHoldOutlivesADamagedPointer(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	mustRecord(t, s, sampleRecord(1))
	if err := os.Truncate(s.pointerPath(), 3); err != nil {
		t.Fatal(err)
	}
	if err := s.UpdateState(func(st *State) { st.Held = &Held{Revision: "x"} }); err != nil {
		t.Fatal(err)
	}
	st, err := s.State()
	if err != nil || st.Held == nil || st.Held.Revision != "x" || mustCurrent(t, s).Number != 1 || s.Damage() != nil {
		t.Fatalf("%+v, %v, %v", st, err, s.Damage())
	}
}

func TestState(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := State{Held: &Held{Revision: "a", Reason: "by hand", Since: now}, Synced: "b"}
	if err := s.UpdateState(func(st *State) { *st = want }); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Current(); ok || err != nil {
		t.Fatalf("state without a generation: %v %v", ok, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, Options{})
	got, err := s.State()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Fatal(diff, err)
	}
	// In place, and nothing else.
	if err := s.UpdateState(func(st *State) { st.Held.Reason = "longer" }); err != nil {
		t.Fatal(err)
	}
	got, err = s.State()
	if err != nil || got.Held.Reason != "longer" || got.Synced != "b" {
		t.Fatalf("%+v, %v", got, err)
	}
	// An unchanged state writes nothing.
	before, _ := os.Stat(s.pointerPath())
	if err := s.UpdateState(func(*State) {}); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Stat(s.pointerPath()); !os.SameFile(before, after) {
		t.Error("an unchanged state was written")
	}
}

// The daemon can be killed at any instruction.
func TestKilledWhileRecording(t *testing.T) {
	dir := t.TempDir()
	var recorded uint64
	for round := range 20 {
		p := start(t, "record", dir)
		for range 1 + rand.IntN(6) {
			if _, err := fmt.Sscan(p.expect(t, "recorded "), &recorded); err != nil {
				t.Fatal(err)
			}
		}
		p.kill()
		s, err := Open(dir, Options{})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		cur := mustCurrent(t, s)
		st, err := s.State()
		switch {
		case err != nil || s.Damage() != nil:
			t.Fatalf("round %d: %v, %v", round, err, s.Damage())
		case cur.Number < recorded:
			t.Fatalf("round %d: %d was acknowledged, and current is %d", round, recorded, cur.Number)
		case cur.Revision != fmt.Sprintf("%040d", cur.Number) || st.Synced != cur.Revision || st.Held.Revision != cur.Revision:
			t.Fatalf("round %d: generation %d of %s with %+v", round, cur.Number, cur.Revision, st)
		case cmp.Diff(sampleRecord(0).Files, cur.Files) != "":
			t.Fatalf("round %d: generation %d is not whole", round, cur.Number)
		}
		if list, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(list) > 0 {
			t.Fatalf("round %d: left in tmp: %v, %v", round, list, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFilesAreAFileSystem(t *testing.T) {
	f := Files{"site.hcl": []byte("x"), "a/b/c.txt": []byte("c"), "a.txt": []byte("a"), "empty": {}}
	if err := fstest.TestFS(f.FS(), "site.hcl", "a/b/c.txt", "a.txt", "empty"); err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(Files{}.FS()); err != nil {
		t.Fatal(err)
	}
}

// Records also come from files that people keep and hand around.
func FuzzRecord(f *testing.F) {
	small := sampleRecord(1)
	delete(small.Files, "hosts.csv")
	b, err := json.Marshal(small)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"files":{"../x":{"text":""},"a":{"blob":{"digest":"sha256:00","size":1}}}}`))
	sealed, err := seal(small)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Fuzz(func(t *testing.T, b []byte) {
		var rec Record
		if json.Unmarshal(b, &rec) == nil {
			for p := range rec.Files {
				if !fs.ValidPath(p) {
					t.Fatalf("the path %q was taken", p)
				}
			}
			_ = fs.WalkDir(rec.Files.FS(), ".", func(string, fs.DirEntry, error) error { return nil })
		}
		var disk onDisk
		if _, err := unseal(b, &disk); err == nil {
			again, err := seal(disk)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := unseal(again, &disk); err != nil {
				t.Fatal(err)
			}
		}
	})
}
