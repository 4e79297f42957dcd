package source

import (
	"io"
	"io/fs"
	"path"
	"syscall"
	"time"

	"github.com/go-git/go-git/v5/plumbing/filemode"
)

var (
	_ fs.ReadDirFS  = (*Tree)(nil)
	_ fs.ReadFileFS = (*Tree)(nil)
	_ fs.StatFS     = (*Tree)(nil)
	_ fs.ReadLinkFS = (*Tree)(nil)
)

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// Open opens a file or a folder. A file implements io.Seeker.
func (t *Tree) Open(name string) (fs.File, error) {
	n, err := t.find(name, true)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	if n.dir != nil {
		return &openFolder{info: t.info(name, n, 0), entries: t.list(n)}, nil
	}
	f, err := t.openFile(name, n)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return f, nil
}

// ReadFile gives the whole content of a file.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	n, err := t.find(name, true)
	if err == nil && n.dir != nil {
		err = syscall.EISDIR
	}
	if err != nil {
		return nil, pathError("read", name, err)
	}
	f, err := t.openFile(name, n)
	if err != nil {
		return nil, pathError("read", name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, pathError("read", name, err)
	}
	return b, nil
}

// ReadDir lists a folder, sorted by name.
func (t *Tree) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := t.find(name, true)
	if err == nil && n.dir == nil {
		if err = error(syscall.ENOTDIR); n.mode == filemode.Submodule {
			err = ErrSubmodule
		}
	}
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	return t.list(n), nil
}

// Stat describes what name leads to.
func (t *Tree) Stat(name string) (fs.FileInfo, error) { return t.stat("stat", name, true) }

// Lstat describes name itself, which may be a symbolic link.
func (t *Tree) Lstat(name string) (fs.FileInfo, error) { return t.stat("lstat", name, false) }

func (t *Tree) stat(op, name string, follow bool) (fs.FileInfo, error) {
	n, err := t.find(name, follow)
	if err != nil {
		return nil, pathError(op, name, err)
	}
	info, err := t.sized(name, n)
	if err != nil {
		return nil, pathError(op, name, err)
	}
	return info, nil
}

// ReadLink gives the target of a symbolic link as it was committed.
func (t *Tree) ReadLink(name string) (string, error) {
	n, err := t.find(name, false)
	if err == nil && n.mode != filemode.Symlink {
		err = fs.ErrInvalid
	}
	if err != nil {
		return "", pathError("readlink", name, err)
	}
	target, err := t.target(n)
	if err != nil {
		return "", pathError("readlink", name, err)
	}
	return target, nil
}

// info describes a node whose size is known.
func (t *Tree) info(name string, n *node, size int64) fileInfo {
	return fileInfo{name: path.Base(name), mode: modeOf(n.mode), size: size}
}

// sized is info with the size looked up.
func (t *Tree) sized(name string, n *node) (fileInfo, error) {
	if n.dir != nil || n.mode == filemode.Submodule {
		return t.info(name, n, 0), nil
	}
	size, err := t.objs.size(n.hash)
	return t.info(name, n, size), t.noted(err)
}

func (t *Tree) list(n *node) []fs.DirEntry {
	out := make([]fs.DirEntry, len(n.dir.entries))
	for i := range n.dir.entries {
		out[i] = dirEntry{t: t, n: &n.dir.entries[i]}
	}
	return out
}

func modeOf(m filemode.FileMode) fs.FileMode {
	switch m {
	case filemode.Dir:
		return fs.ModeDir | 0o755
	case filemode.Executable:
		return 0o755
	case filemode.Symlink:
		return fs.ModeSymlink | 0o777
	case filemode.Submodule:
		return fs.ModeIrregular
	default:
		return 0o644
	}
}

// fileInfo describes an entry; it has no time.
type fileInfo struct {
	name string
	mode fs.FileMode
	size int64
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.size }
func (i fileInfo) Mode() fs.FileMode  { return i.mode }
func (i fileInfo) ModTime() time.Time { return time.Time{} }
func (i fileInfo) IsDir() bool        { return i.mode.IsDir() }
func (i fileInfo) Sys() any           { return nil }

// dirEntry is a listed entry; its size is looked up when asked for.
type dirEntry struct {
	t *Tree
	n *node
}

func (e dirEntry) Name() string               { return e.n.name }
func (e dirEntry) IsDir() bool                { return e.n.dir != nil }
func (e dirEntry) Type() fs.FileMode          { return modeOf(e.n.mode).Type() }
func (e dirEntry) Info() (fs.FileInfo, error) { return e.t.sized(e.n.name, e.n) }
func (e dirEntry) String() string             { return fs.FormatDirEntry(e) }

// openFolder is an open folder.
type openFolder struct {
	info    fileInfo
	entries []fs.DirEntry // not yet read
}

func (f *openFolder) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFolder) Close() error               { return nil }
func (f *openFolder) Read([]byte) (int, error) {
	return 0, pathError("read", f.info.name, syscall.EISDIR)
}

// ReadDir gives the next n entries, as fs.ReadDirFile has it.
func (f *openFolder) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(f.entries) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(f.entries) {
		n = len(f.entries)
	}
	out := f.entries[:n:n]
	f.entries = f.entries[n:]
	return out, nil
}
