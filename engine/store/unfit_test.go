package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What stands in the place of a small file of the state directory, and is none, keeps
// nobody waiting, costs no memory, is set aside and told; what the other copy has is in
// force, and everything can be written.
func TestUnfitStateFiles(t *testing.T) {
	puts := map[string]func(path string) error{
		"FIFO":            func(p string) error { return unix.Mkfifo(p, 0o600) },
		"directory":       func(p string) error { return os.MkdirAll(filepath.Join(p, "x"), 0o700) },
		"link to nothing": func(p string) error { return os.Symlink("nothing", p) },
		"sparse":          func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o600), os.Truncate(p, 20<<30)) },
	}
	for _, name := range []string{"current", "memory", "journal", "lock"} {
		for what, put := range puts {
			if name == "lock" && what != "FIFO" && what != "directory" {
				continue
			}
			t.Run(name+" is a "+what, func(t *testing.T) {
				dir := t.TempDir()
				s := mustOpen(t, dir, Options{})
				mustRecord(t, s, sampleRecord(0))
				if err := s.UpdateState(func(st *State) { st.Trusted = "abc" }); err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(dir, name)
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
				if err := put(path); err != nil {
					t.Fatal(err)
				}
				if ro, err := OpenReadOnly(dir); err != nil {
					t.Error(err)
				} else if list := ro.List(); len(list) != 1 {
					t.Errorf("read only: %+v", list)
				}
				s = mustOpen(t, dir, Options{})
				st, err := s.State()
				if err != nil || st.Trusted != "abc" || st.Suspended != nil {
					t.Errorf("remembered: %+v, %v", st, err)
				}
				if got := mustCurrent(t, s); got.Number != 1 {
					t.Errorf("generation %d", got.Number)
				}
				if err := s.Damage(); name != "lock" && (err == nil || !strings.Contains(err.Error(), path+" is damaged")) {
					t.Errorf("damage: %v", err)
				}
				n := mustBegin(t, s)
				rec := sampleRecord(0)
				mustRecord(t, s, rec)
				s.Published(n)
				s.Retired()
				if rec.Number != 2 {
					t.Errorf("then generation %d", rec.Number)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if list, _ := filepath.Glob(path + ".damaged-*"); len(list) != 1 {
					t.Errorf("set aside: %q", list)
				}
				s = mustOpen(t, dir, Options{})
				if st, err := s.State(); err != nil || st.Trusted != "abc" || mustCurrent(t, s).Number != 2 || s.Damage() != nil {
					t.Errorf("at the next start: %+v, %v, %v", st, err, s.Damage())
				}
			})
		}
	}
}

// A crash between setting "current" aside and writing the new one takes nothing.
func TestCutOffWhileCurrentIsSetAside(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	mustRecord(t, s, sampleRecord(0))
	path := filepath.Join(dir, "current")
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.makeWay(path, maxState); err != nil {
		t.Fatal(err)
	}
	die(t, s)
	s = mustOpen(t, dir, Options{})
	if got := mustCurrent(t, s); got.Number != 1 {
		t.Errorf("generation %d", got.Number)
	}
}

// Zeros behind the last entry of the journal are no entry that was being written.
func TestJournalWithALongTail(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	mustRecord(t, s, sampleRecord(0))
	mustBegin(t, s)
	die(t, s)
	path := filepath.Join(dir, "journal")
	if err := os.Truncate(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, Options{})
	if err := s.Damage(); err == nil || !strings.Contains(err.Error(), "more than any entry has") || len(s.Unfinished()) != 1 {
		t.Errorf("%v, %+v", err, s.Unfinished())
	}
}
