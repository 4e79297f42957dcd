package store

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/dlreconcile/dlreconcile/engine/statefile"
)

// maxState bounds current and memory, in bytes: the suspensions of all hosts of a large
// fleet fit in several times.
const maxState = 16 << 20

// readState reads a file of the state directory. What cannot be one is a *DamagedError,
// a missing one fs.ErrNotExist.
func readState(path string, most int64) ([]byte, error) {
	b, err := statefile.Read(path, most)
	return b, unfit(path, err)
}

// openState opens a file of the state directory for reading; see readState.
func openState(path string) (*os.File, error) {
	f, err := statefile.Open(path, os.O_RDONLY, 0)
	return f, unfit(path, err)
}

// unfit makes a *DamagedError of what says that there is no such file.
func unfit(path string, err error) error {
	if errors.As(err, new(*statefile.UnfitError)) {
		return &DamagedError{Path: path, Err: err}
	}
	return err
}

// makeWay sets aside what cannot be a file of the state directory, for a sound one to be
// put in its place, and gives the name that it has then; "" when nothing is in the way.
func (s *Store) makeWay(path string, most int64) (string, error) {
	f, err := openState(path)
	if err == nil {
		info, serr := f.Stat()
		f.Close()
		if serr != nil || info.Size() <= most {
			return "", serr
		}
	} else if !errors.As(err, new(*DamagedError)) {
		return "", nil // missing, or what follows says what is wrong
	}
	aside, err := statefile.SetAside(path, s.now(), os.Rename)
	if err != nil {
		return "", err
	}
	s.log.Warn("what stands in the place of a file of the state directory was set aside", "path", path, "as", filepath.Base(aside))
	return aside, nil
}

// wasSetAside reports whether a file of that name was ever set aside: that it is missing
// is damage then.
func wasSetAside(path string) bool {
	list, err := filepath.Glob(path + ".damaged-*")
	return err == nil && len(list) > 0
}

// ReadHint reads a file in the state directory that nothing hangs on, of at most that
// many bytes; nil when there is none. What cannot be such a file is set aside.
func (s *Store) ReadHint(name string, most int64) []byte {
	path := filepath.Join(s.dir, name)
	b, err := statefile.Read(path, most)
	if err != nil {
		if s.lock != nil && errors.As(err, new(*statefile.UnfitError)) {
			if _, err := s.makeWay(path, most); err != nil {
				s.log.Warn("what stands in the place of a file of the state directory cannot be set aside", "path", path, "error", err)
			}
		}
		return nil
	}
	return b
}
