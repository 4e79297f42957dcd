package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Content is the content store: sealed files named by their digest. A file that
// is there is complete, synced and never written again. Safe for concurrent use,
// by several processes too.
type Content struct {
	dir     string // …/blobs/sha256
	scratch string // …/tmp, on the same file system

	pins sync.RWMutex // read-held by Pin, held by a collection; see pin.go

	journal *journal // told of what is put here; nil: none is kept
	sealed  sync.Map // digest -> Mark of what was sealed since the start

	sync func(*os.File) error // (*os.File).Sync, unless a test looks on
}

// OpenContent opens the content store below the state directory, and makes its
// folders when they are missing.
func OpenContent(state string) (*Content, error) {
	c := &Content{dir: filepath.Join(state, "blobs", "sha256"), scratch: filepath.Join(state, "tmp"), sync: (*os.File).Sync}
	for _, d := range []string{c.dir, c.scratch} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("content store: %w", err)
		}
	}
	return c, nil
}

// Scratch makes a new folder for work in progress, on the file system of the
// store, so that Seal need not copy. The caller removes it; whatever a killed
// process left there is removed when the state directory is next locked.
func (c *Content) Scratch(name string) (string, error) {
	return os.MkdirTemp(c.scratch, name+"-*")
}

// Path gives the file of a blob, whether or not it is there. A malformed digest
// gives an error, so no path outside the store can be named.
func (c *Content) Path(digest string) (string, error) {
	hexa, ok := strings.CutPrefix(digest, "sha256:")
	if raw, err := hex.DecodeString(hexa); !ok || err != nil || len(raw) != sha256.Size || strings.ToLower(hexa) != hexa {
		return "", fmt.Errorf("content store: malformed digest %q", digest)
	}
	return filepath.Join(c.dir, hexa[:2], hexa), nil
}

// Has reports whether a blob of that digest and size is there.
func (c *Content) Has(b provider.Blob) bool {
	path, err := c.Path(b.Digest)
	if err != nil {
		return false
	}
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Size() == b.Size
}

// Stamp tells one state of a blob's file from another: whether it is there, and
// whether it has been written since, without reading it. A sealed file is never
// written, so the stamp of a sound one does not change.
func (c *Content) Stamp(b provider.Blob) string {
	path, err := c.Path(b.Digest)
	if err != nil {
		return "malformed"
	}
	st, err := os.Stat(path)
	switch {
	case err != nil || !st.Mode().IsRegular():
		return "missing"
	case st.Size() != b.Size:
		return "damaged"
	}
	return st.ModTime().UTC().Format(time.RFC3339Nano)
}

// Open opens a blob for reading. A missing blob gives an error that is
// fs.ErrNotExist, a wrong size one that says so.
func (c *Content) Open(b provider.Blob) (*os.File, error) {
	path, err := c.Path(b.Digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("content store: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("content store: %w", err)
	}
	if st.Size() != b.Size {
		f.Close()
		return nil, fmt.Errorf("content store: %s has %d bytes, recorded were %d", b.Digest, st.Size(), b.Size)
	}
	return f, nil
}

// Put stores what r gives, and returns its digest and size.
func (c *Content) Put(ctx context.Context, r io.Reader) (provider.Blob, error) {
	if err := failpoint.Hit("store.put.create"); err != nil {
		return provider.Blob{}, fmt.Errorf("content store: %w", err)
	}
	f, err := os.CreateTemp(c.scratch, "put-*")
	if err != nil {
		return provider.Blob{}, fmt.Errorf("content store: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = io.Copy(f, readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	}))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return provider.Blob{}, fmt.Errorf("content store: %w", err)
	}
	return c.Seal(ctx, f.Name())
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Seal moves a finished file of a scratch folder into the store: it is hashed,
// made read-only, synced, and renamed, keeping its holes. The file at path is
// gone afterwards. Sealing bytes that are already there keeps the older file.
func (c *Content) Seal(ctx context.Context, path string) (provider.Blob, error) {
	return c.seal(ctx, path, publicMode)
}

// SealPrivate is Seal for what is only for the user of the process: as a machine's disk
// is, where its keys are. Bytes that are the root of an image that was built here stay
// readable for whom they were.
func (c *Content) SealPrivate(ctx context.Context, path string) (provider.Blob, error) {
	return c.seal(ctx, path, privateMode)
}

// Modes of sealed files.
const (
	publicMode  = 0o444
	privateMode = 0o400
)

func (c *Content) seal(ctx context.Context, path string, mode fs.FileMode) (provider.Blob, error) {
	fail := func(err error) (provider.Blob, error) {
		return provider.Blob{}, fmt.Errorf("content store: seal: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return f.Read(p)
	}))
	if err != nil {
		return fail(err)
	}
	b := provider.Blob{Digest: "sha256:" + hex.EncodeToString(h.Sum(nil)), Size: n}
	if c.Has(b) {
		if err := os.Remove(path); err != nil {
			return fail(err)
		}
		if mode == privateMode {
			if err := c.makePrivate(b.Digest); err != nil {
				return fail(err)
			}
		}
		return b, nil
	}
	if err := f.Chmod(mode); err != nil {
		return fail(err)
	}
	if err := failpoint.Hit("store.seal.sync"); err != nil {
		return fail(err)
	}
	if err := c.sync(f); err != nil {
		return fail(err)
	}
	dst, err := c.Path(b.Digest)
	if err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return fail(err)
	}
	if err := c.journal.put(b.Digest); err != nil {
		return fail(err)
	}
	if err := failpoint.Hit("store.seal.rename"); err != nil {
		return fail(err)
	}
	if err := os.Rename(path, dst); err != nil {
		return fail(err)
	}
	if info, err := os.Lstat(dst); err == nil {
		c.sealed.Store(b.Digest, MarkOf(info))
	}
	if err := failpoint.Hit("store.seal.renamed"); err != nil {
		return fail(err)
	}
	if err := syncDir(filepath.Dir(dst)); err != nil {
		return fail(err)
	}
	return b, syncDir(c.dir)
}

// makePrivate takes a blob from others that was sealed for everybody, and has that on disk
// before anything is recorded of it. A disk that nobody wrote to is the image that it
// began as: that stays as it is.
func (c *Content) makePrivate(digest string) error {
	path, err := c.Path(digest)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Mode().Perm() == privateMode {
		return err
	}
	if built, err := c.builtAs(digest); built || err != nil {
		return err
	}
	if err := f.Chmod(privateMode); err != nil {
		return err
	}
	return c.sync(f)
}

// Remove deletes a blob. A blob that is not there is not an error.
func (c *Content) Remove(digest string) error {
	path, err := c.Path(digest)
	if err != nil {
		return err
	}
	if err := failpoint.Hit("store.content.remove"); err != nil {
		return fmt.Errorf("content store: %w", err)
	}
	if err := remove(path); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("content store: %w", err)
	}
	c.journal.named(provider.Blob{Digest: digest}) // by nobody, and nothing is left to remove
	return nil
}

// Each calls f with the digest and size of every blob, in order of digest.
func (c *Content) Each(f func(provider.Blob) error) error {
	return filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return f(provider.Blob{Digest: "sha256:" + d.Name(), Size: info.Size()})
	})
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
