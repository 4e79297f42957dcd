package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/statefile"
)

// victim is a folder with a file, of the test alone, and says whether that is still there.
func victim(t *testing.T, name string) (dir string, whole func(when string)) {
	dir = t.TempDir()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(-100*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	return dir, func(when string) {
		t.Helper()
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s: where the link leads: %v", when, err)
		}
	}
}

// A link in place of the scratch folder had everything deleted that it led to.
func TestScratchThatIsALink(t *testing.T) {
	state := t.TempDir()
	mustOpen(t, state, Options{}).Close()
	dir, whole := victim(t, "letters")
	tmp := filepath.Join(state, "tmp")
	if err := errors.Join(os.RemoveAll(tmp), os.Symlink(dir, tmp)); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, state, Options{})
	whole("open")
	if b, err := s.Content().Put(t.Context(), strings.NewReader("x")); err != nil || !s.Content().Has(b) {
		t.Errorf("nothing can be stored: %v", err)
	}
	s.Close()
	mustOpen(t, state, Options{}).Close()
	whole("opened again")
	if info, err := os.Lstat(tmp); err != nil || !info.IsDir() {
		t.Errorf("the scratch folder: %v, %v", info, err)
	}
	if aside, _ := filepath.Glob(tmp + ".damaged-*"); len(aside) != 1 {
		t.Errorf("set aside: %q", aside)
	}
}

// A link in place of the folder of records had those deleted, at the start, that a folder
// elsewhere has; and so with recipes and blobs when they are collected.
func TestNothingIsDeletedWhereALinkLeads(t *testing.T) {
	replace := func(path, dir string) {
		t.Helper()
		if err := errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("generations", func(t *testing.T) {
		h := newShed(t)
		state := h.dir
		h.serve()
		h.Close()
		dir, whole := victim(t, "0000000099.json")
		replace(filepath.Join(state, "generations"), dir)
		if s, err := Open(state, Options{}); err == nil {
			s.Close()
		}
		whole("open")
	})
	t.Run("recipes", func(t *testing.T) {
		h := newShed(t)
		hexa := strings.Repeat("ab", 32)
		dir, whole := victim(t, hexa+".json")
		replace(filepath.Join(h.dir, "recipes", "base"), dir)
		h.shift = 200 * 24 * time.Hour
		_, err := h.GC(t.Context(), Roots{})
		var unfit *statefile.UnfitError
		if !errors.As(err, &unfit) {
			t.Errorf("GC: %v", err)
		}
		whole("collected")
	})
	t.Run("blobs", func(t *testing.T) {
		h := newShed(t)
		hexa := strings.Repeat("ab", 32)
		dir, whole := victim(t, hexa)
		replace(filepath.Join(h.dir, "blobs", "sha256", "ab"), dir)
		h.shift = 200 * 24 * time.Hour
		if _, err := h.GC(t.Context(), Roots{}); err != nil {
			t.Error(err)
		}
		whole("collected")
		if err := h.Content().Remove("sha256:" + hexa); err == nil {
			t.Error("Remove gave no error")
		}
		whole("removed")
		h.journal.loose["sha256:"+hexa] = true // as the journal of a killed process says
		if err := h.dropLoose(); err == nil {
			t.Error("dropLoose gave no error")
		}
		whole("recovered")
	})
}
