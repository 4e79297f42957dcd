package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

func putText(t *testing.T, s *Store, text string) provider.Blob {
	t.Helper()
	b, err := s.Content().Put(t.Context(), strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustBegin(t *testing.T, s *Store) uint64 {
	t.Helper()
	n, err := s.Next()
	if err == nil {
		err = s.Begin(Attempt{Generation: n, Base: n - 1, Trigger: TriggerCommit, Revision: strings.Repeat("a", 40)})
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func journalOf(t *testing.T, dir string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "journal"))
	if err != nil && !missing(err) {
		t.Fatal(err)
	}
	return b
}

// die ends a store as a crash does: what is on disk stays as it is.
func die(t *testing.T, s *Store) {
	t.Helper()
	dir := s.dir
	keep := journalOf(t, dir)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(keep, journalOf(t, dir)) {
		t.Fatal("Close writes the journal")
	}
}

func has(s *Store, b provider.Blob) bool { return s.Content().Has(b) }

// What an attempt that was never recorded put into the store goes at the next start;
// what a recipe names stays, and so does all that was there before.
func TestCutOffAttemptLeavesNoBlob(t *testing.T) {
	dir := t.TempDir()
	old, err := OpenContent(dir) // as a program without a journal left it
	if err == nil {
		_, err = old.Put(t.Context(), strings.NewReader("nobody's, but from before"))
	}
	if err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, dir, Options{})
	n := mustBegin(t, s)
	again := putText(t, s, "nobody's, but from before") // is there already
	loose := putText(t, s, "half of an image")
	base := putText(t, s, "a base system")
	root, kernel, initrd := putText(t, s, "root"), putText(t, s, "kernel"), putText(t, s, "initrd")
	recipe := "sha256:" + strings.Repeat("1", 64)
	if err := s.Content().SetBase("sha256:"+strings.Repeat("2", 64), base); err != nil {
		t.Fatal(err)
	}
	built := provider.Artifact{Recipe: recipe, Root: root, Kernel: kernel, Initrd: initrd}
	if err := s.Content().SetArtifact(built); err != nil {
		t.Fatal(err)
	}
	die(t, s)

	s = mustOpen(t, dir, Options{})
	if has(s, loose) {
		t.Error("half of an image is still there")
	}
	for _, b := range []provider.Blob{again, base, root, kernel, initrd} {
		if !has(s, b) {
			t.Errorf("%s is gone, and should not be", b.Digest)
		}
	}
	if _, ok := s.Content().Artifact(recipe); !ok {
		t.Error("a finished image is to be built again")
	}
	want := []Unfinished{{Attempt: Attempt{Generation: n, Base: n - 1, Trigger: TriggerCommit, Revision: strings.Repeat("a", 40)}}}
	got := s.Unfinished()
	for i := range got {
		if got[i].Began.IsZero() {
			t.Error("nobody knows when it began")
		}
		got[i].Began = want[i].Began
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// Until the audit log has it.
	die(t, s)
	if s = mustOpen(t, dir, Options{}); len(s.Unfinished()) != 1 {
		t.Errorf("then %+v", s.Unfinished())
	}
	s.Aborted(n)
	if b := journalOf(t, dir); len(b) != 0 {
		t.Errorf("the journal is not empty: %q", b)
	}
	die(t, s)
	if s = mustOpen(t, dir, Options{}); len(s.Unfinished()) != 0 {
		t.Error("the attempt is told of twice")
	}
}

// A generation that was recorded is completed, not undone; its blobs stay.
func TestCutOffBehindTheRecord(t *testing.T) {
	for _, published := range []bool{false, true} {
		t.Run(fmt.Sprint("published ", published), func(t *testing.T) {
			dir := t.TempDir()
			s := mustOpen(t, dir, Options{})
			n := mustBegin(t, s)
			rec := sampleRecord(0)
			loader := putText(t, s, "a loader")
			for addr := range rec.Blobs {
				rec.Blobs[addr]["loader"] = loader
			}
			large := strings.Repeat("x", largeFile)
			rec.Files["large.csv"] = []byte(large)
			mustRecord(t, s, rec)
			if rec.Number != n {
				t.Fatalf("generation %d, want %d", rec.Number, n)
			}
			if published {
				s.Published(n)
			}
			die(t, s)

			s = mustOpen(t, dir, Options{})
			if u := s.Unfinished(); len(u) != 1 || !u[0].Recorded || u[0].Generation != n {
				t.Fatalf("unfinished: %+v", u)
			}
			if len(rec.Blobs) > 0 && !has(s, loader) {
				t.Error("a blob of the current generation is gone")
			}
			if got := mustCurrent(t, s); string(got.Files["large.csv"]) != large {
				t.Error("a file of the current generation is gone")
			}
			if len(journalOf(t, dir)) == 0 {
				t.Error("nobody would know that it is not completed")
			}
			s.Published(n)
			s.Retired()
			if b := journalOf(t, dir); len(b) != 0 {
				t.Errorf("the journal is not empty: %q", b)
			}
		})
	}
}

// The rename of "current" is what counts, not what the journal says of it.
func TestRecordedBeforeTheJournalSaysSo(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	n := mustBegin(t, s)
	began := journalOf(t, dir)
	mustRecord(t, s, sampleRecord(0))
	die(t, s)
	if err := os.WriteFile(filepath.Join(dir, "journal"), began, 0o640); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, Options{})
	if u := s.Unfinished(); len(u) != 1 || !u[0].Recorded || u[0].Generation != n {
		t.Fatalf("unfinished: %+v", u)
	}
}

func TestAbortedAttemptsAreSettled(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	n := mustBegin(t, s)
	s.Aborted(n)
	s.Aborted(n)
	if b := journalOf(t, dir); len(b) != 0 {
		t.Errorf("the journal is not empty: %q", b)
	}
	// What it put stays known until somebody names it.
	n = mustBegin(t, s)
	loose := putText(t, s, "a loader of a commit that is refused")
	s.Aborted(n)
	die(t, s)
	s = mustOpen(t, dir, Options{})
	if has(s, loose) || len(s.Unfinished()) != 0 {
		t.Errorf("the loader is there: %v, unfinished: %v", has(s, loose), s.Unfinished())
	}
	n = mustBegin(t, s)
	named := putText(t, s, "a loader of a commit that is refused")
	s.Aborted(n)
	rec := sampleRecord(0)
	rec.Artifacts = map[string]provider.Artifact{"r": {Root: named, Kernel: named, Initrd: named}}
	mustBegin(t, s)
	mustRecord(t, s, rec)
	s.Aborted(rec.Number) // too late
	s.Retired()
	if b := journalOf(t, dir); len(b) != 0 {
		t.Errorf("the journal is not empty: %q", b)
	}
	die(t, s)
	if s = mustOpen(t, dir, Options{}); !has(s, named) {
		t.Error("a blob of the current generation is gone")
	}
}

// Whatever happened to the last entry, the start goes on: what was before it counts.
func TestTornJournal(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	mustRecord(t, s, sampleRecord(0))
	mustBegin(t, s)
	first := putText(t, s, "first")
	head := len(journalOf(t, dir))
	last := putText(t, s, "last")
	whole := journalOf(t, dir)
	die(t, s)
	torn := func(what string, b []byte) {
		t.Helper()
		for _, blob := range []provider.Blob{first, last} {
			path, err := s.Content().Path(blob.Digest)
			if err == nil {
				err = os.WriteFile(path, bytes.Repeat([]byte{'x'}, int(blob.Size)), 0o444)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "journal"), b, 0o640); err != nil {
			t.Fatal(err)
		}
		s := mustOpen(t, dir, Options{})
		defer s.Close()
		if has(s, first) || !has(s, last) {
			t.Errorf("%s: the first is there: %v, the last: %v", what, has(s, first), has(s, last))
		}
		if err := s.Damage(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if got := mustCurrent(t, s); got.Number != 1 || len(s.Unfinished()) != 1 {
			t.Errorf("%s: generation %d, unfinished: %+v", what, got.Number, s.Unfinished())
		}
		// And it can be written on; what was unfinished waits for its line meanwhile.
		n := mustBegin(t, s)
		s.Aborted(n)
		if b := journalOf(t, dir); len(b) == 0 {
			t.Errorf("%s: the journal has lost an attempt", what)
		}
		for _, u := range s.Unfinished() {
			s.Settled(u.Attempt)
		}
		if b := journalOf(t, dir); len(b) != 0 {
			t.Errorf("%s: the journal is not empty: %q", what, b)
		}
	}
	for n := head; n < len(whole); n++ {
		torn(fmt.Sprintf("the first %d bytes", n), whole[:n])
	}
	for at := head; at < len(whole); at++ {
		b := bytes.Clone(whole)
		b[at] ^= 1 << (at % 8) // every bit of every byte: see TestTornLastFrame
		torn(fmt.Sprintf("byte %d", at), b)
	}
}

func TestDamagedJournalIsTold(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	mustBegin(t, s)
	head := len(journalOf(t, dir))
	first := putText(t, s, "first")
	last := putText(t, s, "last")
	die(t, s)
	b := journalOf(t, dir)
	b[head+frameHeader+3] ^= 4
	if err := os.WriteFile(filepath.Join(dir, "journal"), b, 0o640); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, Options{})
	var damage *DamagedError
	if err := s.Damage(); !errors.As(err, &damage) || damage.Path != filepath.Join(dir, "journal") {
		t.Errorf("damage: %v", err)
	}
	if !has(s, first) || has(s, last) {
		t.Errorf("the first is there: %v, the last: %v", has(s, first), has(s, last))
	}
	if n := mustBegin(t, s); n == 0 {
		t.Error("no attempt can begin")
	}
}

// A disk that is full in the middle of an entry leaves no torn one before the next.
func TestFailedAppendLeavesNoTrace(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	n := mustBegin(t, s)
	j := s.journal
	j.mu.Lock()
	// As a short write leaves it.
	if _, err := j.f.WriteAt([]byte(frameMagic+"\x00\x00"), j.size); err != nil {
		t.Fatal(err)
	}
	j.torn = true
	j.mu.Unlock()
	putText(t, s, "next")
	payloads, lost, cut := readFrames(journalOf(t, dir))
	if len(payloads) != 2 || lost != 0 || cut != 0 {
		t.Errorf("%d entries, %d bytes lost, %d cut", len(payloads), lost, cut)
	}
	s.Aborted(n)
}

// When a record cannot be read, nobody knows what it needs: nothing goes.
func TestNothingGoesWhileARecordIsDamaged(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	mustRecord(t, s, sampleRecord(0))
	mustRecord(t, s, sampleRecord(0))
	mustBegin(t, s)
	blob := putText(t, s, "perhaps the damaged record names it")
	die(t, s)
	if err := os.WriteFile(s.recordPath(1), []byte("{"), 0o640); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, Options{})
	if !has(s, blob) {
		t.Error("the blob is gone")
	}
	if len(journalOf(t, dir)) == 0 {
		t.Error("nobody will ever know of the blob again")
	}
}

func TestReadOnlyStoreLeavesTheJournalAlone(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	mustBegin(t, s)
	loose := putText(t, s, "half of an image")
	before := journalOf(t, dir)
	ro, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := ro.Begin(Attempt{Generation: 9}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Begin: %v", err)
	}
	ro.Published(1)
	ro.Aborted(1)
	ro.Retired()
	if !bytes.Equal(before, journalOf(t, dir)) || !has(s, loose) {
		t.Error("a reader changed something")
	}
}
