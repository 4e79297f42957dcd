package cow

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
)

// keepRetired is how many retired records of one machine and export are
// remembered.
const keepRetired = 8

// Retire ends an overlay: no Open of it succeeds after this returned. Who has it
// open keeps it until Close. Idempotent; a key without an overlay is no error. One whose
// record cannot be read is left as it is: the record may be sound again at the next start,
// and nobody knows meanwhile what ends it.
//
// It touches memory only, so that it may be called with locks held. Sweep puts it
// on disk and gives the space back.
func (s *Store) Retire(key Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl := s.slots[key]; sl != nil && sl.found && sl.rec.Unreadable == nil && !sl.rec.Retired {
		sl.rec.Retired, sl.unsaved = true, true
	}
}

// Forget has the next Sweep remove what is left of an overlay that was retired, under the
// same terms as Retire: nobody will ask for its key any more. Another key is ignored.
func (s *Store) Forget(key Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl := s.slots[key]; sl != nil && sl.found && sl.rec.Retired {
		sl.forget = true
	}
}

// Note adds to the notes of an overlay, under the same terms as Retire. A key
// without an overlay is ignored.
func (s *Store) Note(key Key, name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := s.slots[key]
	if sl == nil || !sl.found || sl.rec.Note[name] == value {
		return
	}
	note := maps.Clone(sl.rec.Note) // others may be reading the old one
	if note == nil {
		note = map[string]string{}
	}
	note[name] = value
	sl.rec.Note, sl.unsaved = note, true
}

// Save puts on disk what Retire and Note said of some overlays, of those that it can when
// there is an error. What somebody else is about to put there it waits for.
func (s *Store) Save(keys ...Key) error {
	var errs []error
	for _, k := range keys {
		if err := s.save(k); err != nil {
			errs = append(errs, fmt.Errorf("overlay %s: %w", k, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Store) save(key Key) error {
	sl := s.acquire(key)
	defer s.release(sl)
	return s.saveSlot(sl)
}

// saveSlot does save with the slot busy.
func (s *Store) saveSlot(sl *slot) error {
	s.mu.Lock()
	rec, version, wanted := sl.rec, sl.version, sl.found && sl.unsaved && sl.rec.Unreadable == nil
	sl.unsaved = false
	s.mu.Unlock()
	if !wanted {
		return nil
	}
	at, err := s.place(rec.Key, false)
	if err == nil {
		err = writeRecord(at.dir(), rec, version)
		at.close()
	}
	if err != nil {
		s.mu.Lock()
		sl.unsaved = true
		s.mu.Unlock()
	}
	return err
}

// Touched reports whether anything was written to an overlay that is not open, as far as
// can be known: after a power cut that counts too of which nothing is left, and so does
// what cannot be read.
func (s *Store) Touched(key Key) bool {
	sl := s.acquire(key)
	defer s.release(sl)
	s.mu.Lock()
	rec, version, found := sl.rec, sl.version, sl.found
	s.mu.Unlock()
	switch mounted, err := s.mounted(); {
	case rec.Unreadable != nil:
		return true
	case !found:
		return false
	case err != nil || !s.livesOn(rec, mounted):
		return true
	case rec.Retired:
		return false
	}
	m, err := s.loadLive(rec, version)
	if err != nil {
		s.log.Error("what was written to an overlay cannot be read", "overlay", key.String(), "err", err)
		return true
	}
	return m.n.Load() > 0
}

// loadLive gives the blocks that are present in an overlay that is not open.
func (s *Store) loadLive(rec Record, version int) (*bitmap, error) {
	at, err := s.place(rec.Key, false)
	if err != nil {
		return nil, err
	}
	defer at.close()
	f, err := at.dir().file(liveFile, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m := newBitmap(blocksOf(rec.Base.Size))
	return m, formOf(version, rec, liveFile).load(m, f, blocksOf(rec.Base.Size))
}

// Remove deletes an overlay and forgets it, so that its key may be used anew. One
// that is open is an error; one that is not there is none.
func (s *Store) Remove(key Key) error {
	if err := key.check(); err != nil {
		return err
	}
	sl := s.acquire(key)
	defer s.release(sl)
	if err := s.remove(sl); err != nil {
		return fmt.Errorf("overlay %s: %w", key, err)
	}
	return nil
}

// remove does Remove with the slot busy.
func (s *Store) remove(sl *slot) error {
	s.mu.Lock()
	key, inUse := sl.rec.Key, sl.open != nil
	s.mu.Unlock()
	if inUse {
		return errors.New("in use")
	}
	if err := failpoint.Hit("cow.remove.record"); err != nil {
		return err
	}
	// The record goes first: half removed is "never was".
	if err := s.unlink(key, recordFile); err != nil {
		return err
	}
	if err := failpoint.Hit("cow.remove.files"); err != nil {
		return err
	}
	if err := s.clear(key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sl.found, sl.rec, sl.version, sl.unsaved, sl.forget, sl.shut = false, Record{Key: key}, 0, false, false, false
	return nil
}

// Sweep puts on disk what Retire and Note said, gives back the space of retired
// overlays that nobody has open: of some keys, or of all when none is given. Of all it
// forgets the oldest that are retired, unless a newer one of the same machine and export
// could not be saved: that one may say what has to be known of them. Idempotent.
func (s *Store) Sweep(only ...Key) error {
	all := s.List()
	slices.SortStableFunc(all, func(a, b Record) int { return b.Created.Compare(a.Created) }) // newest first
	var errs []error
	type family struct{ machine, export string }
	retired, unsaved := map[family]int{}, map[family]bool{}
	for _, r := range all {
		if len(only) > 0 && !slices.Contains(only, r.Key) {
			continue
		}
		of := family{r.Machine, r.Export}
		if r.Retired && !s.forgets(r.Key) {
			retired[of]++
		}
		saved, err := s.sweep(r.Key, r.Retired && len(only) == 0 && retired[of] > keepRetired, !unsaved[of])
		if err != nil {
			errs = append(errs, fmt.Errorf("overlay %s: %w", r.Key, err))
		}
		if !saved {
			unsaved[of] = true
		}
	}
	return errors.Join(errs...)
}

// forgets reports whether the next Sweep removes an overlay whatever its age: see Forget.
func (s *Store) forgets(key Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := s.slots[key]
	return sl != nil && sl.forget
}

// sweep does one overlay. forget says that it is one of the oldest, and may that it may be
// forgotten. saved is false when its record could not be put on disk.
func (s *Store) sweep(key Key, forget, may bool) (saved bool, err error) {
	sl := s.acquire(key)
	defer s.release(sl)
	s.mu.Lock()
	rec, inUse := sl.rec, sl.open != nil
	forget = forget || sl.forget
	s.mu.Unlock()
	if rec.Retired && !inUse && forget && may {
		return true, s.remove(sl)
	}
	if err := s.saveSlot(sl); err != nil {
		return false, err
	}
	if !rec.Retired || inUse {
		return true, nil
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		sl.sizes.void()
	}()
	for _, name := range []string{dataFile, liveFile, flushedFile} {
		if err := failpoint.Hit("cow.sweep.remove"); err != nil {
			return true, err
		}
		if err := s.unlink(key, name); err != nil {
			return true, err
		}
	}
	return true, nil
}

// unlink removes a file of an overlay. One that is not there is no error.
func (s *Store) unlink(key Key, name string) error {
	at, err := s.place(key, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer at.close()
	return at.dir().unlink(name)
}
