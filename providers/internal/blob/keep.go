package blob

import (
	"errors"
	"fmt"
	"os"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// KeptBlob is as in provider.Keeper.
func (c *Cache) KeptBlob(digest string) *os.File {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.files[digest]
	if !ok {
		return nil
	}
	// A position of its own, on a file that may have no name any more.
	own, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.file.Load().Fd()))
	if err != nil {
		return nil
	}
	return own
}

// SpoilBlob is as in provider.Keeper.
func (c *Cache) SpoilBlob(digest string, bad os.FileInfo, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.files[digest]
	if !ok {
		return
	}
	if is, err := f.file.Load().Stat(); err == nil && os.SameFile(is, bad) {
		f.spoilt = fmt.Errorf("blob %s: %w", digest, why)
	}
}

// RenewBlob is as in provider.Keeper.
func (c *Cache) RenewBlob(b provider.Blob) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.files[b.Digest]
	if !ok {
		return nil
	}
	err := f.renew()
	if errors.Is(err, errSame) {
		return nil
	}
	return err
}

var errSame = errors.New("the content store has no other file")

// renew reads the file that the store has now. It is called with the cache's lock
// held, and gives errSame when that is the file that is open.
func (f *File) renew() error {
	osf, err := f.cache.open(f.Blob)
	if err != nil {
		return err
	}
	was := f.file.Load()
	a, err := osf.Stat()
	if err == nil {
		var b os.FileInfo
		if b, err = was.Stat(); err == nil && os.SameFile(a, b) {
			err = errSame
		}
	}
	if err != nil {
		osf.Close()
		return err
	}
	f.former = append(f.former, was)
	f.file.Store(osf)
	f.spoilt = nil
	return nil
}
