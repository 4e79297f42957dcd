package bootloader

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// programs holds boot programs, and what they are made of, by wanted.name.
type programs map[string]provider.Blob

// loaders copies boot programs of the distribution into the content store, so that
// an upgrade of their package changes no byte under a machine that is booting.
type loaders struct {
	content *store.Content
	dirs    []string // where relative paths are looked for

	mu   sync.Mutex // guards below
	seen map[string]imported
	made map[string]provider.Blob // what was made of them, by name
}

// imported is a file, or a folder of them, as it was when it was copied.
type imported struct {
	as   string // inode, size and time of all that was read
	blob provider.Blob
}

// load gives the programs that there are. What has not changed since it was copied
// is not read again.
func (l *loaders) load(ctx context.Context, list []wanted) (programs, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := programs{}
	for _, w := range list {
		for _, path := range l.places(w) {
			b, err := l.copied(ctx, path, w.folder)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("boot program %s: %w", path, err)
			}
			found[w.name] = b
			break
		}
	}
	return found, nil
}

// places lists where a program may be.
func (l *loaders) places(w wanted) []string {
	var list []string
	for _, p := range w.paths {
		if filepath.IsAbs(p) {
			list = append(list, p)
			continue
		}
		for _, dir := range l.dirs {
			list = append(list, filepath.Join(dir, p))
		}
	}
	return list
}

// copied gives the copy of a file, or of a folder's files as a tar.
func (l *loaders) copied(ctx context.Context, path string, folder bool) (provider.Blob, error) {
	files := []string{path}
	if folder {
		entries, err := os.ReadDir(path)
		if err != nil {
			return provider.Blob{}, err
		}
		files = nil
		for _, e := range entries { // sorted
			if e.Type().IsRegular() {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
	}
	var as strings.Builder
	for _, name := range files {
		st, err := os.Stat(name)
		if err != nil {
			return provider.Blob{}, err
		}
		if !st.Mode().IsRegular() {
			return provider.Blob{}, fmt.Errorf("%s is not a regular file", name)
		}
		sys, _ := st.Sys().(*syscall.Stat_t)
		fmt.Fprintln(&as, name, sys.Ino, st.Size(), st.ModTime().UnixNano())
	}
	if was, ok := l.seen[path]; ok && was.as == as.String() && l.content.Has(was.blob) {
		return was.blob, nil
	}
	var from io.Reader
	if folder {
		packed, err := tarOf(files)
		if err != nil {
			return provider.Blob{}, err
		}
		from = packed
	} else {
		f, err := os.Open(path)
		if err != nil {
			return provider.Blob{}, err
		}
		defer f.Close()
		from = f
	}
	b, err := l.content.Put(ctx, from)
	if err != nil {
		return provider.Blob{}, err
	}
	l.seen[path] = imported{as.String(), b}
	return b, nil
}

// tarOf packs files, their names without folder. The same files give the same bytes.
func tarOf(files []string) (*bytes.Buffer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if err := w.WriteHeader(&tar.Header{Name: filepath.Base(name), Mode: 0o644, Size: int64(len(content)), Format: tar.FormatUSTAR}); err != nil {
			return nil, err
		}
		if _, err := w.Write(content); err != nil {
			return nil, err
		}
	}
	return &b, w.Close()
}
