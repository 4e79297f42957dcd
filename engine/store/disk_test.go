package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inSmallDisk runs f with a store on a file system of 4 MiB that holds one
// generation. f may not end the test.
func inSmallDisk(t *testing.T, f func(dir string, s *Store) error) {
	t.Helper()
	dir := t.TempDir()
	withMounts(t, func() error {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
			return err
		}
		s, err := Open(dir, Options{})
		if err != nil {
			return err
		}
		defer s.Close()
		if err := s.Record(sampleRecord(1)); err != nil {
			return err
		}
		return f(dir, s)
	})
}

// fill leaves no byte free.
func fill(dir string) error {
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		return err
	}
	defer f.Close()
	for _, chunk := range []int{64 << 10, 4096, 1} {
		b := make([]byte, chunk)
		for {
			if _, err := f.Write(b); err != nil {
				break
			}
		}
	}
	return nil
}

func stillServes(s *Store, n uint64) error {
	cur, ok, err := s.Current()
	if err != nil || !ok || cur.Number != n || len(cur.Files) != len(sampleRecord(1).Files) {
		return fmt.Errorf("current is %+v, %v, %w; want generation %d", cur, ok, err, n)
	}
	return nil
}

func TestFullDisk(t *testing.T) {
	inSmallDisk(t, func(dir string, s *Store) error {
		if err := fill(dir); err != nil {
			return err
		}
		rec := sampleRecord(2)
		rec.Files["site.hcl"] = []byte(strings.Repeat("x", 20000))
		rec.Files["other.csv"] = []byte(strings.Repeat("y", 2*largeFile))
		for what, err := range map[string]error{
			"Record": s.Record(rec),
			"UpdateState": s.UpdateState(func(st *State) {
				st.Held, st.Synced = &Held{Revision: strings.Repeat("z", 10000)}, strings.Repeat("z", 10000)
			}),
			"Put": second2(s.Content().Put(t.Context(), io.LimitReader(zeros{}, 1<<20))),
		} {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("%s on a full disk: %v", what, err)
			}
		}
		if err := stillServes(s, 1); err != nil {
			return err
		}
		if st, err := s.State(); err != nil || st.Held != nil || st.Synced != sampleRecord(1).Revision {
			return fmt.Errorf("state %+v, %w", st, err)
		}
		if list, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(list) > 0 {
			t.Errorf("left in tmp: %v, %v", list, err)
		}
		// A daemon that starts on a full disk serves what is recorded.
		if err := s.Close(); err != nil {
			return err
		}
		s, err := Open(dir, Options{})
		if err != nil {
			return fmt.Errorf("opened on a full disk: %w", err)
		}
		defer s.Close()
		if err := stillServes(s, 1); err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
			return err
		}
		rec.Number = 0
		if err := s.Record(rec); err != nil {
			return fmt.Errorf("with space again: %w", err)
		}
		if rec.Number != 2 {
			t.Errorf("the next generation is %d", rec.Number)
		}
		cur, _, err := s.Current()
		if err == nil && cur.Number != rec.Number {
			err = fmt.Errorf("current is %d", cur.Number)
		}
		return err
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestReadOnlyDisk(t *testing.T) {
	inSmallDisk(t, func(dir string, s *Store) error {
		if err := s.Close(); err != nil {
			return err
		}
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return err
		}
		if _, err := Open(dir, Options{}); !errors.Is(err, syscall.EROFS) {
			t.Errorf("opened for writing: %v", err)
		}
		ro, err := OpenReadOnly(dir)
		if err != nil {
			return err
		}
		return stillServes(ro, 1)
	})
}
