package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// flipByte damages a file.
func flipByte(t testing.TB, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		b[len(b)/2] ^= 1
		err = os.WriteFile(path, b, 0o640)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// memories has each member of Memory set once.
func memories() map[string]Memory {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return map[string]Memory{
		"trusted":         {Trusted: "aa"},
		"quarantined":     {Quarantined: []Quarantine{{Revision: "bb", Reason: "reverted", Stage: "idle", Message: "m", Since: at}}},
		"failed":          {Failed: &Held{Revision: "bb", Since: at}},
		"suspended":       {Suspended: &Suspension{Reason: "r", By: Actor{Via: ViaSocket}, Since: at}},
		"suspended hosts": {SuspendedHosts: map[string]Suspension{"host.ws01": {Generation: 1, Since: at}}},
		"try":             {Try: &Try{Generation: 2, Back: 1, Revision: "cc", Deadline: at}},
	}
}

// One flipped bit takes nothing away of what is remembered, nor does the next record
// make such a loss permanent.
func TestMemoryOutlivesDamage(t *testing.T) {
	for name, want := range memories() {
		for _, how := range []string{"current", "memory", "current removed"} {
			t.Run(name+" "+how, func(t *testing.T) {
				file, gone := strings.CutSuffix(how, " removed")
				dir := t.TempDir()
				s := mustOpen(t, dir, Options{})
				mustRecord(t, s, sampleRecord(1))
				if err := s.Record(sampleRecord(2), func(m *Memory) { *m = want }); err != nil {
					t.Fatal(err)
				}
				check := func(when string) {
					t.Helper()
					st, err := s.State()
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(want, st.Memory); diff != "" {
						t.Errorf("%s: (-want +got)\n%s", when, diff)
					}
				}
				if flipByte(t, filepath.Join(dir, file)); gone {
					if err := os.Remove(filepath.Join(dir, file)); err != nil {
						t.Fatal(err)
					}
				}
				check("damaged")
				if rec, ok, err := s.Current(); err != nil || !ok || rec.Number != 2 {
					t.Errorf("serving %+v, %v, %v", rec, ok, err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = mustOpen(t, dir, Options{})
				check("after a restart")
				if told := s.Damage() != nil; !told { // the second copy is mended already
					t.Error("nobody is told")
				}
				mustRecord(t, s, sampleRecord(3))
				check("after the next record")
				if err := s.Damage(); err != nil {
					t.Errorf("mended, and still told: %v", err)
				}
				flipByte(t, filepath.Join(dir, "current"))
				check("damaged again")
			})
		}
	}
}

// When nothing is left of it, everything is suspended until an operator resumes.
func TestLostMemorySuspends(t *testing.T) {
	for _, lost := range []func(string) error{os.Remove, func(p string) error { return os.Truncate(p, 3) }} {
		dir := t.TempDir()
		s := mustOpen(t, dir, Options{})
		mustRecord(t, s, sampleRecord(1))
		flipByte(t, filepath.Join(dir, "current"))
		if err := lost(filepath.Join(dir, "memory")); err != nil {
			t.Fatal(err)
		}
		first, err := s.State()
		if err != nil || first.Suspended == nil || first.Suspended.Reason != lostMemory || first.Suspended.Since.IsZero() {
			t.Fatalf("%+v, %v", first.Suspended, err)
		}
		mustRecord(t, s, sampleRecord(2))
		st, err := s.State()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first.Memory, st.Memory); diff != "" {
			t.Errorf("after a record (-want +got)\n%s", diff)
		}
		if err := s.UpdateState(func(st *State) { st.Suspended = nil }); err != nil {
			t.Fatal(err)
		}
		if st, err := s.State(); err != nil || st.Suspended != nil {
			t.Errorf("%+v, %v", st, err)
		}
	}
}

// What a crash left in the second copy before the first was changed is not in force.
func TestMemoryOfAnOrderThatWasCutOff(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	mustRecord(t, s, sampleRecord(1))
	if err := s.keepMemory(Memory{Trusted: "never"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, Options{})
	var m Memory
	if _, err := readSealed(s.memoryPath(), maxState, &m); err != nil || m.Trusted != "" {
		t.Errorf("%+v, %v", m, err)
	}
	if err := os.Remove(s.memoryPath()); err != nil {
		t.Fatal(err)
	}
	if err := s.UpdateState(func(st *State) { st.Synced = "x" }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.memoryPath()); errors.Is(err, os.ErrNotExist) {
		t.Error("the second copy is not written")
	}
}

// The second copy is damaged while the first is sound: it is told, and written anew.
func TestDamagedCopyOfMemoryIsTold(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	mustRecord(t, s, sampleRecord(1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "memory")
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipByte(t, path)
	s = mustOpen(t, dir, Options{})
	if err := s.Damage(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("told: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("it is %q, %v", got, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := mustOpen(t, dir, Options{}).Damage(); err != nil {
		t.Errorf("at the next start: %v", err)
	}
}
