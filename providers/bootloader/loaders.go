package bootloader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// iPXE's network boot programs, as its build system names them.
const (
	undionly = "undionly.kpxe" // BIOS: uses the network driver of the ROM that loaded it
	snponly  = "snponly.efi"   // UEFI x86-64: likewise
	fullEFI  = "ipxe.efi"      // UEFI x86-64, with drivers of its own
)

func loaderNames() []string { return []string{fullEFI, snponly, undionly} }

// programs holds the boot programs that were found, by name.
type programs map[string]provider.Blob

// missing lists those that were not.
func (p programs) missing() []string {
	var list []string
	for _, name := range loaderNames() {
		if _, ok := p[name]; !ok {
			list = append(list, name)
		}
	}
	return list
}

// loaders copies boot programs of the distribution into the content store, so that
// an upgrade of their package changes no byte under a machine that is booting.
type loaders struct {
	content *store.Content
	dirs    []string

	mu   sync.Mutex // guards seen
	seen map[string]imported
}

// imported is a file as it was when it was copied.
type imported struct {
	inode   uint64
	size    int64
	changed time.Time
	blob    provider.Blob
}

// load gives the programs that there are. A file that has not changed since it was
// copied is not read again.
func (l *loaders) load(ctx context.Context) (programs, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := programs{}
	for _, name := range loaderNames() {
		for _, dir := range l.dirs {
			b, err := l.file(ctx, filepath.Join(dir, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("boot program %s: %w", filepath.Join(dir, name), err)
			}
			found[name] = b
			break
		}
	}
	return found, nil
}

func (l *loaders) file(ctx context.Context, path string) (provider.Blob, error) {
	f, err := os.Open(path)
	if err != nil {
		return provider.Blob{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return provider.Blob{}, err
	}
	if !st.Mode().IsRegular() {
		return provider.Blob{}, errors.New("not a regular file")
	}
	now := imported{size: st.Size(), changed: st.ModTime()}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		now.inode = sys.Ino
	}
	if was, ok := l.seen[path]; ok && l.content.Has(was.blob) {
		now.blob = was.blob
		if now == was {
			return was.blob, nil
		}
	}
	if now.blob, err = l.content.Put(ctx, f); err != nil {
		return provider.Blob{}, err
	}
	l.seen[path] = now
	return now.blob, nil
}
