package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// maxJournal bounds how much of the journal is read, in bytes. It is compacted
// whenever an attempt ends; what is longer is not ours.
const maxJournal = 16 << 20

// read gives the entries of the journal, and has what is added follow the last of
// them. lost and cut are those of readFrames; an entry that is whole and that no
// program of ours wrote is lost. It is called before anything is added.
func (j *journal) read() (list []journalEntry, lost, cut int, err error) {
	f, err := openState(j.path)
	if missing(err) {
		return nil, 0, 0, nil
	}
	if err != nil {
		return nil, 0, 0, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxJournal))
	if err != nil {
		return nil, 0, 0, err
	}
	payloads, lost, cut := readFrames(b)
	j.mu.Lock()
	j.size, j.torn = int64(len(b)-cut), true
	j.mu.Unlock()
	for _, p := range payloads {
		var e journalEntry
		if json.Unmarshal(p, &e) != nil {
			lost += len(p)
			continue
		}
		list = append(list, e)
	}
	return list, lost, cut, nil
}

// recover takes away what a process that was killed in the middle of an attempt
// left in the content store, and finds out which attempts that were. Scratch files
// and records that never became current are gone already. A blob goes when the
// journal says that it was being put, and neither a record nor a recipe names it:
// then nobody was ever given it. Images that were built to their end stay, as their
// recipes name them.
//
// An error keeps nothing from being served: some space is lost until the next start.
func (s *Store) recover() error {
	list, lost, cut, err := s.journal.read()
	if err != nil && !errors.As(err, new(*DamagedError)) {
		return err
	}
	aside, merr := s.makeWay(s.journal.path, maxJournal)
	if merr != nil {
		return errors.Join(err, merr)
	}
	if aside != "" {
		why := errors.New("it is far too large")
		if err != nil {
			why = errors.Unwrap(err)
		}
		s.noted(&DamagedError{Path: s.journal.path, Err: fmt.Errorf(
			"%w. It was set aside as %s, and a new one is written; nothing that is served hangs on it, but space may be lost until it is collected", why, filepath.Base(aside))})
		s.journal.mu.Lock()
		s.journal.size = 0
		s.journal.mu.Unlock()
		lost, cut = 0, 0
	}
	if lost > 0 {
		s.noted(&DamagedError{Path: s.journal.path, Err: fmt.Errorf(
			"%d bytes between its entries are not what was written; nothing that is served hangs on them, but space may be lost until it is collected", lost)})
	}
	switch {
	case cut > maxFrame+frameHeader:
		s.noted(&DamagedError{Path: s.journal.path, Err: fmt.Errorf("%d bytes at its end are more than any entry has, and are dropped", cut)})
	case cut > 0:
		s.log.Info("the last entry of the journal was being written when the process before ended", "bytes", cut)
	}
	p, perr := s.pointer()
	if perr != nil && !missing(perr) {
		s.noted(perr)
		return nil // what is current is not certain, so nothing is removed
	}
	j := s.journal
	j.mu.Lock()
	for _, e := range list {
		switch {
		case e.Step == stepPut:
			j.loose[e.Blob] = true
		case e.Attempt == nil:
		case e.Step == stepBegan, e.Step == stepRecorded, e.Step == stepPublished:
			j.setAside(*e.Attempt)
			j.open[e.Attempt.Generation] = openAttempt{*e.Attempt, e.Step}
		case e.Step == stepRetired, e.Step == stepAborted:
			if i := slices.IndexFunc(j.aside, e.Attempt.same); i >= 0 {
				j.aside = slices.Delete(j.aside, i, i+1)
				continue
			}
			delete(j.open, e.Attempt.Generation)
		}
	}
	for _, a := range j.aside {
		s.unfinished = append(s.unfinished, Unfinished{Attempt: a})
	}
	for _, n := range slices.Sorted(maps.Keys(j.open)) {
		a := j.open[n]
		u := Unfinished{Attempt: a.Attempt, Recorded: n <= p.Generation && s.hasRecord(n)}
		s.unfinished = append(s.unfinished, u)
		if !u.Recorded { // it stays in the journal until the audit log has it
			s.log.Warn("an attempt was cut off by the end of the process before; what it left is removed",
				"generation", n, "revision", a.Revision, "trigger", a.Trigger)
			continue
		}
		if a.step == stepBegan { // the rename says more than the entry that is missing
			a.step = stepRecorded
			j.open[n] = a
		}
		s.log.Info("the process before ended when a generation had just been recorded; it is completed now",
			"generation", n, "revision", a.Revision, "trigger", a.Trigger)
	}
	j.mu.Unlock()
	if err := s.dropLoose(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(list) == 0 && lost == 0 && cut == 0 && aside == "" {
		return nil
	}
	return j.compact()
}

func (s *Store) hasRecord(n uint64) bool {
	_, err := os.Stat(s.recordPath(n))
	return err == nil
}

// dropLoose removes the loose blobs that nothing names.
func (s *Store) dropLoose() error {
	if len(s.journal.loose) == 0 {
		return nil
	}
	all, err := s.numbers()
	if err != nil {
		return err
	}
	for _, n := range all {
		_, blobs, err := s.needs(n)
		if err != nil {
			return err // nobody knows what it needs
		}
		s.journal.named(blobs...)
	}
	c := s.content
	err = c.eachRecipe("artifact", func(recipe, _ string) error {
		var a provider.Artifact
		if c.readRecipe("artifact", recipe, &a) {
			s.journal.named(blobsOf(a)...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = c.eachRecipe("base", func(recipe, _ string) error {
		var b provider.Blob
		if c.readRecipe("base", recipe, &b) {
			s.journal.named(b)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, digest := range slices.Sorted(maps.Keys(s.journal.loose)) {
		if err := failpoint.Hit("store.recover.remove"); err != nil {
			return err
		}
		if path, err := c.Path(digest); err == nil {
			if err := remove(path); err != nil && !missing(err) {
				return err
			}
		}
		s.journal.named(provider.Blob{Digest: digest})
	}
	return nil
}

// Unfinished lists the attempts that the process before was in the middle of when
// it ended, oldest first. It does not change while the store is open.
func (s *Store) Unfinished() []Unfinished { return slices.Clone(s.unfinished) }

// Begin notes in the journal that an attempt is about to prepare: from here on, a
// start after the end of this process knows of it. It is on disk when Begin returns
// nil. Exactly one of Aborted, Settled and Record follows, and Published and Retired
// after Record. Until one does, the next start tells the audit log of it, also when
// another attempt has begun at the same number since.
func (s *Store) Begin(a Attempt) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writable(); err != nil {
		return err
	}
	if a.Began.IsZero() {
		a.Began = s.now()
	}
	return s.journal.begin(a)
}

// Aborted notes that the attempt at a generation has ended and left everything as
// it was. Without Begin, after Record, and a second time it does nothing.
func (s *Store) Aborted(generation uint64) {
	s.journal.abort(generation)
}

// Settled is Aborted for an attempt as it was given to Begin, or by InterruptedAudit: the
// audit log has its line. It does nothing after Record, and a second time.
func (s *Store) Settled(a Attempt) { s.journal.settled(a) }

// Published notes that every provider answers from a generation. It does nothing
// unless an attempt at it has begun and not ended.
func (s *Store) Published(generation uint64) { s.journal.reached(generation, stepPublished) }

// Retired notes that what nobody needs has been dropped, which ends every attempt
// that was recorded.
func (s *Store) Retired() { s.journal.retired() }
