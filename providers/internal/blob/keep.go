package blob

import (
	"errors"
	"fmt"
	"os"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// held gives the open file of a blob, with one more reference; nil when none is open.
func (c *Cache) held(digest string) *File {
	c.mu.Lock()
	f, ok := c.files[digest]
	if ok {
		f.refs++
	}
	c.mu.Unlock()
	if !ok {
		return nil
	}
	if <-f.opened; f.failed != nil {
		return nil
	}
	return f
}

// KeptBlob is as in provider.Keeper.
func (c *Cache) KeptBlob(digest string) *os.File {
	f := c.held(digest)
	if f == nil {
		return nil
	}
	defer f.Release()
	// A position of its own, on a file that may have no name any more.
	own, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.file.Load().Fd()))
	if err != nil {
		return nil
	}
	return own
}

// SpoilBlob is as in provider.Keeper.
func (c *Cache) SpoilBlob(digest string, bad os.FileInfo, why error) {
	f := c.held(digest)
	if f == nil {
		return
	}
	defer f.Release()
	now := f.file.Load()
	if is, err := now.Stat(); err != nil || !os.SameFile(is, bad) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.file.Load() == now {
		f.spoilt = fmt.Errorf("blob %s: %w", digest, why)
	}
}

// RenewBlob is as in provider.Keeper.
func (c *Cache) RenewBlob(b provider.Blob) error {
	f := c.held(b.Digest)
	if f == nil {
		return nil
	}
	defer f.Release()
	err := f.renew()
	if errors.Is(err, errSame) {
		return nil
	}
	return err
}

var errSame = errors.New("the content store has no other file")

// renew reads the file that the store has now; errSame says that it is the file that is
// open. Those who ask while somebody looks are all told what the next one finds.
func (f *File) renew() error {
	begun := f.renewals.Load()
	f.renewMu.Lock()
	defer f.renewMu.Unlock()
	if f.renewals.Load() == begun { // nobody looked since this was asked
		f.renewals.Add(1)
		f.renewed = f.replace()
	}
	return f.renewed
}

// replace does renew with renewMu held.
func (f *File) replace() error {
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
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	f.former = append(f.former, was)
	f.file.Store(osf)
	f.spoilt = nil
	return nil
}
