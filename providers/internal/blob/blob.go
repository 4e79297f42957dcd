// Package blob keeps sealed files of the content store open, once each, for as
// long as somebody serves them.
package blob

import (
	"fmt"
	"os"
	"sync"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Cache opens blobs and shares the open files. Safe for concurrent use.
type Cache struct {
	open func(provider.Blob) (*os.File, error)

	mu    sync.Mutex // guards files and every Ref's count
	files map[string]*File
}

// NewCache makes a cache over a function that opens a blob and checks its size,
// as store.Content.Open does.
func NewCache(open func(provider.Blob) (*os.File, error)) *Cache {
	return &Cache{open: open, files: map[string]*File{}}
}

// File is an open blob. It is shared: read it with ReadAt only. Whoever got it
// from Get or Hold calls Release once.
type File struct {
	provider.Blob
	*os.File
	cache *Cache
	refs  int
}

// Get opens a blob, or shares the one that is open.
func (c *Cache) Get(b provider.Blob) (*File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.files[b.Digest]; ok {
		if f.Size != b.Size {
			return nil, fmt.Errorf("blob %s: %d bytes are open, %d wanted", b.Digest, f.Size, b.Size)
		}
		f.refs++
		return f, nil
	}
	osf, err := c.open(b)
	if err != nil {
		return nil, err
	}
	f := &File{Blob: b, File: osf, cache: c, refs: 1}
	c.files[b.Digest] = f
	return f, nil
}

// Hold takes one more reference to a file that the caller knows to be open.
func (f *File) Hold() *File {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	f.refs++
	return f
}

// Release gives a reference back; the last one closes the file.
func (f *File) Release() {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	f.refs--
	if f.refs == 0 {
		delete(f.cache.files, f.Digest)
		f.File.Close()
	}
}

// Open counts the blobs that are open.
func (c *Cache) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.files)
}
