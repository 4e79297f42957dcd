package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Mark tells one state of a file from another without reading it. A sealed file is
// never written, so its mark stays what it was.
type Mark struct {
	Device, Inode uint64
	Size          int64
	Mode          fs.FileMode
	Written       time.Time // mtime
	Changed       time.Time // ctime: of the inode, which no program can set back
}

// MarkOf gives the mark of an open or looked-up file.
func MarkOf(info fs.FileInfo) Mark {
	m := Mark{Size: info.Size(), Mode: info.Mode(), Written: info.ModTime().UTC()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		m.Device, m.Inode, m.Changed = uint64(sys.Dev), sys.Ino, time.Unix(sys.Ctim.Unix()).UTC()
	}
	return m
}

// SpoiltError says that the bytes under a blob's name are not the blob.
type SpoiltError struct {
	Blob   provider.Blob
	Reason string // what is there instead
}

func (e *SpoiltError) Error() string { return fmt.Sprintf("%s: %s", e.Blob.Digest, e.Reason) }

// Mark gives the mark of a blob's file. A missing one is fs.ErrNotExist; one that
// cannot be the blob, by its kind or its size, a *SpoiltError.
func (c *Content) Mark(b provider.Blob) (Mark, error) {
	path, err := c.Path(b.Digest)
	if err != nil {
		return Mark{}, err
	}
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return Mark{}, fmt.Errorf("content store: %w", err)
	case !info.Mode().IsRegular():
		return MarkOf(info), &SpoiltError{b, "its name is that of something that is no file"}
	case info.Size() != b.Size:
		return MarkOf(info), &SpoiltError{b, fmt.Sprintf("its file has %d bytes, and should have %d", info.Size(), b.Size)}
	}
	return MarkOf(info), nil
}

// Sealed gives the mark that a blob's file had when this process sealed it; false when it
// did not. Its bytes were those of the blob then.
func (c *Content) Sealed(digest string) (Mark, bool) {
	m, ok := c.sealed.Load(digest)
	if !ok {
		return Mark{}, false
	}
	return m.(Mark), true
}

// Pace is called with the number of bytes that were just read, and may take its time.
type Pace func(ctx context.Context, n int) error

// Check reads a blob's file through, and gives the mark that it had before and after. A
// file that is not the blob is a *SpoiltError, a missing one fs.ErrNotExist; any other
// error says nothing about the bytes, as when the file was changed meanwhile: what was
// read first may be other bytes by now. pace may be nil.
func (c *Content) Check(ctx context.Context, b provider.Blob, pace Pace) (Mark, error) {
	m, err := c.Mark(b)
	if err != nil {
		return m, err
	}
	path, err := c.Path(b.Digest)
	if err != nil {
		return m, err
	}
	f, err := os.Open(path)
	if err != nil {
		return m, fmt.Errorf("content store: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return m, fmt.Errorf("content store: %w", err)
	}
	m = MarkOf(info)
	if err := CheckFile(ctx, f, b, pace); err != nil {
		return m, err
	}
	if info, err = f.Stat(); err != nil {
		return m, fmt.Errorf("content store: %w", err)
	}
	if MarkOf(info) != m {
		return m, fmt.Errorf("content store: %s was changed while it was read", path)
	}
	return m, nil
}

// CheckFile reads an open file from its beginning on. One that is not the blob gives a
// *SpoiltError.
func CheckFile(ctx context.Context, f *os.File, b provider.Blob, pace Pace) error {
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(pacedFile{ctx, f, pace}, 0, b.Size+1))
	if err != nil {
		return fmt.Errorf("content store: %w", err)
	}
	if n != b.Size {
		return &SpoiltError{b, fmt.Sprintf("its file has %d bytes or more, and should have %d", n, b.Size)}
	}
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != b.Digest {
		return &SpoiltError{b, "its file holds other bytes, " + provider.ShortDigest(got)}
	}
	return nil
}

type pacedFile struct {
	ctx  context.Context
	f    *os.File
	pace Pace
}

func (p pacedFile) ReadAt(b []byte, off int64) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.f.ReadAt(b, off)
	if p.pace != nil && n > 0 {
		if perr := p.pace(p.ctx, n); perr != nil {
			return n, perr
		}
	}
	return n, err
}

// Restore puts a copy of an open file in the place of a blob whose own file is gone or
// spoilt. The copy has the holes of the original, its bytes are verified before anything
// is replaced, and it is on disk when Restore returns. What stood there is unlinked: who
// has it open keeps it. Who may read the copy is who may read the source. A source that is not the blob gives a *SpoiltError.
func (c *Content) Restore(ctx context.Context, b provider.Blob, from *os.File) error {
	fail := func(err error) error { return fmt.Errorf("content store: restore: %w", err) }
	dst, err := c.Path(b.Digest)
	if err != nil {
		return fail(err)
	}
	f, err := os.CreateTemp(c.scratch, "restore-*")
	if err != nil {
		return fail(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := copySparse(ctx, f, from, b.Size); err != nil {
		return fail(err)
	}
	if err := CheckFile(ctx, f, b, nil); err != nil {
		return fail(err)
	}
	st, err := from.Stat()
	if err != nil {
		return fail(err)
	}
	if err := f.Chmod(st.Mode().Perm()&publicMode | privateMode); err != nil {
		return fail(err)
	}
	if err := failpoint.Hit("store.restore.sync"); err != nil {
		return fail(err)
	}
	if err := f.Sync(); err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return fail(err)
	}
	if err := failpoint.Hit("store.restore.rename"); err != nil {
		return fail(err)
	}
	if err := os.Rename(f.Name(), dst); err != nil {
		return fail(err)
	}
	if err := syncDir(filepath.Dir(dst)); err != nil {
		return fail(err)
	}
	return syncDir(c.dir)
}

// SetAside takes a spoilt file out of the content store, so that nothing is served from
// it at a next start and a build puts a sound one in its place. Who has it open keeps
// it; it lies in the scratch folder until the next start. m must be its mark: a file
// that took its place meanwhile stays. A missing one is no error.
func (c *Content) SetAside(b provider.Blob, m Mark) error {
	fail := func(err error) error { return fmt.Errorf("content store: set aside: %w", err) }
	path, err := c.Path(b.Digest)
	if err != nil {
		return fail(err)
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fail(err)
	}
	if now := MarkOf(info); now.Device != m.Device || now.Inode != m.Inode {
		return nil
	}
	if err := failpoint.Hit("store.aside.rename"); err != nil {
		return fail(err)
	}
	if err := os.Rename(path, filepath.Join(c.scratch, "spoilt-"+provider.ShortDigest(b.Digest))); err != nil {
		return fail(err)
	}
	return syncDir(filepath.Dir(path))
}

// copySparse copies size bytes between files that are read and written by position
// alone, and leaves holes where the source has them.
func copySparse(ctx context.Context, to, from *os.File, size int64) error {
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
		end = min(end, size)
		_, err = io.Copy(io.NewOffsetWriter(to, start), io.NewSectionReader(pacedFile{ctx: ctx, f: from}, start, end-start))
		if err != nil {
			return err
		}
	}
	return nil
}

// Folders lists the folders that hold blobs, the one that holds those folders first.
func (c *Content) Folders() ([]string, error) {
	list, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, fmt.Errorf("content store: %w", err)
	}
	dirs := []string{c.dir}
	for _, e := range list {
		if e.IsDir() {
			dirs = append(dirs, filepath.Join(c.dir, e.Name()))
		}
	}
	return dirs, nil
}
