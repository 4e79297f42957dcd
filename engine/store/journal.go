package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/statefile"
)

// Steps of an attempt, as the journal has them. Each is on disk before what it
// names happens, but for the last four, which say that it has.
const (
	stepBegan     = "began"     // with the number that the generation will have
	stepPut       = "put"       // a blob goes into the content store
	stepBuilt     = "built"     // a recipe gets its artifact, and so its blobs a name
	stepRecorded  = "recorded"  // the generation is the current one
	stepPublished = "published" // every provider answers from it
	stepRetired   = "retired"   // what nobody needs was dropped
	stepAborted   = "aborted"   // everything is as it was
)

// journalEntry is one frame of the journal. Readers ignore members and steps that
// they do not know.
type journalEntry struct {
	Step string `json:"step"`
	// Attempt is set in every step but put and built: a build belongs to no attempt
	// in particular, and may outlive the one that began it.
	Attempt *Attempt `json:"attempt,omitempty"`
	Blob    string   `json:"blob,omitempty"`   // of put: its digest
	Kind    string   `json:"kind,omitempty"`   // of built: artifact, base
	Recipe  string   `json:"recipe,omitempty"` // of built
}

// Attempt is what the journal knows of the making of a generation.
type Attempt struct {
	Generation uint64    `json:"generation"` // that it makes
	Base       uint64    `json:"base"`       // that was served when it began; 0: none
	Trigger    string    `json:"trigger,omitempty"`
	Revision   string    `json:"revision,omitempty"`
	Began      time.Time `json:"began,omitzero"`
}

// Unfinished is an attempt that the end of a process cut off.
type Unfinished struct {
	Attempt
	// Recorded says that it got through all the same: its generation is current, and
	// serving it, as every start does, completes it. Otherwise nothing of it is left,
	// but for images that were built to their end.
	Recorded bool
}

// journal is the file "journal": what is under way, so that a start knows what the
// process before it left half done. It never says what is current: that is said by
// the file "current" alone. Safe for concurrent use; a nil *journal takes every
// entry and keeps none.
type journal struct {
	path    string
	replace func(path string, data []byte) error // atomically and durably
	log     *slog.Logger

	mu   sync.Mutex // guards all below
	f    *os.File   // nil: not open
	over bool       // it was closed
	size int64      // up to which the file has whole frames
	// torn says that there may be bytes behind size: an append has failed.
	torn bool
	open map[uint64]openAttempt // begun, and neither retired nor aborted
	// aside are attempts that were not recorded and whose line is not in the audit log
	// yet, while a later one has taken their number, the oldest first.
	aside []Attempt
	loose map[string]bool // digests of blobs that were put and that nothing names yet
}

type openAttempt struct {
	Attempt
	step string // reached last
}

// newJournal makes the journal of a state directory. It opens no file: on a full
// disk what is recorded is served all the same.
func newJournal(dir string, replace func(string, []byte) error, log *slog.Logger) *journal {
	return &journal{path: filepath.Join(dir, "journal"), replace: replace, log: log, open: map[uint64]openAttempt{}, loose: map[string]bool{}}
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.over = true
	if j.f == nil {
		return nil
	}
	err := j.f.Close()
	j.f = nil
	return err
}

// reopen opens what the name stands for now, and makes it when there is nothing. The
// caller holds mu.
func (j *journal) reopen() error {
	if j.over {
		return errJournalClosed
	}
	if j.f != nil {
		j.f.Close()
		j.f = nil
	}
	if err := failpoint.Hit("store.journal.open"); err != nil {
		return err
	}
	f, err := statefile.Open(j.path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(j.path)); err != nil { // it may be new
		f.Close()
		return err
	}
	j.f = f
	return nil
}

var errJournalClosed = errors.New("the journal is closed")

// append puts an entry on stable storage. When it fails, the journal is as before.
// The caller holds mu.
func (j *journal) append(e journalEntry) error {
	if j.f == nil {
		if err := j.reopen(); err != nil {
			return err
		}
	}
	payload, err := json.Marshal(e)
	if err != nil {
		return err
	}
	frame, err := appendFrame(nil, payload)
	if err != nil {
		return err
	}
	if j.torn { // or the next reader would take it for damage
		if err := j.f.Truncate(j.size); err != nil {
			return err
		}
		j.torn = false
	}
	if err := failpoint.Hit("store.journal.write"); err != nil {
		return err
	}
	j.torn = true
	if failpoint.Enabled { // in two halves, to be cut off in between
		half := len(frame) / 2
		if _, err := j.f.WriteAt(frame[:half], j.size); err != nil {
			return err
		}
		if err := failpoint.Hit("store.journal.torn"); err != nil {
			return err
		}
	}
	if _, err := j.f.WriteAt(frame, j.size); err != nil {
		return err
	}
	if err := failpoint.Hit("store.journal.sync"); err != nil {
		return err
	}
	if err := j.f.Sync(); err != nil {
		return err
	}
	if err := failpoint.Hit("store.journal.synced"); err != nil {
		return err
	}
	j.torn = false
	j.size += int64(len(frame))
	return nil
}

// mostAside bounds the attempts that wait for the audit log: the oldest goes.
const mostAside = 256

