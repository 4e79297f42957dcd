package store

import (
	"path/filepath"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
)

// dropUnpublished removes the records of generations that never became current: a
// process was killed between writing the record and pointing to it. Otherwise the
// next generation would make history of them, and targets of a rollback. Their
// numbers stay taken. Nothing is removed when it is not certain what is current.
func (s *Store) dropUnpublished() error {
	all, err := s.numbers()
	if err != nil || len(all) == 0 {
		return err
	}
	p, err := s.pointer()
	if err != nil && !missing(err) {
		s.noted(err)
		return nil
	}
	highest := all[len(all)-1]
	if highest <= p.Generation {
		return nil
	}
	if p.Generation == 0 && len(all) > 1 {
		// Not a crash at the first generation, which leaves one record: somebody
		// removed the pointer, and these may be all that is left of the history.
		return nil
	}
	p.Taken = max(p.Taken, highest)
	if err := s.point(p); err != nil {
		return err
	}
	return s.dropAbove(p.Generation, 0)
}

// dropAbove removes the records with a number above n, except that of spare.
func (s *Store) dropAbove(n, spare uint64) error {
	all, err := s.numbers()
	if err != nil {
		return err
	}
	removed := false
	for _, g := range all {
		if g <= n || g == spare {
			continue
		}
		path := s.recordPath(g)
		if err := failpoint.Hit("store.unpublished.remove"); err != nil {
			return err
		}
		if err := remove(path); err != nil && !missing(err) {
			return err
		}
		delete(s.damage, path)
		removed = true
	}
	if !removed {
		return nil
	}
	if err := failpoint.Hit("store.unpublished.sync"); err != nil {
		return err
	}
	return syncDir(filepath.Join(s.dir, "generations"))
}
