package blob

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// A file whose bytes changed is given to nobody new until the store has another one;
// who reads it goes on, and reads the other one from then on.
func TestSpoiltFileIsReplacedUnderItsReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blob")
	write := func(text string) {
		t.Helper()
		tmp := path + "+"
		if err := errors.Join(os.WriteFile(tmp, []byte(text), 0o600), os.Rename(tmp, path)); err != nil {
			t.Fatal(err)
		}
	}
	write("spoilt")
	c := NewCache(func(provider.Blob) (*os.File, error) { return os.Open(path) })
	b := provider.Blob{Digest: "sha256:one", Size: 6}
	reader, err := c.Get(b)
	if err != nil {
		t.Fatal(err)
	}
	read := func() string {
		p := make([]byte, 6)
		if _, err := reader.ReadAt(p, 0); err != nil {
			t.Error(err)
		}
		return string(p)
	}
	other, err := os.Stat(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	c.SpoilBlob(b.Digest, other, errors.New("of another file"))
	if err := reader.Sound(); err != nil {
		t.Errorf("another file's bytes changed: %v", err)
	}
	bad, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("other bytes")
	c.SpoilBlob(b.Digest, bad, why)
	if _, err := c.Get(b); !errors.Is(err, why) || !errors.Is(reader.Sound(), why) || read() != "spoilt" {
		t.Errorf("Get: %v, Sound: %v, read %q", err, reader.Sound(), read())
	}
	if err := c.RenewBlob(b); err != nil || reader.Sound() == nil {
		t.Errorf("renewed by the same file: %v, Sound: %v", err, reader.Sound())
	}

	before := reader.OSFile()
	write("sealed")
	second, err := c.Get(b)
	if err != nil || second != reader || read() != "sealed" || reader.Sound() != nil {
		t.Fatalf("Get: %v, read %q, Sound: %v", err, read(), reader.Sound())
	}
	if _, err := before.Stat(); err != nil {
		t.Errorf("a transfer's file was closed under it: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	kept := c.KeptBlob(b.Digest)
	if kept == nil {
		t.Fatal("a file without a name is not kept")
	}
	defer kept.Close()
	if got, err := io.ReadAll(kept); err != nil || string(got) != "sealed" {
		t.Errorf("kept: %q, %v", got, err)
	}
	second.Release()
	reader.Release()
	if _, err := before.Stat(); !errors.Is(err, os.ErrClosed) || c.Open() != 0 || c.KeptBlob(b.Digest) != nil {
		t.Errorf("after the last release: %v, %d open", err, c.Open())
	}
}
