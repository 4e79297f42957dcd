package cow

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRecordSurvives(t *testing.T) {
	dir := t.TempDir()
	base, b := testBase(1, 10*BlockSize)
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	s, err := OpenStore(dir, Config{BootID: "k", Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	note := map[string]string{"image": "image.arch", "<&>": "é"}
	o, err := s.Open(testKey, b, bytes.NewReader(base), note)
	if err != nil {
		t.Fatal(err)
	}
	o.Close()
	want := []Record{{Key: testKey, Base: b, Created: at, Note: note, ServerBoot: "k", ServerMount: mountedAt(t, dir)}}
	if diff := cmp.Diff(want, openStore(t, dir, "k").List()); diff != "" {
		t.Error(diff)
	}
}

func TestOpenOverAnotherBase(t *testing.T) {
	dir := t.TempDir()
	base, b := testBase(1, 10*BlockSize)
	s := openStore(t, dir, "k")
	openOverlay(t, s, base, b).Close()
	for _, other := range []Base{{Digest: "sha256:other", Size: b.Size}, {Digest: b.Digest, Size: b.Size + BlockSize}} {
		if _, err := s.Open(testKey, other, bytes.NewReader(base), nil); !errors.Is(err, ErrBase) {
			t.Errorf("Open over %v: %v, want ErrBase", other, err)
		}
	}
	openOverlay(t, s, base, b).Close()
}

func TestKeysCannotLeaveTheFolder(t *testing.T) {
	s := openStore(t, t.TempDir(), "k")
	for _, k := range []Key{
		{}, {"a", "b", ""}, {"..", "b", "c"}, {"a", "..", "c"}, {"a", "b", "."}, {"a/b", "b", "c"},
		{"a", "b\x00", "c"}, {"a", "b", string(bytes.Repeat([]byte{'x'}, 129))},
	} {
		if o, err := s.Open(k, Base{}, nil, nil); err == nil {
			o.Close()
			t.Errorf("Open(%q) gave no error", k)
		}
		if err := s.Remove(k); err == nil {
			t.Errorf("Remove(%q) gave no error", k)
		}
	}
}

func TestSharedOverlayIsOne(t *testing.T) {
	base, b := testBase(1, 10*BlockSize)
	s := openStore(t, t.TempDir(), "k")
	var wg sync.WaitGroup
	got := make([]*Overlay, 8)
	for i := range got {
		wg.Go(func() { got[i] = openOverlay(t, s, base, b) })
	}
	wg.Wait()
	for i, o := range got {
		if o != got[0] {
			t.Fatal("two overlays of one key")
		}
		if i > 0 {
			o.Close()
		}
	}
	if _, err := got[0].WriteAt([]byte("still open"), 0); err != nil {
		t.Error(err)
	}
	if err := s.Remove(testKey); err == nil {
		t.Error("an open overlay was removed")
	}
	got[0].Close()
	if err := s.Remove(testKey); err != nil {
		t.Error(err)
	}
	if err := s.Remove(testKey); err != nil {
		t.Errorf("removing what is gone: %v", err)
	}
	if l := s.List(); len(l) != 0 {
		t.Errorf("List() = %v", l)
	}
	openStore(t, s.dir, "k")
	if left, _ := filepath.Glob(filepath.Join(s.dir, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	wantContent(t, openOverlay(t, s, base, b), base, "made anew")
}

// A machine whose boot was declared over does not get a fresh disk under its
// mounted file system, not even after a restart.
func TestRetired(t *testing.T) {
	dir := t.TempDir()
	base, b := testBase(1, 10*BlockSize)
	s := openStore(t, dir, "k")
	o := openOverlay(t, s, base, b)
	if _, err := o.WriteAt(make([]byte, 2*BlockSize), 0); err != nil {
		t.Fatal(err)
	}
	s.Retire(testKey)
	if _, err := s.Open(testKey, b, bytes.NewReader(base), nil); !errors.Is(err, ErrRetired) {
		t.Errorf("Open: %v, want ErrRetired", err)
	}
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if s.Bytes(testKey) == 0 {
		t.Error("the data of an overlay in use is gone")
	}
	if _, err := o.WriteAt([]byte("x"), 0); err != nil {
		t.Errorf("who has it open keeps it: %v", err)
	}
	s2 := openStore(t, dir, "k") // killed and started
	if _, err := s2.Open(testKey, b, bytes.NewReader(base), nil); !errors.Is(err, ErrRetired) {
		t.Errorf("Open after a restart: %v, want ErrRetired", err)
	}
	if got := s2.Bytes(testKey); got != 0 {
		t.Errorf("%d bytes are left after a restart", got)
	}
	o.Close()
}

func TestOldRetiredRecordsAreForgotten(t *testing.T) {
	dir := t.TempDir()
	base, b := testBase(1, BlockSize)
	at := time.Unix(0, 0)
	s, err := OpenStore(dir, Config{BootID: "k", Now: func() time.Time { at = at.Add(time.Minute); return at }})
	if err != nil {
		t.Fatal(err)
	}
	for i := range keepRetired + 3 {
		k := testKey
		k.Instance = fmt.Sprintf("boot-%d", i)
		o, err := s.Open(k, b, bytes.NewReader(base), nil)
		if err != nil {
			t.Fatal(err)
		}
		o.Close()
		s.Retire(k)
	}
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	l := openStore(t, dir, "k").List()
	if len(l) != keepRetired {
		t.Fatalf("%d records are left, want %d", len(l), keepRetired)
	}
	for _, r := range l {
		if r.Instance == "boot-0" || r.Instance == "boot-2" {
			t.Errorf("%s is left, newer ones are not", r.Instance)
		}
	}
}

// The newest record lists what the old ones said. They were forgotten although it could not
// be put on disk, and after a crash nobody knew.
func TestNothingIsForgottenForARecordThatIsNotSaved(t *testing.T) {
	dir := t.TempDir()
	base, b := testBase(1, BlockSize)
	at := time.Unix(0, 0)
	s, err := OpenStore(dir, Config{BootID: "k", Now: func() time.Time { at = at.Add(time.Minute); return at }})
	must(t, err)
	var k Key
	make := func(machine string, n int) {
		for i := range n {
			k = testKey
			k.Machine, k.Instance = machine, fmt.Sprintf("boot-%02d", i)
			o, err := s.Open(k, b, bytes.NewReader(base), nil)
			must(t, err)
			o.Close()
			s.Retire(k)
		}
	}
	make("other", keepRetired+3)
	make(testKey.Machine, keepRetired+3)
	s.Note(k, "had", "all of them")
	pending := filepath.Join(dir, k.String(), pendingFile)
	must(t, os.Mkdir(pending, 0o700))
	if err := s.Sweep(); err == nil {
		t.Error("it could be saved")
	}
	if l := s.Of(testKey.Machine, ""); len(l) != keepRetired+3 {
		t.Errorf("%d records are left, want all", len(l))
	}
	if l := s.Of("other", ""); len(l) != keepRetired {
		t.Errorf("%d records of another machine are left, want %d", len(l), keepRetired)
	}
	must(t, os.Remove(pending))
	must(t, s.Sweep(Key{testKey.Machine, "boot-00", testKey.Export}))
	if l := s.Of(testKey.Machine, ""); len(l) != keepRetired+3 {
		t.Errorf("%d records are left, and the newest was not saved", len(l))
	}
	must(t, s.Sweep())
	l := openStore(t, dir, "k").Of(testKey.Machine, "")
	if len(l) != keepRetired || !slices.ContainsFunc(l, func(r Record) bool { return r.Note["had"] == "all of them" }) {
		t.Errorf("left: %v", l)
	}
}

func TestWhatCannotBeReadIsKeptAndNotOpened(t *testing.T) {
	dir := t.TempDir()
	base, b := testBase(1, 10*BlockSize)
	openOverlay(t, openStore(t, dir, "k"), base, b).Close()
	path := filepath.Join(dir, testKey.String(), recordFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string][]byte{
		"empty": {}, "cut": whole[:len(whole)/2],
		"flipped": bytes.Replace(whole, []byte("arch"), []byte("arcn"), 1),
		"newer":   bytes.Replace(whole, []byte(`"version":2`), []byte(`"version":9`), 1),
	} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s := openStore(t, dir, "k")
		if _, err := s.Open(testKey, b, bytes.NewReader(base), nil); err == nil {
			t.Errorf("%s: opened", name)
		}
		if s.Bytes(testKey) == 0 {
			if _, err := os.Stat(filepath.Join(dir, testKey.String(), dataFile)); err != nil {
				t.Errorf("%s: the data is gone: %v", name, err)
			}
		}
		if l := s.List(); len(l) != 1 || l[0].Key != testKey {
			t.Errorf("%s: List() = %v", name, l)
		}
	}
	// A boot that is thought to be over takes nothing of it along: it once went with all.
	damaged, err := os.ReadFile(path)
	must(t, err)
	s := openStore(t, dir, "k")
	s.Retire(testKey)
	s.Forget(testKey)
	must(t, s.Sweep())
	if l := s.List(); len(l) != 1 || l[0].Retired {
		t.Errorf("List() = %+v", l)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, damaged) {
		t.Errorf("its record: %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(dir, testKey.String(), dataFile)); err != nil {
		t.Error(err)
	}
	must(t, s.Remove(testKey)) // an order does
	if l := s.List(); len(l) != 0 {
		t.Errorf("List() = %v", l)
	}
}

// A process killed while it made an overlay leaves a folder without a record.
func TestHalfMadeNeverWas(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, testKey.String()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := makeFiles(openTestFolder(t, filepath.Join(dir, testKey.String())), Record{Key: testKey, Base: Base{Size: 10 * BlockSize}}, recordVersion); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, dir, "k")
	if l := s.List(); len(l) != 0 {
		t.Errorf("List() = %v", l)
	}
	base, b := testBase(1, 20*BlockSize)
	wantContent(t, openOverlay(t, s, base, b), base, "made anew")
}

func TestMissingFilesAreAnError(t *testing.T) {
	for _, f := range []string{dataFile, liveFile, flushedFile} {
		for _, boot := range []string{"same", "other"} {
			dir := t.TempDir()
			base, b := testBase(1, 20*BlockSize)
			openOverlay(t, openStore(t, dir, "same"), base, b).Close()
			if err := os.Remove(filepath.Join(dir, testKey.String(), f)); err != nil {
				t.Fatal(err)
			}
			if _, err := openStore(t, dir, boot).Open(testKey, b, bytes.NewReader(base), nil); err == nil {
				t.Errorf("without %s, %s server boot: opened", f, boot)
			}
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	dir := f.TempDir()
	if err := writeRecord(openTestFolder(f, dir), Record{Key: testKey, Base: Base{Digest: "sha256:0", Size: 4096}}, recordVersion); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"version":1,"crc32c":0,"record":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, err := parseRecord(b)
		if err != nil {
			return
		}
		if err := r.Key.check(); err != nil || r.Base.Size < 0 {
			t.Errorf("accepted %+v", r)
		}
	})
}

// What is removed leaves no folders behind, and takes none away from what is made beside
// it.
func TestRemovedOverlaysLeaveNoFolders(t *testing.T) {
	base, b := testBase(1, 4*BlockSize)
	s := openStore(t, t.TempDir(), "k")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			k := testKey
			k.Export = fmt.Sprintf("e%d", i) // in the folder of the others
			for range 50 {
				o, err := s.Open(k, b, bytes.NewReader(base), nil)
				if err != nil {
					t.Error(err)
					return
				}
				o.Close()
				if err := s.Remove(k); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if left, _ := filepath.Glob(filepath.Join(s.dir, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Those that go anyway push out none that is to be remembered.
func TestForgottenOnesCountForNothing(t *testing.T) {
	base, b := testBase(1, BlockSize)
	at := time.Unix(0, 0)
	s, err := OpenStore(t.TempDir(), Config{BootID: "k", Now: func() time.Time { at = at.Add(time.Minute); return at }})
	must(t, err)
	for i := range keepRetired + 2 {
		k := testKey
		k.Instance = fmt.Sprintf("boot-%02d", i)
		o, err := s.Open(k, b, bytes.NewReader(base), nil)
		must(t, err)
		o.Close()
		s.Retire(k)
		if i > 0 {
			s.Forget(k)
		}
	}
	must(t, s.Sweep())
	if l := s.Of(testKey.Machine, ""); len(l) != 1 || l[0].Instance != "boot-00" {
		t.Errorf("left: %v", l)
	}
}

// A record that is forgotten goes with the next sweep, unless its overlay may be opened.
func TestForget(t *testing.T) {
	base, b := testBase(1, 4*BlockSize)
	s := openStore(t, t.TempDir(), "k")
	o := openOverlay(t, s, base, b)
	step := func(left int, when string) {
		t.Helper()
		s.Forget(testKey)
		if err := s.Sweep(); err != nil {
			t.Fatal(err)
		}
		if l := s.List(); len(l) != left {
			t.Errorf("%s: %v", when, l)
		}
	}
	step(1, "not retired")
	s.Retire(testKey)
	step(1, "in use")
	o.Close()
	step(0, "over")
	if left, _ := filepath.Glob(filepath.Join(s.dir, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	openOverlay(t, s, base, b).Close()
	step(1, "made anew")
}

// Save said that a record is on disk while somebody else was only about to write it.
func TestSaveWaitsForWhoIsAboutToSave(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, "k")
	base, b := testBase(1, 4*BlockSize)
	openOverlay(t, s, base, b).Close()
	s.Retire(testKey)
	sl := s.acquire(testKey) // as Sweep does
	s.mu.Lock()
	sl.unsaved = false
	s.mu.Unlock()
	saved := make(chan error, 1)
	go func() { saved <- s.Save(testKey) }()
	select {
	case err := <-saved:
		t.Errorf("it waits for nobody, and says %v", err)
		saved <- nil
	case <-time.After(50 * time.Millisecond): // for who does not wait
	}
	s.mu.Lock()
	sl.unsaved = true // that one failed
	s.mu.Unlock()
	s.release(sl)
	must(t, <-saved)
	if r, ok := openStore(t, dir, "k").Lookup(testKey); !ok || !r.Retired {
		t.Errorf("on disk: %+v", r)
	}
}

// An overlay whose record could not be written kept those after it from being saved.
func TestSaveGoesOnAfterAnError(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, "k")
	base, b := testBase(1, 4*BlockSize)
	other := testKey
	other.Export = "other"
	openOverlay(t, s, base, b).Close()
	o, err := s.Open(other, b, bytes.NewReader(base), nil)
	must(t, err)
	o.Close()
	must(t, os.Mkdir(filepath.Join(dir, testKey.String(), pendingFile), 0o700))
	s.Retire(testKey)
	s.Retire(other)
	if err := s.Save(testKey, other); err == nil || !strings.Contains(err.Error(), testKey.String()) {
		t.Errorf("Save: %v", err)
	}
	if r, ok := openStore(t, dir, "k").Lookup(other); !ok || !r.Retired {
		t.Errorf("on disk: %+v", r)
	}
}
