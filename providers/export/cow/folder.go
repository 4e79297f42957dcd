package cow

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/statefile"
)

// folder is an open folder of the store. What is in it is reached by its name in that
// very folder, and a link is never followed: whoever can put one there would have the
// daemon read, write and delete wherever it leads.
type folder struct{ *os.File }

// openFolder opens the store's own. That one may be a link: an operator who has overlays
// on another disk put it there.
func openFolder(path string) (folder, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	return folder{f}, err
}

// at does a system call that takes a folder and a name.
func (d folder) at(op, name string, f func(fd int, name string) error) error {
	for {
		err := f(int(d.Fd()), name)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: op, Path: filepath.Join(d.Name(), name), Err: err}
		}
		return nil
	}
}

func (d folder) openat(name string, flag int) (fd int, err error) {
	err = d.at("open", name, func(at int, name string) (err error) {
		fd, err = unix.Openat(at, name, flag|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	return fd, err
}

// unfit says what stands in a file's or a folder's place.
func (d folder) unfit(name, why string) error {
	return fmt.Errorf("%s: %w", filepath.Join(d.Name(), name), &statefile.UnfitError{Why: why})
}

// sub opens a folder that is in this one. What is none is a *statefile.UnfitError.
func (d folder) sub(name string) (folder, error) {
	fd, err := d.openat(name, unix.O_RDONLY|unix.O_DIRECTORY)
	switch {
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return folder{}, d.unfit(name, "it is no folder")
	case err != nil:
		return folder{}, err
	}
	return folder{os.NewFile(uintptr(fd), filepath.Join(d.Name(), name))}, nil
}

// file opens a regular file; flag is that of open(2). What is none is a
// *statefile.UnfitError at once: a FIFO would wait for somebody to write.
func (d folder) file(name string, flag int) (*os.File, error) {
	fd, err := d.openat(name, flag|unix.O_NONBLOCK)
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, d.unfit(name, "it is a link")
	case errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENXIO): // the latter: a socket, or a FIFO
		return nil, d.unfit(name, "it is no file")
	case err != nil:
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = &statefile.UnfitError{Why: "it is no file"}
	}
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", filepath.Join(d.Name(), name), err)
	}
	return os.NewFile(uintptr(fd), filepath.Join(d.Name(), name)), nil
}

// mkdir makes a folder, unless something of that name is there.
func (d folder) mkdir(name string) error {
	err := d.at("mkdir", name, func(at int, name string) error { return unix.Mkdirat(at, name, 0o700) })
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// unlink removes a file, or a link and not what it leads to. One that is not there is no
// error, and a folder of that name stays.
func (d folder) unlink(name string) error {
	err := d.at("remove", name, func(at int, name string) error { return unix.Unlinkat(at, name, 0) })
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EISDIR) {
		return nil
	}
	return err
}

// rmdir removes an empty folder; what is not empty, or none, stays, which is no error.
func (d folder) rmdir(name string) (gone bool, err error) {
	err = d.at("remove", name, func(at int, name string) error { return unix.Unlinkat(at, name, unix.AT_REMOVEDIR) })
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		return true, nil
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EBUSY):
		return false, nil
	}
	return false, err
}

// pending is what a record is called before it is whole; earlier versions drew a number.
var pending = regexp.MustCompile(`^\.` + regexp.QuoteMeta(recordFile) + `[0-9]{1,20}$`)

const pendingFile = "." + recordFile + "0"

// isOurs reports whether the store makes a file of that name in an overlay's folder.
func isOurs(name string) bool {
	switch name {
	case recordFile, dataFile, liveFile, flushedFile:
		return true
	}
	return pending.MatchString(name)
}

// empty removes the files that the store makes, the record first, and gives the names of
// what is none of them, which stays.
func (d folder) empty() (strays []string, err error) {
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	for _, name := range append([]string{recordFile}, names...) {
		if !isOurs(name) {
			strays = append(strays, name)
		} else if err := d.unlink(name); err != nil {
			return nil, err
		}
	}
	return strays, nil
}

// place is the folder of a key, with those above it: the store's, the machine's, the
// instance's, its own.
type place [4]folder

func (p *place) dir() folder { return p[len(p)-1] }

func (p *place) close() {
	for _, d := range p {
		if d.File != nil {
			d.Close()
		}
	}
}

// place opens the folder of a key, and those above it; create makes what is missing, else
// that is fs.ErrNotExist. The caller closes it.
func (s *Store) place(key Key, create bool) (*place, error) {
	return s.placeOf(create, key.Machine, key.Instance, key.Export)
}

// placeOf does place for the first parts of a key.
func (s *Store) placeOf(create bool, parts ...string) (_ *place, err error) {
	p := &place{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p[0], err = openFolder(s.dir); err != nil {
		return nil, err
	}
	if create { // so that nobody takes away one that is empty still
		s.folders.Lock()
		defer s.folders.Unlock()
	}
	for i, name := range parts {
		if create {
			if err := p[i].mkdir(name); err != nil {
				return nil, err
			}
		}
		if p[i+1], err = p[i].sub(name); err != nil {
			return nil, err
		}
	}
	return p, nil
}
