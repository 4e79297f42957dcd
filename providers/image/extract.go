package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of an archive beyond its size: what no root file system comes near.
const (
	maxEntries   = 4 << 20
	maxPath      = 4096 // PATH_MAX
	maxXattrSize = 64 << 10
)

// contents is what an archive held.
type contents struct {
	bytes   int64     // of regular files
	entries int64     // files, folders, links
	newest  time.Time // latest modification time
}

// extractor puts an archive into a tree. The archive may come from anywhere:
// names that lead out of the tree, names that go through a symbolic link, devices
// and sizes beyond the limit are refused, not mended: the error is *refused or
// *tooBig.
type extractor struct {
	tree  *tree
	limit int64 // bytes of regular files
	seen  contents
	dirs  []*tar.Header // their times are set last, when nothing changes them any more
}

// refused is an archive that is not what it should be.
type refused struct{ what string }

func (r *refused) Error() string { return r.what }

// tooBig is an archive whose files take more than the limit.
type tooBig struct{ limit int64 }

func (e *tooBig) Error() string { return "its files take more than " + mib(e.limit) }

func refuse(format string, args ...any) error { return &refused{fmt.Sprintf(format, args...)} }

// extract reads an uncompressed tar archive to its end.
func (x *extractor) extract(ctx context.Context, r io.Reader) (contents, error) {
	tr := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return contents{}, err
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
			return contents{}, refuse("it is not a tar archive, or not a whole one: %v", err)
		}
		if err != nil {
			return contents{}, err
		}
		if x.seen.entries++; x.seen.entries > maxEntries {
			return contents{}, refuse("it has more than %d entries", maxEntries)
		}
		if err := x.entry(h, tr); err != nil {
			return contents{}, x.explain(h, err)
		}
	}
	for _, h := range x.dirs {
		if err := x.times(h); err != nil {
			return contents{}, err
		}
	}
	if x.seen.entries == 0 {
		return contents{}, refuse("it is empty")
	}
	return x.seen, nil
}

// explain makes refusals of what the kernel found wrong with a name.
func (x *extractor) explain(h *tar.Header, err error) error {
	switch {
	case errors.Is(err, unix.ELOOP):
		return refuse("%q goes through a symbolic link", short(h.Name))
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR), errors.Is(err, unix.EEXIST):
		return refuse("%q is there twice, as a folder and as something else", short(h.Name))
	case errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.EINVAL):
		return refuse("%q is not a file name", short(h.Name))
	}
	return err
}

func short(name string) string {
	if len(name) > 100 {
		return name[:100] + "…"
	}
	return name
}

// localName gives the name of an entry inside the tree.
func localName(name string) (string, error) {
	trimmed := strings.TrimPrefix(name, "./")
	switch {
	case len(name) > maxPath || strings.ContainsRune(name, 0):
		return "", refuse("%q is not a file name", short(name))
	case trimmed == "" || trimmed == ".":
		return ".", nil
	case !filepath.IsLocal(trimmed):
		return "", refuse("%q leads out of the image", short(name))
	}
	return path.Clean(trimmed), nil
}

