package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// copying copies a tree with owners, modes, times, extended attributes (those are
// ACLs and file capabilities too) and holes. Links and devices are copied as such, and
// two names of one file become two files. Left out are sockets, and the devices 0:0
// with which overlayfs says that a name is deleted: on an overlay nobody can make them.
type copying struct {
	left limits
}

// errTooMuch is a tree beyond the limits.
var errTooMuch = errors.New("the image has too much there to be copied for each machine")

// folder makes a copy of src, which is open for reading, called name in the folder
// at.
func (c *copying) folder(src *os.File, at int, name string, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	if depth > c.left.depth {
		return errTooMuch
	}
	if err := unix.Mkdirat(at, name, 0o700); err != nil {
		return pathError("mkdir", name, err)
	}
	dst, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return pathError("open", name, err)
	}
	defer unix.Close(dst)
	for {
		entries, err := src.ReadDir(256)
		for _, e := range entries {
			if err := c.entry(int(src.Fd()), dst, e.Name(), depth); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	// Last: what is made in a folder changes its time.
	if err := unix.Fchown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return pathError("chown", name, err)
	}
	if err := unix.Fchmod(dst, st.Mode&0o7777); err != nil {
		return pathError("chmod", name, err)
	}
	if err := copyAttributes(below(int(src.Fd()), "."), below(at, name)); err != nil {
		return err
	}
	return stamp(at, name, st)
}

// entry copies one entry of a folder.
func (c *copying) entry(src, dst int, name string, depth int) error {
	if c.left.entries--; c.left.entries < 0 {
		return errTooMuch
	}
	var st unix.Stat_t
	if err := unix.Fstatat(src, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return pathError("stat", name, err)
	}
	var err error
	switch kind := st.Mode & unix.S_IFMT; kind {
	case unix.S_IFDIR:
		sub, err := openAt(src, name, unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer sub.Close()
		return c.folder(sub, dst, name, depth+1)
	case unix.S_IFREG:
		f, err := openAt(src, name, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		fill := func(to *os.File) error { return c.content(to, f, st.Size) }
		if err := create(dst, name, attrsOf(st), fill); err != nil {
			return pathError("copy", name, err)
		}
		if err := copyAttributes(below(src, name), below(dst, name)); err != nil {
			return err
		}
		return stamp(dst, name, st)
	case unix.S_IFLNK:
		to := make([]byte, maxPath)
		n, rerr := unix.Readlinkat(src, name, to)
		if rerr != nil {
			return pathError("readlink", name, rerr)
		}
		err = unix.Symlinkat(string(to[:n]), dst, name)
	case unix.S_IFSOCK:
		return nil
	case unix.S_IFCHR:
		if st.Rdev == 0 {
			return nil
		}
		fallthrough
	default:
		err = unix.Mknodat(dst, name, kind|0o600, int(st.Rdev))
	}
	if err != nil {
		return pathError("copy", name, err)
	}
	if err := unix.Fchownat(dst, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return pathError("chown", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(dst, name, st.Mode&0o7777, 0); err != nil {
			return pathError("chmod", name, err)
		}
	}
	if err := copyAttributes(below(src, name), below(dst, name)); err != nil {
		return err
	}
	return stamp(dst, name, st)
}

// content copies the data of a file of that size, and leaves holes where it has them.
func (c *copying) content(to, from *os.File, size int64) error {
	if err := to.Truncate(size); err != nil {
		return err
	}
	for end := int64(0); end < size; {
		start, err := from.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // a hole up to the end
			return nil
		}
		if err != nil {
			return err
		}
		if end, err = from.Seek(start, unix.SEEK_HOLE); err != nil {
			return err
		}
		if c.left.bytes -= end - start; c.left.bytes < 0 {
			return errTooMuch
		}
		for _, f := range []*os.File{from, to} {
			if _, err := f.Seek(start, io.SeekStart); err != nil {
				return err
			}
		}
		if _, err := io.CopyN(to, from, end-start); err != nil {
			return err
		}
	}
	return nil
}

// below names what is in an open folder for the calls that know only paths.
func below(at int, name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", at, name) }

// copyAttributes copies the extended attributes that the copy's file system has too
// (xattr(7)). It comes after the owner, whose change takes capabilities away.
func copyAttributes(from, to string) error {
	n, err := unix.Llistxattr(from, nil)
	if n <= 0 {
		return ignore(err, unix.ENOTSUP)
	}
	names := make([]byte, n)
	if n, err = unix.Llistxattr(from, names); err != nil {
		return err
	}
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		n, err := unix.Lgetxattr(from, name, value)
		if err == nil {
			err = unix.Lsetxattr(to, name, value[:n], 0)
		}
		if err = ignore(err, unix.ENOTSUP, unix.ENODATA); err != nil {
			return pathError("setxattr "+name, path.Base(to), err)
		}
	}
	return nil
}

func openAt(at int, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(at, name, flags|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// stamp gives a copy the modification time of the original.
func stamp(at int, name string, st unix.Stat_t) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, st.Mtim}
	if err := unix.UtimesNanoAt(at, name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return pathError("utimes", name, err)
	}
	return nil
}
