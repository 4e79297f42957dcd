// Package statefile opens the small files of the state directory. Whatever stands in
// their place, it neither waits for it nor reads it without end. It also says how much
// room there is for files.
package statefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// UnfitError says that what stands at a path cannot be such a file: it is none, a link
// to nothing, or far too large.
type UnfitError struct{ Why string }

func (e *UnfitError) Error() string { return e.Why }

// Open opens a regular file. flag is that of os.OpenFile; without os.O_CREATE a missing
// file gives fs.ErrNotExist. What is no regular file gives an *UnfitError at once: a FIFO
// would wait for somebody to write.
func Open(path string, flag int, perm os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, flag|unix.O_NONBLOCK, perm)
	switch {
	case errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENXIO): // the latter: a socket
		return nil, &UnfitError{"it is no file"}
	case errors.Is(err, unix.ELOOP):
		return nil, &UnfitError{"it is a link that leads nowhere"}
	case errors.Is(err, fs.ErrNotExist):
		if info, lerr := os.Lstat(path); lerr == nil && info.Mode()&fs.ModeSymlink != 0 {
			return nil, &UnfitError{"it is a link to nothing"}
		}
		return nil, err
	case err != nil:
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &UnfitError{"it is no file"}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Read reads a file of at most that many bytes. A larger one gives an *UnfitError before
// any of it is read.
func Read(path string, most int64) ([]byte, error) {
	f, err := Open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > most {
		return nil, &UnfitError{fmt.Sprintf("it has %d bytes, which is more than any such file (%d)", info.Size(), most)}
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1)) // it may grow meanwhile
	if err == nil && int64(len(b)) > most {
		err = &UnfitError{fmt.Sprintf("it has more than %d bytes", most)}
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// kept is how many files set aside are kept of each name.
const kept = 3

// SetAside has move take what stands at path, whatever it is, to path.damaged-TIME, and
// gives that name. Of those of the same path the newest three are kept. move is os.Rename,
// which gives fs.ErrNotExist for a missing path, or something that leaves path as it is.
func SetAside(path string, now time.Time, move func(path, aside string) error) (string, error) {
	stamp := path + ".damaged-" + now.UTC().Format("20060102T150405.000Z")
	name := stamp
	for n := 2; ; n++ {
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			break
		}
		name = fmt.Sprintf("%s-%d", stamp, n)
	}
	if err := move(path, name); err != nil {
		return "", err
	}
	old, err := filepath.Glob(path + ".damaged-*")
	if err != nil {
		return name, nil // a path that is no pattern: nothing goes
	}
	slices.Sort(old)
	for len(old) > kept {
		if old[0] != name {
			_ = os.RemoveAll(old[0]) // disk space is lost, nothing else
		}
		old = old[1:]
	}
	return name, nil
}

// Free gives what the file system of a path has free for everybody, and in all, in bytes.
func Free(path string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", path, err)
	}
	unit := st.Frsize // 0 on some that count in blocks of Bsize
	if unit == 0 {
		unit = st.Bsize
	}
	return int64(st.Bavail) * unit, int64(st.Blocks) * unit, nil
}
