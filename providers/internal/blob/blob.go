// Package blob keeps sealed files of the content store open, once each, for as
// long as somebody serves them.
package blob

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Cache opens blobs and shares the open files. Safe for concurrent use.
type Cache struct {
	open func(provider.Blob) (*os.File, error)

	mu    sync.Mutex // guards files and what every File says it does
	files map[string]*File
}

// NewCache makes a cache over a function that opens a blob and checks its size,
// as store.Content.Open does.
func NewCache(open func(provider.Blob) (*os.File, error)) *Cache {
	return &Cache{open: open, files: map[string]*File{}}
}

// File is an open blob. It is shared, and read by position only. Whoever got it
// from Get or Hold calls Release once.
type File struct {
	provider.Blob
	cache *Cache
	// file is what is read; it is replaced when the store has a sound file again. The
	// former ones stay open to the end: somebody may be reading.
	file   atomic.Pointer[os.File]
	former []*os.File // guarded by cache.mu
	refs   int        // guarded by cache.mu
	spoilt error      // guarded by cache.mu; see Cache.Spoil

	holes   atomic.Pointer[holes]   // nil until somebody asked
	mapping atomic.Pointer[mapping] // nil until somebody fetched; of what file was then
	tried   atomic.Pointer[os.File] // was to be mapped, and is or cannot be; nil until somebody fetched
	mapMu   sync.Mutex              // one maps at a time; guards mappings
	// mappings are all that were made: somebody may be sending from any.
	mappings []*mapping
}

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return f.file.Load().ReadAt(p, off) }

// OSFile gives the file that holds the bytes at present. It is open until the last
// Release.
func (f *File) OSFile() *os.File { return f.file.Load() }

// Get opens a blob, or shares the one that is open.
func (c *Cache) Get(b provider.Blob) (*File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.files[b.Digest]; ok {
		if f.Size != b.Size {
			return nil, fmt.Errorf("blob %s: %d bytes are open, %d wanted", b.Digest, f.Size, b.Size)
		}
		if err := f.sound(); err != nil {
			return nil, err
		}
		f.refs++
		return f, nil
	}
	osf, err := c.open(b)
	if err != nil {
		return nil, err
	}
	f := &File{Blob: b, cache: c, refs: 1}
	f.file.Store(osf)
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

// Sound says why no boot may begin with this file, nil when one may.
func (f *File) Sound() error {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	return f.sound()
}

// sound is Sound with the cache's lock held. A spoilt file is opened anew as soon as
// the store has another one.
func (f *File) sound() error {
	if f.spoilt == nil {
		return nil
	}
	if f.renew() != nil {
		return f.spoilt
	}
	return nil
}

// Release gives a reference back; the last one closes the file.
func (f *File) Release() {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	f.refs--
	if f.refs > 0 {
		return
	}
	delete(f.cache.files, f.Digest)
	f.unmap()
	for _, osf := range append(f.former, f.file.Load()) {
		osf.Close()
	}
}

// Open counts the blobs that are open.
func (c *Cache) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.files)
}
