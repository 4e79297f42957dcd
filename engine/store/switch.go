package store

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
)

// largeFile is the size in bytes from which a file of a record goes to the content
// store, where generations share it.
const largeFile = 64 << 10

// Next gives the number that the next generation will have. Numbers rise and are
// never used twice; those of attempts that a crash ended may be left out.
func (s *Store) Next() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next()
}

func (s *Store) next() (uint64, error) {
	all, err := s.numbers()
	if err != nil {
		return 0, fmt.Errorf("next generation: %w", err)
	}
	n := s.last
	if len(all) > 0 {
		n = max(n, all[len(all)-1])
	}
	if p, err := s.pointer(); err == nil {
		n = max(n, p.Generation, p.Taken)
	}
	return n + 1, nil
}

// Record makes rec the current generation. When it returns nil, that is on disk
// and survives a power cut; when it returns an error, the generation before is
// still current. A crash in between leaves one or the other.
//
// A Number of zero takes the next one, any other must be what Next gives. Parent
// and Created are filled in when they are zero. What else is remembered stays as it
// is, but for what remember, called once each with it, changes in the same step.
func (s *Store) Record(rec *Record, remember ...func(*Memory)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.record(rec, remember); err != nil {
		return fmt.Errorf("record generation %d: %w", rec.Number, err)
	}
	return nil
}

func (s *Store) record(rec *Record, remember []func(*Memory)) error {
	if err := s.writable(); err != nil {
		return err
	}
	if rec.Trigger == "" {
		return errNoTrigger
	}
	next, err := s.next()
	if err != nil {
		return err
	}
	if rec.Number != 0 && rec.Number != next {
		return fmt.Errorf("it is the turn of generation %d", next)
	}
	before, err := s.pointer()
	sound := err == nil
	if err != nil && !missing(err) {
		// It is about to be mended.
		s.noted(err)
		before = pointer{Memory: s.memory()}
		if cur, ok, err := s.current(); err == nil && ok {
			before.Generation = cur.Number
		}
	}
	rec.Number = next
	if rec.Parent == 0 {
		rec.Parent = before.Generation
	}
	if rec.Created.IsZero() {
		rec.Created = s.now()
	}
	disk := onDisk{inline: inline(*rec), Files: make(map[string]fileEntry, len(rec.Files))}
	for _, p := range slices.Sorted(maps.Keys(rec.Files)) {
		e := entryOf(rec.Files[p])
		if len(rec.Files[p]) >= largeFile {
			if e, err = s.content.putEntry(p, rec.Files[p]); err != nil {
				return err
			}
		}
		disk.Files[p] = e
	}
	data, err := seal(disk)
	if err != nil {
		return err
	}
	var check onDisk
	sum, err := unseal(data, &check)
	if err != nil {
		return err
	}
	path := s.recordPath(next)
	s.last = next
	if err := s.publish(path, data); err != nil {
		_ = os.Remove(path)
		return err
	}
	if sound && before.Generation > 0 {
		// What Open could not remove must not become history now.
		if err := s.dropAbove(before.Generation, next); err != nil {
			_ = os.Remove(path)
			return err
		}
	}
	after := pointer{Generation: next, Record: sum, Synced: rec.Revision, Held: rec.Held, Memory: before.Memory}
	for _, change := range remember {
		change(&after.Memory)
	}
	if err := s.point(after); err != nil {
		_ = os.Remove(path)
		return err
	}
	s.journal.named(disk.blobs()...)
	s.journal.reached(next, stepRecorded)
	return nil
}

// putEntry stores the content of a large file of a record. The store keeps what it
// has under the same name: if that has rotted, it is replaced.
func (c *Content) putEntry(path string, content []byte) (fileEntry, error) {
	for mended := false; ; mended = true {
		blob, err := c.Put(context.Background(), bytes.NewReader(content))
		if err != nil {
			return fileEntry{}, err
		}
		e := fileEntry{Blob: &blob}
		if _, err = c.entry(path, e); err == nil || mended {
			return e, err
		}
		if err := c.Remove(blob.Digest); err != nil {
			return fileEntry{}, err
		}
	}
}
