package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// root is the mounted root of the machine: a folder that no name leads out of,
// whatever symbolic links the image has (walk). Names are absolute, as the machine
// will see them, and none leads to where the kernel's file systems will lie: what is
// written there would be gone. Nobody else writes while it is used.
type root struct {
	dir *os.File
	// over has what will be mounted, by mount point: for a state where it lies, for
	// everything else "". Neither has links.
	over map[string]string
}

func openRoot(dir string) (*root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("root %s: %w", dir, err)
	}
	return &root{dir: os.NewFile(uintptr(fd), dir)}, nil
}

// under gives the root as it is below these mounts. It is r's to close.
func (r *root) under(over map[string]string) *root { return &root{dir: r.dir, over: over} }

func (r *root) Close() error { return r.dir.Close() }

// readOnly reports whether the root is mounted so.
func (r *root) readOnly() (bool, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(r.dir.Fd()), &st); err != nil {
		return false, pathError("statfs", "/", err)
	}
	return st.Flags&unix.ST_RDONLY != 0, nil
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// folder opens a folder, and makes it and those above it when they are missing:
// owned by root, mode 0755.
func (r *root) folder(name string) (*os.File, error) {
	f, err := r.open(name, unix.O_PATH|unix.O_DIRECTORY)
	if !errors.Is(err, fs.ErrNotExist) || path.Clean(name) == "/" {
		return f, err
	}
	above, err := r.folder(path.Dir(path.Clean(name)))
	if err != nil {
		return nil, err
	}
	defer above.Close()
	base := path.Base(name)
	// A dangling link is there and cannot be made: EEXIST.
	if err := unix.Mkdirat(int(above.Fd()), base, 0o755); err != nil {
		return nil, pathError("mkdir", name, err)
	}
	if err := unix.Fchmodat(int(above.Fd()), base, 0o755, 0); err != nil { // past our umask
		return nil, pathError("chmod", name, err)
	}
	return r.open(name, unix.O_PATH|unix.O_DIRECTORY)
}

// attrs are mode and owner of a file.
type attrs struct {
	mode     uint32 // permissions, set-user-id and so on
	uid, gid int
}

// plain is what a text file in /etc has.
var plain = attrs{mode: 0o644}

// freshName is what a file or folder is called until it is whole.
const freshName = ".dlreconcile-new"

// write makes content the file at name, in one step: a link there is replaced, a
// folder is an error. A file that is the same already is not touched.
func (r *root) write(name string, content []byte, a attrs) error {
	dir, err := r.folder(path.Dir(path.Clean(name)))
	if err != nil {
		return err
	}
	defer dir.Close()
	at, base := int(dir.Fd()), path.Base(name)
	if err := r.shown(path.Join(dir.Name(), base)); err != nil {
		return pathError("write", name, err)
	}
	if sameFile(at, base, content, a) {
		return nil
	}
	// Left by a boot that ended here.
	if err := unix.Unlinkat(at, freshName, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return pathError("replace", name, err)
	}
	err = create(at, freshName, a, func(f *os.File) error {
		_, err := f.Write(content)
		return err
	})
	if err != nil {
		return pathError("write", name, errors.Join(err, ignore(unix.Unlinkat(at, freshName, 0), unix.ENOENT)))
	}
	if err := unix.Renameat(at, freshName, at, base); err != nil {
		return pathError("write", name, errors.Join(err, unix.Unlinkat(at, freshName, 0)))
	}
	return nil
}

// create makes a new file in the folder at, which fill fills.
func create(at int, base string, a attrs, fill func(*os.File) error) error {
	fd, err := unix.Openat(at, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if err := fill(f); err != nil {
		return err
	}
	// Owner first: changing it clears the set-user-id bit.
	if err := f.Chown(a.uid, a.gid); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, a.mode); err != nil {
		return err
	}
	return f.Close()
}

// sameFile reports whether the folder at holds just that.
func sameFile(at int, base string, content []byte, a attrs) bool {
	fd, err := unix.Openat(at, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode != unix.S_IFREG|a.mode || st.Size != int64(len(content)) ||
		int(st.Uid) != a.uid || int(st.Gid) != a.gid {
		return false
	}
	have, err := io.ReadAll(io.LimitReader(f, int64(len(content))+1))
	return err == nil && bytes.Equal(have, content)
}

// maxText bounds the files of the image that are read to be edited.
const maxText = 1 << 20

// text reads a file that is to be edited, and gives its attributes. A missing one is
// empty, with the attributes of plain, and so is a link to what is made at boot.
func (r *root) text(name string) (string, attrs, error) {
	f, err := r.open(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errHidden) {
		return "", plain, nil
	}
	if err != nil {
		return "", attrs{}, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", attrs{}, pathError("stat", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxText {
		return "", attrs{}, pathError("read", name, errors.New("not a text file"))
	}
	b, err := io.ReadAll(io.LimitReader(f, maxText))
	return string(b), attrsOf(st), err
}

// regular reports whether name itself is a regular file.
func (r *root) regular(name string) bool {
	f, err := r.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return false
	}
	defer f.Close()
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}

func attrsOf(st unix.Stat_t) attrs {
	return attrs{mode: st.Mode & 0o7777, uid: int(st.Uid), gid: int(st.Gid)}
}

// ignore gives err, unless it is one of those.
func ignore(err error, those ...error) error {
	for _, t := range those {
		if errors.Is(err, t) {
			return nil
		}
	}
	return err
}
