package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// What a machine wrote was sealed for everybody, its keys too.
func TestPromotedIsForTheDaemonAlone(t *testing.T) {
	c, err := OpenContent(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.scratch, "disk")
	for _, first := range []func() (provider.Blob, error){
		func() (provider.Blob, error) { return c.SealPrivate(t.Context(), path) },
		func() (provider.Blob, error) { return c.Put(t.Context(), strings.NewReader("the same bytes")) },
	} {
		if err := os.WriteFile(path, []byte("a key"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := first(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("the same bytes"), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := c.SealPrivate(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := c.Mark(b)
		if err != nil || m.Mode != 0o400 {
			t.Errorf("mode %v, %v", m.Mode, err)
		}
		open, err := c.Open(b)
		if err != nil {
			t.Fatal(err)
		}
		defer open.Close()
		if err := c.Remove(b.Digest); err != nil {
			t.Fatal(err)
		}
		if err := c.Restore(t.Context(), b, open); err != nil {
			t.Fatal(err)
		}
		if m, err := c.Mark(b); err != nil || m.Mode != 0o400 {
			t.Errorf("restored: mode %v, %v", m.Mode, err)
		}
		if err := c.Remove(b.Digest); err != nil {
			t.Fatal(err)
		}
	}
}

// A blob that was there for everybody was taken from them in memory only: after a power
// cut the record that calls it promoted was there, and the file as it had been.
func TestTakenFromOthersOnDisk(t *testing.T) {
	c, err := OpenContent(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Put(t.Context(), strings.NewReader("a key"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.scratch, "disk")
	if err := os.WriteFile(path, []byte("a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	var synced []os.FileMode
	broken := errors.New("broken")
	c.sync = func(f *os.File) error {
		st, err := f.Stat()
		if err != nil {
			t.Error(err)
		}
		synced = append(synced, st.Mode())
		return broken
	}
	if _, err := c.SealPrivate(t.Context(), path); !errors.Is(err, broken) || len(synced) != 1 || synced[0] != 0o400 {
		t.Errorf("%v; synced as %v", err, synced)
	}
	if m, err := c.Mark(b); err != nil || m.Mode != 0o400 {
		t.Errorf("mode %v, %v", m.Mode, err)
	}
}

// Who promoted a disk that nobody had written to took the image below it from everybody,
// for good: its bytes are no secret of the machine's.
func TestPromotedUnwrittenLeavesTheImage(t *testing.T) {
	h := newShed(t)
	c := h.Content()
	promote := func(root provider.Blob, content string) {
		t.Helper()
		path := filepath.Join(c.scratch, "disk")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := c.SealPrivate(t.Context(), path); err != nil || b != root {
			t.Fatalf("%v, %v, want %v", b, err, root)
		}
	}
	base := h.build("base")
	promote(base.Root, "base root")
	if m, err := c.Mark(base.Root); err != nil || m.Mode != 0o444 {
		t.Errorf("mode %v, %v", m.Mode, err)
	}
	// That an artifact is recorded of them is not enough: it must have been built.
	other := h.build("other")
	other.Promoted = true
	if err := c.SetArtifact(other); err != nil {
		t.Fatal(err)
	}
	promote(other.Root, "other root")
	if m, err := c.Mark(other.Root); err != nil || m.Mode != 0o400 {
		t.Errorf("mode %v, %v", m.Mode, err)
	}
}