func (x *extractor) entry(h *tar.Header, r io.Reader) error {
	name, err := localName(h.Name)
	if err != nil {
		return err
	}
	if h.ModTime.After(x.seen.newest) {
		x.seen.newest = h.ModTime
	}
	if h.Typeflag == tar.TypeDir {
		return x.dir(name, h)
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if name == "." {
		return refuse("its root is not a folder")
	}
	if strings.HasPrefix(name, "dev/") {
		return nil // the kernel's devtmpfs is mounted there before anything looks
	}
	if err := x.tree.mkdirAll(path.Dir(name), refuseLinks); err != nil {
		return err
	}
	if err := x.tree.remove(name, refuseLinks); err != nil { // a later entry wins
		return err
	}
	fd, base, err := x.tree.at(name, refuseLinks)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return x.file(fd, base, h, r)
	case tar.TypeSymlink:
		if len(h.Linkname) == 0 || len(h.Linkname) >= maxPath {
			return refuse("%q links to nothing", short(h.Name))
		}
		err = unix.Symlinkat(h.Linkname, fd, base)
	case tar.TypeLink:
		return x.hardLink(fd, base, h)
	case tar.TypeFifo:
		err = unix.Mknodat(fd, base, unix.S_IFIFO|0o600, 0)
	case tar.TypeChar, tar.TypeBlock:
		return refuse("%q is a device; only the kernel makes those, in /dev", short(h.Name))
	default:
		return refuse("%q is of unknown type %q", short(h.Name), h.Typeflag)
	}
	if err != nil {
		return err
	}
	if err := unix.Fchownat(fd, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeFifo {
		if err := unix.Fchmodat(fd, base, uint32(h.Mode)&0o7777, 0); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(fd, base, stamps(h), unix.AT_SYMLINK_NOFOLLOW)
}

func stamps(h *tar.Header) []unix.Timespec {
	ts := unix.NsecToTimespec(h.ModTime.UnixNano())
	return []unix.Timespec{ts, ts}
}

// dir makes a folder, or gives the one that is there its attributes.
func (x *extractor) dir(name string, h *tar.Header) error {
	if err := x.tree.mkdirAll(name, refuseLinks); err != nil {
		return err
	}
	f, err := x.tree.open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0, refuseLinks)
	if err != nil {
		return err
	}
	defer f.Close()
	x.dirs = append(x.dirs, &tar.Header{Name: name, ModTime: h.ModTime})
	return attributes(f, h)
}

// times sets a folder's time. By then every folder was made or seen by us, and
// nobody else is in the tree.
func (x *extractor) times(h *tar.Header) error {
	f, err := x.tree.open(h.Name, unix.O_RDONLY|unix.O_DIRECTORY, 0, refuseLinks)
	if err != nil {
		return err
	}
	defer f.Close()
	return os.Chtimes(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), h.ModTime, h.ModTime)
}

func (x *extractor) file(fd int, base string, h *tar.Header, r io.Reader) error {
	if h.Size > x.limit-x.seen.bytes {
		return &tooBig{x.limit}
	}
	raw, err := unix.Openat(fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(raw), base)
	defer f.Close()
	n, err := io.Copy(f, r)
	x.seen.bytes += n
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return refuse("it ends in the middle of %q", short(h.Name))
	}
	if err != nil {
		return err
	}
	if err := attributes(f, h); err != nil {
		return err
	}
	if err := unix.UtimesNanoAt(fd, base, stamps(h), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return f.Close()
}

// attributes sets owner, extended attributes and mode, in the order in which none
// undoes another: chown clears capabilities and set-user-id.
func attributes(f *os.File, h *tar.Header) error {
	if err := f.Chown(h.Uid, h.Gid); err != nil {
		return err
	}
	const prefix = "SCHILY.xattr."
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, prefix)
		// The others are for the machine that packed it: SELinux labels, ACLs
		// in a form of their own.
		if !ok || name != "security.capability" && !strings.HasPrefix(name, "user.") {
			continue
		}
		if len(value) > maxXattrSize {
			return refuse("%q has an attribute of %d bytes", short(h.Name), len(value))
		}
		if err := unix.Fsetxattr(int(f.Fd()), name, []byte(value), 0); err != nil {
			return fmt.Errorf("attribute %s of %q: %w", name, short(h.Name), err)
		}
	}
	return unix.Fchmod(int(f.Fd()), uint32(h.Mode)&0o7777)
}

// hardLink links to a file that an earlier entry made.
func (x *extractor) hardLink(fd int, base string, h *tar.Header) error {
	target, err := localName(h.Linkname)
	if err != nil {
		return err
	}
	f, err := x.tree.open(target, unix.O_PATH|unix.O_NOFOLLOW, 0, refuseLinks)
	if errors.Is(err, os.ErrNotExist) {
		return refuse("%q is a hard link to %q, which is not there", short(h.Name), short(h.Linkname))
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return refuse("%q is a hard link to a folder", short(h.Name))
	}
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), fd, base, unix.AT_SYMLINK_FOLLOW)
}
