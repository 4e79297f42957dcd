package cow

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/engine/statefile"
)

func openTestFolder(t testing.TB, path string) folder {
	t.Helper()
	d, err := openFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// tree lists what is below a folder, links as links.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != dir {
			rel, _ := filepath.Rel(dir, path) // it is below
			out = append(out, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// must stops the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A link in the store had the daemon delete, at its start, whatever it led to: any folder
// without a record, and empty ones.
func TestNothingIsDeletedThroughALink(t *testing.T) {
	tmp := t.TempDir()
	for name, at := range map[string]string{
		"machine": "lnk", "instance": "m/lnk", "export": "m/i/lnk", "key": testKey.String(),
		"machine of a key": testKey.Machine, "instance of a key": filepath.Join(testKey.Machine, testKey.Instance),
	} {
		t.Run(name, func(t *testing.T) {
			// As deep as the store is, with an empty folder, and files of the store's names.
			victim, store := filepath.Join(tmp, name, "victim"), filepath.Join(tmp, name, "store")
			for _, d := range []string{".", testKey.Instance, filepath.Join(testKey.Instance, testKey.Export), "a", "a/b", "a/b/c", "empty"} {
				must(t, os.MkdirAll(filepath.Join(victim, d), 0o700))
				if d == "empty" {
					continue
				}
				for _, f := range []string{dataFile, liveFile, "letters", pendingFile} {
					must(t, os.WriteFile(filepath.Join(victim, d, f), []byte("x"), 0o600))
				}
			}
			before := tree(t, victim)
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(store, at)), 0o700))
			must(t, os.Symlink(victim, filepath.Join(store, at)))

			var log bytes.Buffer
			for range 2 {
				log.Reset()
				s, err := OpenStore(store, Config{BootID: "k", Log: slog.New(slog.NewTextHandler(&log, nil))})
				must(t, err)
				shut := s.Shut()
				for _, r := range append(shut, s.List()...) { // it is not overlooked
					if r.Key.String() != at || r.Unreadable == nil || r.Base != (Base{}) {
						t.Errorf("%+v", r)
					}
				}
				if n := len(append(shut, s.List()...)); n != 1 {
					t.Errorf("List() = %v, Shut() = %v", s.List(), shut)
				}
				if n := strings.Count(log.String(), filepath.Join(store, at)); n != 1 {
					t.Errorf("told %d times: %s", n, log.String())
				}
				s.Bytes(testKey)
				base, b := testBase(1, 4*BlockSize)
				o, err := s.Open(testKey, b, bytes.NewReader(base), nil)
				var unfit *statefile.UnfitError
				if strings.Contains(name, "key") && !errors.As(err, &unfit) {
					t.Errorf("Open: %v", err)
				}
				if err == nil {
					o.Close()
				}
				if err := s.Remove(testKey); err != nil && !errors.As(err, &unfit) {
					t.Error(err)
				}
			}
			if after := tree(t, victim); !slices.Equal(before, after) {
				t.Errorf("where the link leads:\n%q, was\n%q", after, before)
			}
			if _, err := os.Lstat(filepath.Join(store, at)); err != nil {
				t.Error(err)
			}
		})
	}
}

