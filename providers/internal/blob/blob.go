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

	mu    sync.Mutex // guards files and what every File says it does; never held over disk work
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
	// opened is closed once file is there, or failed says why it is not: then nobody has
	// the File any more.
	opened chan struct{}
	failed error
	// file is what is read; it is replaced when the store has a sound file again. The
	// former ones stay open to the end: somebody may be reading.
	file   atomic.Pointer[os.File]
	former []*os.File // guarded by cache.mu
	refs   int        // guarded by cache.mu
	spoilt error      // guarded by cache.mu; see Cache.SpoilBlob

	renewMu  sync.Mutex    // one looks at a time; guards renewed
	renewals atomic.Uint64 // how often somebody began to look
	renewed  error         // what who looked last found

	holes   atomic.Pointer[holes]   // nil until somebody asked
	holesMu sync.Mutex              // one scans at a time; see mapMu
	mapping atomic.Pointer[mapping] // nil until somebody fetched; of what file was then
	tried   atomic.Pointer[os.File] // was to be mapped, and is or cannot be; nil until somebody fetched
	mapMu   sync.Mutex              // one maps at a time; guards mappings; taken before holesMu
	// mappings are all that were made: somebody may be sending from any.
	mappings []*mapping
}

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return f.file.Load().ReadAt(p, off) }

// OSFile gives the file that holds the bytes at present. It is open until the last
// Release.
func (f *File) OSFile() *os.File { return f.file.Load() }

// Get opens a blob, or shares the one that is open. While one opens it, others wait for
// that one, and those that want another blob do not.
func (c *Cache) Get(b provider.Blob) (*File, error) {
	for waited := false; ; waited = true {
		f, first, err := c.take(b)
		if err != nil {
			return nil, err
		}
		if first {
			f.open()
		}
		<-f.opened
		switch {
		case f.failed == nil:
			if err := f.Renew(); err != nil {
				f.Release()
				return nil, err
			}
			return f, nil
		case first, waited:
			return nil, f.failed
		}
		// It may have come since that one looked.
	}
}

// take takes one more reference to the file of a blob. first says that the caller is to
// open it.
func (c *Cache) take(b provider.Blob) (f *File, first bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.files[b.Digest]
	switch {
	case !ok:
		f = &File{Blob: b, cache: c, opened: make(chan struct{})}
		c.files[b.Digest] = f
	case f.Size != b.Size:
		return nil, false, fmt.Errorf("blob %s: %d bytes are open, %d wanted", b.Digest, f.Size, b.Size)
	}
	f.refs++
	return f, !ok, nil
}

// open opens the file of a blob for all who took it.
func (f *File) open() {
	osf, err := f.cache.open(f.Blob)
	f.cache.mu.Lock()
	if err == nil {
		f.file.Store(osf)
	} else {
		f.failed = err
		delete(f.cache.files, f.Digest)
	}
	f.cache.mu.Unlock()
	close(f.opened)
}

// Hold takes one more reference to a file that the caller knows to be open.
func (f *File) Hold() *File {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	f.refs++
	return f
}

// Sound says why no boot may begin with this file, nil when one may. It waits for no disk;
// see Renew.
func (f *File) Sound() error {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	return f.spoilt
}

// Renew is Sound, once a spoilt file was replaced by what the store has now, if that is
// another one.
func (f *File) Renew() error {
	if f.Sound() == nil {
		return nil
	}
	_ = f.renew() // then it is what it was
	return f.Sound()
}

// Release gives a reference back; the last one closes the file, which may take a while.
func (f *File) Release() {
	f.cache.mu.Lock()
	f.refs--
	last := f.refs == 0
	if last {
		delete(f.cache.files, f.Digest)
	}
	f.cache.mu.Unlock()
	if !last {
		return
	}
	f.unmap()
	for _, osf := range append(f.former, f.file.Load()) { // which nobody can change any more
		osf.Close()
	}
}

// Open counts the blobs that are open.
func (c *Cache) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.files)
}
