package cow

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
)

// Path gives the folder of a key, or of the first parts of one.
func (s *Store) Path(key Key) string { return filepath.Join(s.dir, key.String()) }

// Shut gives the folders above those of overlays that could not be opened when the store
// was: nobody knows which overlays are in them. Export is "" then, and Instance too where
// it is the machine's folder.
func (s *Store) Shut() []Record { return slices.Clone(s.shut) }

// Discard puts a retired record with that note in the place of an overlay that is
// Unreadable, on stable storage; Sweep gives its space back. So a client that had it and
// comes back does not find a fresh disk under its file system. Another overlay is an
// error, and so is one that stays Unreadable. Links are removed, and not followed.
func (s *Store) Discard(key Key, note map[string]string) error {
	if err := key.check(); err != nil {
		return err
	}
	sl := s.acquire(key)
	defer s.release(sl)
	if err := s.discard(sl, note); err != nil {
		return fmt.Errorf("overlay %s: %w", key, err)
	}
	return nil
}

// discard does Discard with the slot busy.
func (s *Store) discard(sl *slot, note map[string]string) error {
	s.mu.Lock()
	key, unreadable, shut := sl.rec.Key, sl.found && sl.rec.Unreadable != nil, sl.shut
	s.mu.Unlock()
	if !unreadable {
		return errors.New("it is none whose record cannot be read")
	}
	if shut {
		if err := s.openUp(key); err != nil {
			return err
		}
	}
	at, err := s.place(key, true)
	if err != nil {
		return err
	}
	defer at.close()
	// The record is replaced in one step: without one the overlay never was, and its
	// client would get another.
	if _, err := at.dir().rmdir(recordFile); err != nil {
		return err
	}
	rec := Record{Key: key, Created: s.now().UTC(), Note: maps.Clone(note), Retired: true, ServerBoot: s.bootID}
	if err := writeRecord(at.dir(), rec, recordVersion); err != nil {
		return err
	}
	for i := len(at) - 2; i >= 0; i-- { // the folder may be new
		if err := at[i].Sync(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sl.rec, sl.version, sl.shut, sl.unsaved, sl.forget = rec, recordVersion, false, false, false
	return nil
}

// openUp removes what stands in the place of an overlay's folder, and is none. A crash
// before the folder is made leaves nothing there, as if somebody had removed it by hand.
func (s *Store) openUp(key Key) error {
	above, err := s.placeOf(false, key.Machine, key.Instance)
	if err != nil {
		return err
	}
	defer above.close()
	return above[2].unlink(key.Export)
}