// What the store did not make stays, in a folder that was half made or is removed too.
func TestStraysAreLeftAloneAndTold(t *testing.T) {
	dir := t.TempDir()
	half := filepath.Join(dir, "m", "i", "half")
	must(t, os.MkdirAll(filepath.Join(half, "folder", "data"), 0o700))
	for _, f := range []string{dataFile, flushedFile, ".meta.json123", "letters", "folder/letters"} {
		must(t, os.WriteFile(filepath.Join(half, f), nil, 0o600))
	}
	must(t, os.MkdirAll(filepath.Join(dir, ".hidden", "i", "e"), 0o700))
	must(t, os.MkdirAll(filepath.Join(dir, "lost+found"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	var log bytes.Buffer
	open := func() *Store {
		log.Reset()
		s, err := OpenStore(dir, Config{BootID: "k", Log: slog.New(slog.NewTextHandler(&log, nil))})
		must(t, err)
		return s
	}
	s := open()
	want := []string{".hidden", ".hidden/i", ".hidden/i/e", "file", "lost+found", "m", "m/i", "m/i/half",
		"m/i/half/folder", "m/i/half/folder/data", "m/i/half/folder/letters", "m/i/half/letters"}
	if got := tree(t, dir); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for _, what := range []string{".hidden (its name", "file (it is no folder)", "half/folder", "half/letters", "all=4"} {
		if !strings.Contains(log.String(), what) {
			t.Errorf("%q is not told: %s", what, log.String())
		}
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("told %d times: %s", n, log.String())
	}

	base, b := testBase(1, 4*BlockSize)
	openOverlay(t, s, base, b).Close()
	must(t, os.WriteFile(filepath.Join(dir, testKey.String(), "notes"), nil, 0o600))
	log.Reset()
	must(t, s.Remove(testKey))
	if !strings.Contains(log.String(), "notes") {
		t.Errorf("not told: %s", log.String())
	}
	o := openOverlay(t, s, base, b)
	wantContent(t, o, base, "made anew beside a stray")
	o.Close()
	if l := open().List(); len(l) != 1 {
		t.Errorf("List() = %v", l)
	}
}

// What never became an overlay, and cannot be removed, kept the daemon from starting.
func TestStartBesideWhatCannotBeRemoved(t *testing.T) {
	providertest.NeedRoot(t)
	runtime.LockOSThread() // the thread, and its name space with it, ends with the test
	must(t, unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS))
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	dir := t.TempDir()
	data := filepath.Join(dir, "m", "i", "half", dataFile)
	must(t, os.MkdirAll(filepath.Dir(data), 0o700))
	must(t, os.WriteFile(data, nil, 0o600))
	must(t, unix.Mount(data, data, "", unix.MS_BIND, ""))
	t.Cleanup(func() { unix.Unmount(data, unix.MNT_DETACH) }) // on the same thread
	var log bytes.Buffer
	s, err := OpenStore(dir, Config{BootID: "k", Log: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	base, b := testBase(1, 4*BlockSize)
	openOverlay(t, s, base, b).Close()
	if !strings.Contains(log.String(), filepath.Dir(data)+" (device or resource busy)") {
		t.Errorf("not told: %s", log.String())
	}
}

// misfits puts something else in a file's place. They lead to files of the test alone.
func misfits(t *testing.T) map[string]func(path string) error {
	other := filepath.Join(t.TempDir(), "other")
	return map[string]func(path string) error{
		"FIFO":      func(p string) error { return unix.Mkfifo(p, 0o600) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"link": func(p string) error {
			return errors.Join(os.Rename(p+".was", other), os.Symlink(other, p))
		},
	}
}

// A FIFO in place of a record kept the daemon from starting, and a link in place of any
// file was followed. Such an overlay is refused, and all others are served.
func TestUnfitFiles(t *testing.T) {
	for _, file := range []string{recordFile, dataFile, liveFile, flushedFile} {
		for what, put := range misfits(t) {
			for _, boot := range []string{"same", "other"} {
				t.Run(fmt.Sprint(file, " ", what, " ", boot), func(t *testing.T) {
					dir := t.TempDir()
					base, b := testBase(1, 4*BlockSize)
					s := openStore(t, dir, "same")
					o := openOverlay(t, s, base, b)
					_, err := o.WriteAt([]byte("kept"), 5)
					must(t, errors.Join(err, o.Sync()))
					o.Close()
					path := filepath.Join(dir, testKey.String(), file)
					must(t, os.Rename(path, path+".was"))
					must(t, put(path))

					s = openStore(t, dir, boot) // waits for nobody
					var unfit *statefile.UnfitError
					if o, err := s.Open(testKey, b, bytes.NewReader(base), nil); !errors.As(err, &unfit) || !strings.Contains(err.Error(), path) {
						t.Errorf("Open: %v", err)
						if err == nil {
							o.Close()
						}
					}
					if file != dataFile && file != flushedFile && !s.Touched(testKey) {
						t.Error("it counts as untouched")
					}
					other := testKey
					other.Export = "other"
					o, err = s.Open(other, b, bytes.NewReader(base), nil)
					must(t, err)
					wantContent(t, o, base, "another overlay")
					o.Close()
					// What an operator orders for it.
					must(t, s.Remove(testKey))
					if l := s.List(); len(l) != 1 {
						t.Errorf("List() = %v", l)
					}
				})
			}
		}
	}
}

// A record too large to be one is not read to its end.
func TestEndlessRecord(t *testing.T) {
	dir := t.TempDir()
	base, b := testBase(1, 4*BlockSize)
	openOverlay(t, openStore(t, dir, "k"), base, b).Close()
	must(t, os.Truncate(filepath.Join(dir, testKey.String(), recordFile), 1<<40))
	var unfit *statefile.UnfitError
	if _, err := openStore(t, dir, "k").Open(testKey, b, bytes.NewReader(base), nil); !errors.As(err, &unfit) {
		t.Errorf("%v", err)
	}
}

// A record that came while the store was open is not made way for.
func TestCreateOverARecord(t *testing.T) {
	dir := t.TempDir()
	base, b := testBase(1, 4*BlockSize)
	late := openStore(t, dir, "k")
	o := openOverlay(t, openStore(t, dir, "k"), base, b)
	defer o.Close()
	if _, err := late.Open(testKey, b, bytes.NewReader(base), nil); err == nil {
		t.Error("made anew over what is there")
	}
	if _, err := o.WriteAt([]byte("x"), 0); err != nil {
		t.Error(err)
	}
	if l := openStore(t, dir, "k").List(); len(l) != 1 || l[0].Base != b {
		t.Errorf("List() = %v", l)
	}
}
