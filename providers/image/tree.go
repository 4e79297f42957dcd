package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tree is a root file system under construction: a folder that no name leads out
// of, whatever symbolic links are in it. Names are slash-separated and relative to
// the folder; a leading slash is allowed. Used by one goroutine at a time.
//
// It rests on openat2(2), where the kernel itself resolves links as if the folder
// were the root directory (RESOLVE_IN_ROOT), or refuses them.
type tree struct {
	dir string
	fd  int

	// The folder used last: archives hold the files of a folder in a row.
	lastName string
	lastFD   int
}

// links says what happens to symbolic links on the way to a file.
type links uint64

const (
	// followLinks resolves links inside the tree, absolute ones too.
	followLinks links = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	// refuseLinks makes a link on the way an error, unix.ELOOP.
	refuseLinks links = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS
)

func openTree(dir string) (*tree, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return &tree{dir: dir, fd: fd, lastFD: -1}, nil
}

func (t *tree) Close() {
	t.forget()
	unix.Close(t.fd)
}

func (t *tree) forget() {
	if t.lastFD >= 0 {
		unix.Close(t.lastFD)
	}
	t.lastFD, t.lastName = -1, ""
}

// clean gives a name without a leading slash and without "." and ".." parts; the
// tree itself is ".".
func clean(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" {
		return "."
	}
	return name
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: "/" + strings.TrimPrefix(name, "/"), Err: err}
}

// open opens a file of the tree. A link in the last part of the name is resolved
// like the others, unless flags hold O_NOFOLLOW.
func (t *tree) open(name string, flags int, perm uint32, how links) (*os.File, error) {
	name = clean(name)
	fd, err := unix.Openat2(t.fd, name, &unix.OpenHow{
		Flags: uint64(flags | unix.O_CLOEXEC), Mode: uint64(perm), Resolve: uint64(how),
	})
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return os.NewFile(uintptr(fd), filepath.Join(t.dir, name)), nil
}

// at gives the folder that holds name, open until the next call, and the last
// part of name.
func (t *tree) at(name string, how links) (fd int, base string, err error) {
	dir, base := path.Split(clean(name))
	dir = clean(dir)
	if base == "." {
		return 0, "", pathError("open", name, unix.EINVAL)
	}
	key := fmt.Sprint(how, dir)
	if t.lastFD < 0 || t.lastName != key {
		f, err := unix.Openat2(t.fd, dir, &unix.OpenHow{
			Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: uint64(how),
		})
		if err != nil {
			return 0, "", pathError("open", dir, err)
		}
		t.forget()
		t.lastFD, t.lastName = f, key
	}
	return t.lastFD, base, nil
}

// lstat describes name itself, not what it links to.
func (t *tree) lstat(name string, how links) (unix.Stat_t, error) {
	var st unix.Stat_t
	fd, base, err := t.at(name, how)
	if err != nil {
		return st, err
	}
	if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, pathError("stat", name, err)
	}
	return st, nil
}

