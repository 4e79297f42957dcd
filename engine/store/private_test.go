package store

import (
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
