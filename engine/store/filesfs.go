package store

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// FS gives the files as a read-only file system. It must not outlive a change of
// the map.
func (f Files) FS() fs.FS {
	m := memFS{files: f, folders: map[string][]fs.DirEntry{".": nil}}
	for p, b := range f {
		m.add(p, memInfo{name: path.Base(p), size: int64(len(b)), mode: 0o644})
	}
	for _, list := range m.folders {
		slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	}
	return m
}

// memFS is files in memory, with the folders that their paths imply.
type memFS struct {
	files   Files
	folders map[string][]fs.DirEntry
}

// add lists an entry in its folder, and the folder in its own.
func (m memFS) add(p string, i memInfo) {
	dir := path.Dir(p)
	if _, ok := m.folders[dir]; !ok {
		m.folders[dir] = nil
		m.add(dir, memInfo{name: path.Base(dir), mode: fs.ModeDir | 0o755})
	}
	m.folders[dir] = append(m.folders[dir], fs.FileInfoToDirEntry(i))
}

// Open opens a file or a folder.
func (m memFS) Open(name string) (fs.File, error) {
	fail := func(err error) (fs.File, error) { return nil, &fs.PathError{Op: "open", Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return fail(fs.ErrInvalid)
	}
	if b, ok := m.files[name]; ok {
		return &memFile{Reader: *bytes.NewReader(b), info: memInfo{name: path.Base(name), size: int64(len(b)), mode: 0o644}}, nil
	}
	if list, ok := m.folders[name]; ok {
		return &memFolder{info: memInfo{name: path.Base(name), mode: fs.ModeDir | 0o755}, entries: list}, nil
	}
	return fail(fs.ErrNotExist)
}

type memInfo struct {
	name string
	size int64
	mode fs.FileMode
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) Mode() fs.FileMode  { return i.mode }
func (i memInfo) ModTime() time.Time { return time.Time{} }
func (i memInfo) IsDir() bool        { return i.mode.IsDir() }
func (i memInfo) Sys() any           { return nil }

type memFile struct {
	bytes.Reader
	info memInfo
}

func (f *memFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *memFile) Close() error               { return nil }

type memFolder struct {
	info    memInfo
	entries []fs.DirEntry // not yet read
}

func (f *memFolder) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *memFolder) Close() error               { return nil }
func (f *memFolder) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: f.info.name, Err: syscall.EISDIR}
}

func (f *memFolder) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(f.entries) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(f.entries) {
		n = len(f.entries)
	}
	out := slices.Clone(f.entries[:n])
	f.entries = f.entries[n:]
	return out, nil
}
