package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// stateFolder holds the directories that machines have for themselves, each below
// its key in one folder that is named for the path that it is mounted at: were they
// folders in folders, what is merely above one could be taken for another.
const stateFolder = "/var/lib/dlreconcile/state"

// limits bound what a state directory takes from the image at its first use: on a
// root in memory it is memory.
type limits struct {
	bytes   int64 // of regular files
	entries int
	depth   int
}

func stateLimits() limits { return limits{bytes: 1 << 30, entries: 100_000, depth: 64} }

// stateDir says where the state of a path lies.
func stateDir(s stateSetting) (dir string, err error) {
	p, err := cleanPath(s.Path)
	if err != nil {
		return "", err
	}
	if s.Key == "" || s.Key == "." || s.Key == ".." || len(s.Key) > maxKey || strings.ContainsAny(s.Key, "/\x00") {
		return "", fmt.Errorf("%.100q names no machine", s.Key)
	}
	if inside(stateFolder, p) || inside(p, stateFolder) {
		return "", fmt.Errorf("the states of all machines are kept in %s", stateFolder)
	}
	if hidden(p) {
		return "", errors.New("a file system of the kernel lies there")
	}
	return path.Join(stateFolder, s.Key, escapePath(p)), nil
}

// escapePath spells a clean path as one name, as systemd-escape --path does. What
// becomes longer than a name may be, the file system refuses.
func escapePath(p string) string {
	var b strings.Builder
	for i, c := range []byte(p[1:]) {
		switch {
		case c == '/':
			b.WriteByte('-')
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == ':', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

// makeState makes the mount point of a state, and dir, where it lies, unless that is
// there. It has what the image has at the mount point, and is there only when it has
// all of it. Given are the names of both without links.
func makeState(r *root, mountPoint, dir string, most limits) (at, lies string, err error) {
	mount, err := r.folder(mountPoint) // empty when the image has none
	if err != nil {
		return "", "", err
	}
	defer mount.Close()
	above, err := r.folder(path.Dir(dir))
	if err != nil {
		return "", "", err
	}
	defer above.Close()
	at = mount.Name()
	if states := path.Dir(above.Name()); inside(states, at) || inside(at, states) {
		return "", "", fmt.Errorf("it is %s, and the states of all machines are kept in %s", at, states)
	}
	f, err := r.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		defer f.Close()
		return at, f.Name(), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", "", err
	}
	return at, path.Join(above.Name(), path.Base(dir)), copyState(mount, above, path.Base(dir), most)
}

// copyState makes a copy of what is at the mount point, called base in the folder
// above.
func copyState(mount, above *os.File, base string, most limits) error {
	at := int(above.Fd())
	if err := removeTree(above, freshName); err != nil { // left by a boot that ended here
		return err
	}
	src, err := openAt(int(mount.Fd()), ".", unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer src.Close()
	c := &copying{left: most}
	err = c.folder(src, at, freshName, 0)
	if err == nil {
		// A directory that is there counts as whole, so it must not be there
		// before its files are.
		err = syncAll(at)
	}
	if err == nil {
		err = unix.Renameat(at, freshName, at, base)
	}
	if err != nil {
		return errors.Join(err, removeTree(above, freshName))
	}
	return nil
}

func removeTree(above *os.File, name string) error {
	in, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", above.Fd()))
	if err != nil {
		return err
	}
	defer in.Close()
	return in.RemoveAll(name)
}

// syncAll writes what the file system of a folder holds in memory.
func syncAll(at int) error {
	fd, err := unix.Openat(at, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}