// setAside keeps what stands in the way of an attempt that begins. The caller holds mu.
func (j *journal) setAside(a Attempt) {
	old, ok := j.open[a.Generation]
	if !ok || old.step != stepBegan || old.same(a) {
		return
	}
	j.aside = append(slices.Clip(j.aside), old.Attempt)
	j.aside = j.aside[max(0, len(j.aside)-mostAside):]
}

// same reports whether a and b are one attempt.
func (a Attempt) same(b Attempt) bool {
	return a.Generation == b.Generation && a.Began.Equal(b.Began)
}

// begin notes that an attempt is about to prepare.
func (j *journal) begin(a Attempt) error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.append(journalEntry{Step: stepBegan, Attempt: &a}); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.setAside(a)
	j.open[a.Generation] = openAttempt{a, stepBegan}
	return nil
}

// put notes that a blob is about to be in the store.
func (j *journal) put(digest string) error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.append(journalEntry{Step: stepPut, Blob: digest}); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.loose[digest] = true
	return nil
}

// built notes that a recipe is about to be recorded.
func (j *journal) built(kind, recipe string) error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.append(journalEntry{Step: stepBuilt, Kind: kind, Recipe: recipe}); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// named takes note that a record or a recipe on disk names these blobs, or that
// they are gone.
func (j *journal) named(blobs ...provider.Blob) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, b := range blobs {
		delete(j.loose, b.Digest)
	}
}

// reached notes how far an attempt has come. It cannot fail: there is no way back
// then, and a start that finds the entry missing only does again what was done.
func (j *journal) reached(generation uint64, step string) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	a, ok := j.open[generation]
	if !ok || a.step == step {
		return
	}
	a.step = step
	j.open[generation] = a
	ended := step == stepRetired || step == stepAborted
	if ended {
		delete(j.open, generation)
	}
	err := j.append(journalEntry{Step: step, Attempt: &a.Attempt})
	if ended {
		err = errors.Join(err, j.compact())
	}
	if err != nil {
		j.log.Warn("the journal cannot be written", "step", step, "generation", generation, "error", err)
	}
}

// abort ends an attempt that was not recorded.
func (j *journal) abort(generation uint64) {
	if j == nil {
		return
	}
	j.mu.Lock()
	a, ok := j.open[generation]
	j.mu.Unlock()
	if ok && a.step == stepBegan {
		j.reached(generation, stepAborted)
	}
}

// settled ends an attempt that was not recorded, whose line is in the audit log.
func (j *journal) settled(a Attempt) {
	if j == nil {
		return
	}
	j.mu.Lock()
	if i := slices.IndexFunc(j.aside, a.same); i >= 0 {
		j.aside = slices.Delete(j.aside, i, i+1)
		err := errors.Join(j.append(journalEntry{Step: stepAborted, Attempt: &a}), j.compact())
		j.mu.Unlock()
		if err != nil {
			j.log.Warn("the journal cannot be written", "step", stepAborted, "generation", a.Generation, "error", err)
		}
		return
	}
	open := j.open[a.Generation]
	j.mu.Unlock()
	if open.same(a) {
		j.abort(a.Generation)
	}
}

// retired ends the attempts whose generation was recorded.
func (j *journal) retired() {
	if j == nil {
		return
	}
	j.mu.Lock()
	var list []uint64
	for n, a := range j.open {
		if a.step == stepRecorded || a.step == stepPublished {
			list = append(list, n)
		}
	}
	j.mu.Unlock()
	slices.Sort(list)
	for _, n := range list {
		j.reached(n, stepRetired)
	}
}

// compact drops what is settled. The caller holds mu.
func (j *journal) compact() error {
	if j.f == nil {
		if err := j.reopen(); err != nil {
			return err
		}
	}
	if err := failpoint.Hit("store.journal.compact"); err != nil {
		return err
	}
	if len(j.open) == 0 && len(j.aside) == 0 && len(j.loose) == 0 {
		if err := j.f.Truncate(0); err != nil {
			return err
		}
		j.size, j.torn = 0, false
		if err := failpoint.Hit("store.journal.truncated"); err != nil {
			return err
		}
		return j.f.Sync()
	}
	var data []byte
	add := func(e journalEntry) error {
		payload, err := json.Marshal(e)
		if err == nil {
			data, err = appendFrame(data, payload)
		}
		return err
	}
	for i := range j.aside { // before those that took their numbers
		if err := add(journalEntry{Step: stepBegan, Attempt: &j.aside[i]}); err != nil {
			return err
		}
	}
	for _, n := range slices.Sorted(maps.Keys(j.open)) {
		a := j.open[n]
		if err := add(journalEntry{Step: stepBegan, Attempt: &a.Attempt}); err != nil {
			return err
		}
		if a.step == stepBegan {
			continue
		}
		if err := add(journalEntry{Step: a.step, Attempt: &a.Attempt}); err != nil {
			return err
		}
	}
	for _, digest := range slices.Sorted(maps.Keys(j.loose)) {
		if err := add(journalEntry{Step: stepPut, Blob: digest}); err != nil {
			return err
		}
	}
	err := j.replace(j.path, data)
	// Even when that failed: it may have been after the rename.
	if err := j.reopen(); err != nil {
		return err
	}
	now, rerr := readState(j.path, maxJournal)
	if rerr != nil {
		return rerr
	}
	if bytes.Equal(now, data) {
		j.size, j.torn = int64(len(data)), false
	}
	return err
}
