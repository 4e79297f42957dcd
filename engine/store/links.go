package store

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dlreconcile/dlreconcile/engine/statefile"
)

// remove removes a file of the state directory. Where the folder that it should be in is
// a link, it is somebody else's and stays.
func remove(path string) error {
	dir := filepath.Dir(path)
	if info, err := os.Lstat(dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("remove %s: %w", path, &statefile.UnfitError{Why: dir + " is a link, and nothing is deleted where it leads"})
	}
	return os.Remove(path)
}

// ownScratch makes way for the folder of work in progress where something else stands, a
// link above all: everything in that folder is deleted, and what is mounted there
// unmounted.
func (s *Store) ownScratch(dir string) error {
	info, err := os.Lstat(dir)
	if missing(err) || err == nil && info.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	aside, err := statefile.SetAside(dir, s.now(), os.Rename)
	if err != nil {
		return err
	}
	s.log.Warn("what stands in the place of the scratch folder was set aside", "path", dir, "as", filepath.Base(aside))
	return nil
}
