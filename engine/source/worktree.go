package source

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
	"syscall"
)

// Checkout is the files of a work tree as they are on disk, committed or not, with
// the rules of Tree as far as they apply: no symbolic link leads out of the
// folder, Git's own files are not there, submodules and Git LFS pointers are
// refused. It is for planning what is not committed yet.
type Checkout struct {
	root   *os.Root
	limits Limits
}

var (
	_ fs.ReadDirFS  = (*Checkout)(nil)
	_ fs.ReadFileFS = (*Checkout)(nil)
	_ fs.StatFS     = (*Checkout)(nil)
	_ fs.ReadLinkFS = (*Checkout)(nil)
)

// WorkTree opens the folder sub (as Config.Path) of the work tree of the local
// repository repo (as Config.Repo). A bare or remote one gives ErrNoWorkTree. The
// folder is closed when the Checkout is, or when nobody refers to it any more.
func WorkTree(repo, sub string) (*Checkout, error) {
	src, err := openWork(repo, sub)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(filepath.Join(src.dirs.work, filepath.FromSlash(src.cfg.Path)))
	if err != nil {
		return nil, fmt.Errorf("work tree: %w", err)
	}
	return &Checkout{root: root, limits: src.cfg.Limits}, nil
}

// openWork opens a repository that has a work tree.
func openWork(repo, sub string) (*Source, error) {
	loc, err := parseRepo(repo)
	if err != nil {
		return nil, err
	}
	if loc.remote != "" {
		return nil, fmt.Errorf("repository %s: %w", loc.remote, ErrNoWorkTree)
	}
	src, err := Open(Config{Repo: repo, Path: sub})
	if err == nil && src.dirs.work == "" {
		err = fmt.Errorf("repository %s: %w", repo, ErrNoWorkTree)
	}
	return src, err
}

// Close gives the folder back; files that are open stay open.
func (w *Checkout) Close() error { return w.root.Close() }

// Open opens a file or a folder.
func (w *Checkout) Open(name string) (fs.File, error) {
	if err := w.check(name); err != nil {
		return nil, pathError("open", name, err)
	}
	// Without O_NONBLOCK, opening a named pipe waits for a writer.
	f, err := w.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, pathError("open", name, plain(err))
	}
	if err := w.admit(f); err != nil {
		f.Close()
		return nil, pathError("open", name, err)
	}
	return workFile{File: f}, nil
}

// admit refuses what a commit could not hold, or should not.
func (w *Checkout) admit(f *os.File) error {
	st, err := f.Stat()
	switch {
	case err != nil:
		return err
	case st.IsDir():
		return nil
	case !st.Mode().IsRegular():
		return errors.New("is neither a file nor a folder")
	case st.Size() > w.limits.Blob:
		return fmt.Errorf("%w: it has %d bytes, %d are allowed", ErrLimit, st.Size(), w.limits.Blob)
	case st.Size() >= maxPointer:
		return nil
	}
	head := make([]byte, len(lfsPrefix))
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if isPointer(head[:n]) {
		return ErrLFS
	}
	return nil
}

// ReadFile gives the whole content of a file.
func (w *Checkout) ReadFile(name string) ([]byte, error) {
	f, err := w.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// ReadDir lists a folder, sorted by name, without Git's own.
func (w *Checkout) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := w.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := f.(workFile).ReadDir(-1)
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, err
}

// Stat describes what name leads to.
func (w *Checkout) Stat(name string) (fs.FileInfo, error) {
	return ask(w, "stat", name, w.root.Stat)
}

// Lstat describes name itself, which may be a symbolic link.
func (w *Checkout) Lstat(name string) (fs.FileInfo, error) {
	return ask(w, "lstat", name, w.root.Lstat)
}

// ReadLink gives the target of a symbolic link.
func (w *Checkout) ReadLink(name string) (string, error) {
	return ask(w, "readlink", name, w.root.Readlink)
}

func ask[T any](w *Checkout, op, name string, f func(string) (T, error)) (T, error) {
	var none T
	if err := w.check(name); err != nil {
		return none, pathError(op, name, err)
	}
	v, err := f(name)
	if err != nil {
		return none, pathError(op, name, plain(err))
	}
	return v, nil
}

// check refuses Git's own files, and paths below a submodule.
func (w *Checkout) check(name string) error {
	if !fs.ValidPath(name) {
		return fs.ErrInvalid
	}
	for i, part := range strings.Split(name, "/") {
		if strings.EqualFold(part, ".git") {
			return fs.ErrNotExist
		}
		if i > 0 {
			above := path.Join(strings.Split(name, "/")[:i]...)
			if _, err := w.root.Lstat(path.Join(above, ".git")); err == nil {
				return fmt.Errorf("%s %w", above, ErrSubmodule)
			}
		}
	}
	return nil
}

// plain takes the operation and the path out of an error of os.Root, and names the
// one that has no value to compare with.
func plain(err error) error {
	var pe *fs.PathError
	if !errors.As(err, &pe) {
		return err
	}
	if pe.Err.Error() == "path escapes from parent" {
		return ErrEscapes
	}
	return pe.Err
}

// workFile is an open file or folder of a work tree.
type workFile struct{ *os.File }

// ReadDir gives the next n entries, as fs.ReadDirFile has it, without Git's own.
func (f workFile) ReadDir(n int) ([]fs.DirEntry, error) {
	for {
		list, err := f.File.ReadDir(n)
		list = slices.DeleteFunc(list, func(e fs.DirEntry) bool { return strings.EqualFold(e.Name(), ".git") })
		if n <= 0 || len(list) > 0 || err != nil {
			return list, err
		}
	}
}