// isDir reports whether name is a folder, and not a link to one.
func (t *tree) isDir(name string) bool {
	st, err := t.lstat(name, followLinks)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// exists follows links.
func (t *tree) exists(name string) bool {
	f, err := t.open(name, unix.O_PATH, 0, followLinks)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// mkdirAll makes a folder and those above it, owned by root, mode 0755.
func (t *tree) mkdirAll(name string, how links) error {
	name = clean(name)
	if name == "." {
		return nil
	}
	f, err := t.open(name, unix.O_PATH|unix.O_DIRECTORY, 0, how)
	if err == nil {
		f.Close()
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := t.mkdirAll(path.Dir(name), how); err != nil {
		return err
	}
	fd, base, err := t.at(name, how)
	if err != nil {
		return err
	}
	if err := unix.Mkdirat(fd, base, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return pathError("mkdir", name, err)
	}
	// Once more, past our own umask.
	if err := unix.Fchmodat(fd, base, 0o755, 0); err != nil {
		return pathError("chmod", name, err)
	}
	return nil
}

// remove deletes a file or link; a missing one is no error, a folder is.
func (t *tree) remove(name string, how links) error {
	fd, base, err := t.at(name, how)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := unix.Unlinkat(fd, base, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return pathError("remove", name, err)
	}
	return nil
}

// moveOut moves a regular file out of the tree, to file on the same file system.
// Links on the way to name are resolved inside the tree; name itself must be none,
// as it would lead anywhere once it is outside.
func (t *tree) moveOut(name, file string) error {
	t.forget() // a program of the image may have changed its folders
	st, err := t.lstat(name, followLinks)
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return pathError("move", name, errors.New("not a regular file"))
	}
	fd, base, err := t.at(name, followLinks)
	if err != nil {
		return err
	}
	if err := unix.Renameat(fd, base, unix.AT_FDCWD, file); err != nil {
		return pathError("move", name, err)
	}
	return nil
}

// vacate makes room for a new file: its folder is there, and nothing of its name, but
// for a folder, which is an error. fd is of the folder, as at gives it.
func (t *tree) vacate(name string) (fd int, base string, err error) {
	if err := t.mkdirAll(path.Dir(clean(name)), followLinks); err != nil {
		return 0, "", err
	}
	if err := t.remove(name, followLinks); err != nil {
		return 0, "", err
	}
	return t.at(name, followLinks)
}

// write puts a new file in place of whatever is there, but of a folder.
func (t *tree) write(name string, r io.Reader, perm uint32, uid, gid int) error {
	fd, base, err := t.vacate(name)
	if err != nil {
		return err
	}
	raw, err := unix.Openat(fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return pathError("create", name, err)
	}
	f := os.NewFile(uintptr(raw), filepath.Join(t.dir, name))
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	// Owner first: changing it clears the set-user-id bit.
	if err := f.Chown(uid, gid); err != nil {
		return err
	}
	if err := unix.Fchmod(raw, perm); err != nil {
		return pathError("chmod", name, err)
	}
	return f.Close()
}

// text writes a file of root's, mode 0644.
func (t *tree) text(name, content string) error {
	return t.write(name, strings.NewReader(content), 0o644, 0, 0)
}

// symlink puts a link in place of whatever is there, but of a folder.
func (t *tree) symlink(name, target string, uid, gid int) error {
	fd, base, err := t.vacate(name)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(target, fd, base); err != nil {
		return pathError("symlink", name, err)
	}
	if err := unix.Fchownat(fd, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return pathError("chown", name, err)
	}
	return nil
}

// readFile reads a regular file of at most limit bytes.
func (t *tree) readFile(name string, limit int64) ([]byte, error) {
	f, err := t.openRegular(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = pathError("read", name, errors.New("larger than expected"))
	}
	return b, err
}

// openRegular opens a file for reading; nothing else than a regular file will do,
// and a FIFO does not block.
func (t *tree) openRegular(name string) (*os.File, error) {
	f, err := t.open(name, unix.O_RDONLY|unix.O_NONBLOCK, 0, followLinks)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = pathError("open", name, errors.New("not a regular file"))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// list gives the names in a folder, sorted; a missing folder has none.
func (t *tree) list(name string) ([]string, error) {
	f, err := t.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0, followLinks)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names, nil
}

// hasDevices reports whether a device node is anywhere in the tree.
func (t *tree) hasDevices() (found bool, err error) {
	err = filepath.WalkDir(t.dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&fs.ModeDevice != 0 {
			found = true
			return filepath.SkipAll
		}
		return err
	})
	return found, err
}

// clampTimes sets the modification time of everything that is newer than limit
// to it, so that the same recipe over the same base gives the same tree.
func (t *tree) clampTimes(limit time.Time) error {
	stamp := unix.NsecToTimespec(limit.UnixNano())
	return filepath.WalkDir(t.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || !info.ModTime().After(limit) {
			return err
		}
		// WalkDir goes down no links, and this changes none either.
		return unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{stamp, stamp}, unix.AT_SYMLINK_NOFOLLOW)
	})
}
