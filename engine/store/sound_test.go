package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

func put(t *testing.T, c *Content, text string) (provider.Blob, string) {
	t.Helper()
	b, err := c.Put(t.Context(), strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	path, err := c.Path(b.Digest)
	if err != nil {
		t.Fatal(err)
	}
	return b, path
}

// What somebody still has open comes back; what is not the blob never takes its place.
func TestRestore(t *testing.T) {
	c, err := OpenContent(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b, path := put(t, c, "sealed bytes")
	_, otherPath := put(t, c, "other bytes!")
	open, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Check(t.Context(), b, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing blob: %v", err)
	}
	wrong, err := os.Open(otherPath)
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	var spoilt *SpoiltError
	if err := c.Restore(t.Context(), b, wrong); !errors.As(err, &spoilt) || c.Has(b) {
		t.Errorf("restored from another file: %v", err)
	}
	if err := c.Restore(t.Context(), b, open); err != nil {
		t.Fatal(err)
	}
	m, err := c.Check(t.Context(), b, nil)
	if err != nil || m.Mode != 0o444 {
		t.Errorf("restored: %+v, %v", m, err)
	}
	if left, err := os.ReadDir(c.scratch); err != nil || len(left) != 0 {
		t.Errorf("scratch: %v, %v", left, err)
	}
}

// A file of the right size with the wrong bytes is found by reading it, has another mark
// than before, and can be taken out of the way; one that took its place stays.
func TestSpoiltFileIsSetAside(t *testing.T) {
	c, err := OpenContent(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b, path := put(t, c, "sealed bytes")
	before, err := c.Mark(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("forged bytes"), 0o600)); err != nil {
		t.Fatal(err)
	}
	mark, err := c.Mark(b)
	if err != nil || mark == before {
		t.Errorf("mark %+v, before %+v, %v", mark, before, err)
	}
	var spoilt *SpoiltError
	if _, err := c.Check(t.Context(), b, nil); !errors.As(err, &spoilt) {
		t.Errorf("other bytes: %v", err)
	}
	if err := c.SetAside(b, before); err != nil || c.Has(b) {
		t.Errorf("set aside: %v", err)
	}
	again, _ := put(t, c, "sealed bytes")
	if err := c.SetAside(b, mark); err != nil || !c.Has(again) {
		t.Errorf("a sound file that took its place was set aside: %v", err)
	}
}

// What is written behind the reader is not taken for read.
func TestFileChangedWhileItIsRead(t *testing.T) {
	c, err := OpenContent(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b, path := put(t, c, strings.Repeat("sealed bytes", 1<<14))
	changed := false
	m, err := c.Check(t.Context(), b, func(context.Context, int) error {
		if changed {
			return nil
		}
		changed = true
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte("forged"), 0)
		return errors.Join(err, f.Close(), os.Chmod(path, 0o444))
	})
	if err == nil || errors.As(err, new(*SpoiltError)) || !strings.Contains(err.Error(), "changed while it was read") {
		t.Errorf("%v", err)
	}
	if now, err := c.Mark(b); err != nil || now == m {
		t.Errorf("the mark is that of the spoilt file: %+v, %v", m, err)
	}
	if _, err := c.Check(t.Context(), b, nil); !errors.As(err, new(*SpoiltError)) {
		t.Errorf("read again: %v", err)
	}
}
