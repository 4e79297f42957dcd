package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func wantLocked(dir string, pid int) error {
	s, err := Open(dir, Options{})
	if err == nil {
		s.Close()
		return errors.New("the directory was opened twice")
	}
	var locked *LockedError
	if !errors.As(err, &locked) {
		return fmt.Errorf("%w, want a LockedError", err)
	}
	host, _ := os.Hostname()
	want := &LockedError{Dir: dir, PID: pid, Host: host, Command: "dlreconcile serve"}
	if diff := cmp.Diff(want, locked); diff != "" {
		return errors.New(diff)
	}
	if msg := locked.Error(); !strings.Contains(msg, fmt.Sprintf("in use by dlreconcile serve (process %d", pid)) {
		return fmt.Errorf("message %q", msg)
	}
	return nil
}

func TestOneProcessHoldsTheDirectory(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "hold", dir)
	p.expect(t, "held")
	pid := p.cmd.Process.Pid
	check := func(when string) {
		t.Helper()
		if err := wantLocked(dir, pid); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	check("held by another process")
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	check("held by a stopped process")
	withMounts(t, func() error {
		other := t.TempDir()
		if err := unix.Mount(dir, other, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		return wantLocked(other, pid)
	})
	// The file is only for the message: the kernel knows better.
	if err := os.WriteFile(filepath.Join(dir, "lock"), []byte(`{"pid":1,"host":"x","command":"y"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	var locked *LockedError
	if _, err := Open(dir, Options{}); !errors.As(err, &locked) || locked.PID != pid {
		t.Errorf("with a wrong lock file: %v, want process %d", err, pid)
	}
	ro, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := ro.Current(); ok || err != nil {
		t.Errorf("reading beside the holder: %v %v", ok, err)
	}
	p.kill()
	s := mustOpen(t, dir, Options{Command: "dlreconcile serve"})
	if err := wantLocked(dir, os.Getpid()); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, dir, Options{}) // and again, by the same process
}

func TestKilledWorkIsSweptAway(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	scratch, err := s.Content().Scratch("build")
	if err != nil {
		t.Fatal(err)
	}
	sub := filepath.Join(scratch, "root", "dev")
	if err := os.MkdirAll(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(t.TempDir(), "null")
	if err := os.WriteFile(precious, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	withMounts(t, func() error {
		// What a build that was killed leaves: /dev of the machine in its tree.
		spaced := filepath.Join(scratch, "a b")
		if err := os.Mkdir(spaced, 0o755); err != nil {
			return err
		}
		for _, at := range []string{sub, spaced, sub} {
			if err := unix.Mount(filepath.Dir(precious), at, "", unix.MS_BIND, ""); err != nil {
				return err
			}
		}
		if _, err := os.Stat(filepath.Join(sub, "null")); err != nil {
			return err
		}
		s, err := Open(dir, Options{})
		if err != nil {
			return err
		}
		return s.Close()
	})
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("a mounted folder was emptied: %v", err)
	}
	if list, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(list) != 0 {
		t.Errorf("left in tmp: %v, %v", list, err)
	}
}

// It is set aside; see TestDamagedDatabase.
func TestDatabaseThatIsNone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "state.db"), []byte(strings.Repeat("garbage", 10000)), 0o600); err != nil {
		t.Fatal(err)
	}
	var damaged *DamagedError
	s := mustOpen(t, dir, Options{})
	if err := s.Damage(); !errors.As(err, &damaged) || damaged.Path != filepath.Join(dir, "state.db") {
		t.Fatalf("%v, want a DamagedError", err)
	}
}
