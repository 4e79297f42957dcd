package cow

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// wantDiscarded fails unless a retired record is all that is left of testKey, for the next
// process too.
func wantDiscarded(t *testing.T, s *Store, dir string) {
	t.Helper()
	must(t, s.Sweep())
	if got, want := tree(t, filepath.Join(dir, testKey.String())), []string{recordFile}; !slices.Equal(got, want) {
		t.Errorf("%q is left, want %q", got, want)
	}
	base, b := testBase(1, 4*BlockSize)
	for _, s := range []*Store{s, openStore(t, dir, "k")} {
		r, ok := s.Lookup(testKey)
		if !ok || !r.Retired || r.Unreadable != nil || r.Note["why"] != "an order" || r.Created.IsZero() {
			t.Errorf("Lookup() = %+v, %t", r, ok)
		}
		if _, err := s.Open(testKey, b, bytes.NewReader(base), nil); !errors.Is(err, ErrRetired) {
			t.Errorf("who had it gets another: %v", err)
		}
	}
}

// Who has an overlay mounted that cannot be read got a fresh disk under it, once somebody
// had removed it by hand.
func TestDiscard(t *testing.T) {
	note := map[string]string{"why": "an order"}
	puts := misfits(t)
	puts["nonsense"] = func(p string) error { return os.WriteFile(p, []byte("{"), 0o600) }
	for what, put := range puts {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			base, b := testBase(1, 4*BlockSize)
			s := openStore(t, dir, "k")
			o := openOverlay(t, s, base, b)
			_, err := o.WriteAt([]byte("kept"), 5)
			must(t, err)
			if err := s.Discard(testKey, note); err == nil {
				t.Error("one that is in use was discarded")
			}
			o.Close()
			if err := s.Discard(testKey, note); err == nil {
				t.Error("one that can be read was discarded")
			}
			record := filepath.Join(dir, testKey.String(), recordFile)
			must(t, os.Rename(record, record+".was"))
			must(t, put(record))
			leads, _ := os.Readlink(record) // "" for all but the link
			s = openStore(t, dir, "k")
			if l := s.List(); len(l) != 1 || l[0].Unreadable == nil || s.Bytes(testKey) == 0 {
				t.Errorf("List() = %+v, %d bytes", l, s.Bytes(testKey))
			}
			must(t, os.RemoveAll(record+".was"))
			must(t, s.Discard(testKey, note))
			wantDiscarded(t, s, dir)
			if leads != "" {
				if got, err := os.ReadFile(leads); err != nil || !bytes.Contains(got, []byte("crc32c")) {
					t.Errorf("where the link led: %q, %v", got, err)
				}
			}
		})
	}
	t.Run("full folder", func(t *testing.T) {
		dir := t.TempDir()
		base, b := testBase(1, 4*BlockSize)
		openOverlay(t, openStore(t, dir, "k"), base, b).Close()
		record := filepath.Join(dir, testKey.String(), recordFile)
		must(t, errors.Join(os.Remove(record), os.Mkdir(record, 0o700), os.WriteFile(filepath.Join(record, "letters"), nil, 0o600)))
		s := openStore(t, dir, "k")
		if err := s.Discard(testKey, note); err == nil {
			t.Error("discarded, with what is not of the store")
		}
		if _, err := os.Stat(filepath.Join(record, "letters")); err != nil {
			t.Error(err)
		}
	})
}

// What stood in the place of an overlay's folder was a stray, and no overlay.
func TestDiscardWhatIsNoFolder(t *testing.T) {
	victim := t.TempDir()
	must(t, os.WriteFile(filepath.Join(victim, dataFile), nil, 0o600))
	for what, put := range map[string]func(path string) error{
		"link": func(p string) error { return os.Symlink(victim, p) },
		"file": func(p string) error { return os.WriteFile(p, nil, 0o600) },
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, testKey.String())
			must(t, os.MkdirAll(filepath.Dir(path), 0o700))
			must(t, put(path))
			s := openStore(t, dir, "k")
			if l := s.List(); len(l) != 1 || l[0].Key != testKey || !strings.Contains(fmt.Sprint(l[0].Unreadable), "no folder") {
				t.Fatalf("List() = %+v", l)
			}
			s.Retire(testKey)
			must(t, s.Sweep())
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("without an order: %v", err)
			}
			must(t, s.Discard(testKey, map[string]string{"why": "an order"}))
			wantDiscarded(t, s, dir)
			if got := tree(t, victim); !slices.Equal(got, []string{dataFile}) {
				t.Errorf("where the link led: %q", got)
			}
		})
	}
}

// A file system with errors had overlays vanish: their folders were strays.
func TestFolderThatCannotBeOpened(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "mke2fs", "debugfs")
	tmp := t.TempDir()
	whole, file, dir := filepath.Join(tmp, "whole"), filepath.Join(tmp, "ext4"), filepath.Join(tmp, "mounted")
	other := Key{Machine: "m", Instance: "i", Export: "e"}
	base, b := testBase(1, 4*BlockSize)
	s := openStore(t, whole, "k")
	for _, k := range []Key{testKey, other} {
		o, err := s.Open(k, b, bytes.NewReader(base), nil)
		must(t, err)
		o.Close()
	}
	must(t, os.Mkdir(dir, 0o700))
	for _, args := range [][]string{
		{"mke2fs", "-q", "-t", "ext4", "-d", whole, file, "4M"},
		{"debugfs", "-w", "-R", "set_inode_field /" + testKey.String() + " mode 0170000", file},
		{"debugfs", "-w", "-R", "set_inode_field /m/i mode 0170000", file},
		{"mount", "-o", "loop,errors=continue", file, dir},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	defer func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}()
	s = openStore(t, dir, "k")
	if l := s.List(); len(l) != 1 || l[0].Key != testKey || l[0].Unreadable == nil {
		t.Errorf("List() = %+v", l)
	}
	if l := s.Shut(); len(l) != 1 || l[0].Key != (Key{Machine: "m", Instance: "i"}) || l[0].Unreadable == nil {
		t.Errorf("Shut() = %+v", l)
	}
	if _, err := s.Open(testKey, b, bytes.NewReader(base), nil); err == nil || !strings.Contains(err.Error(), "cannot be opened") {
		t.Errorf("Open: %v", err)
	}
	if err := s.Discard(testKey, nil); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Discard: %v", err)
	}
	if l := s.List(); len(l) != 1 || l[0].Unreadable == nil {
		t.Errorf("it could not be discarded, and List() = %+v", l)
	}
}
