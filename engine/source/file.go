package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
)

func (t *Tree) openFile(name string, n *node) (fs.File, error) {
	if n.mode == filemode.Submodule {
		return nil, ErrSubmodule
	}
	size, err := t.objs.size(n.hash)
	if err != nil {
		return nil, t.noted(err)
	}
	if err := t.admit(n, size); err != nil {
		return nil, err
	}
	info := t.info(name, n, size)
	if size > largeObject {
		return &streamed{t: t, hash: n.hash, info: info}, nil
	}
	content, err := t.objs.read(plumbing.BlobObject, n.hash, largeObject)
	if err != nil {
		return nil, t.noted(err)
	}
	if isPointer(content) {
		return nil, ErrLFS
	}
	return &held{Reader: *bytes.NewReader(content), info: info}, nil
}

// held is an open small file.
type held struct {
	bytes.Reader
	info fileInfo
}

func (f *held) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *held) Close() error               { return nil }

// streamed is an open large file. Every byte of it that is passed over is hashed,
// so that whoever reads to the end knows that it got what the commit names.
type streamed struct {
	t    *Tree
	hash plumbing.Hash
	info fileInfo

	pos    int64 // where the next Read starts
	closed bool

	r   io.ReadCloser // nil: not open
	off int64         // where r stands
	sum plumbing.Hasher
}

func (f *streamed) Stat() (fs.FileInfo, error) { return f.info, nil }

func (f *streamed) Close() error {
	if f.closed {
		return pathError("close", f.info.name, fs.ErrClosed)
	}
	f.closed = true
	return f.drop()
}

func (f *streamed) drop() error {
	if f.r == nil {
		return nil
	}
	err := f.r.Close()
	f.r = nil
	return err
}

// Seek costs reading from the start when it goes back, and reading what is
// skipped when it goes ahead.
func (f *streamed) Seek(offset int64, whence int) (int64, error) {
	switch {
	case f.closed:
		return 0, pathError("seek", f.info.name, fs.ErrClosed)
	case whence == io.SeekCurrent:
		offset += f.pos
	case whence == io.SeekEnd:
		offset += f.info.size
	case whence != io.SeekStart:
		offset = -1
	}
	if offset < 0 {
		return 0, pathError("seek", f.info.name, fs.ErrInvalid)
	}
	f.pos = offset
	return offset, nil
}

func (f *streamed) Read(p []byte) (int, error) {
	switch {
	case f.closed:
		return 0, pathError("read", f.info.name, fs.ErrClosed)
	case len(p) == 0:
		return 0, nil
	case f.pos >= f.info.size:
		return 0, io.EOF
	}
	n, err := f.read(p)
	if err != nil {
		_ = f.drop()
		return n, pathError("read", f.info.name, f.t.noted(damage(f.hash, err)))
	}
	return n, nil
}

func (f *streamed) read(p []byte) (int, error) {
	if f.r != nil && f.off > f.pos {
		if err := f.drop(); err != nil {
			return 0, err
		}
	}
	if f.r == nil {
		r, err := f.t.objs.stream(f.hash)
		if err != nil {
			return 0, err
		}
		f.r, f.off, f.sum = r, 0, plumbing.NewHasher(plumbing.BlobObject, f.info.size)
	}
	for f.off < f.pos {
		if _, err := f.next(p[:min(int64(len(p)), f.pos-f.off)]); err != nil {
			return 0, err
		}
	}
	n, err := f.next(p[:min(int64(len(p)), f.info.size-f.pos)])
	f.pos += int64(n)
	return n, err
}

// next reads on, at least one byte, and checks the name of the whole at the end.
func (f *streamed) next(p []byte) (int, error) {
	n, err := io.ReadAtLeast(f.r, p, 1)
	f.off += int64(n)
	_, _ = f.sum.Write(p[:n])
	switch {
	case errors.Is(err, io.EOF):
		return n, fmt.Errorf("%d of %d bytes: %w", f.off, f.info.size, io.ErrUnexpectedEOF)
	case err != nil:
		return n, err
	case f.off == f.info.size && f.sum.Sum() != f.hash:
		return n, errors.New("its bytes do not match its name")
	}
	return n, nil
}
