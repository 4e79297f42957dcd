package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
)

// boundedStorage is the object database of a mirror while something is fetched into
// it. What one fetch may bring is bounded, and so is the memory that taking it in
// needs.
type boundedStorage struct {
	*filesystem.Storage
	ctx    context.Context
	dir    string // of the mirror
	limits Limits
	err    error // why the pack that came was not taken
}

// PackfileWriter gives where the pack goes that a fetch brings.
func (b *boundedStorage) PackfileWriter() (io.WriteCloser, error) {
	dir := filepath.Join(b.dir, "objects", "pack")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "tmp_pack_")
	if err != nil {
		return nil, err
	}
	return &packSink{storage: b, dir: dir, file: f}, nil
}

// packSink takes a pack in. It becomes part of the repository when Close returns nil.
type packSink struct {
	storage *boundedStorage
	dir     string
	file    *os.File
	size    int64
	err     error // of Write
}

func (s *packSink) Write(b []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if s.size += int64(len(b)); s.size > s.storage.limits.Fetch {
		s.err = fmt.Errorf("%w: the fetch brings more than %d bytes", ErrLimit, s.storage.limits.Fetch)
		s.storage.err = s.err
		return 0, s.err
	}
	n, err := s.file.Write(b)
	s.err = err
	return n, err
}

// Close checks the pack, makes its index, and puts both in their place.
func (s *packSink) Close() error {
	tmp := s.file.Name()
	defer os.Remove(tmp) // gone already when it got its name
	defer s.file.Close()
	if s.err != nil || s.size == 0 {
		return nil // told by Write, or by who reads nothing
	}
	p := packIndexer{ctx: s.storage.ctx, file: s.file, limits: s.storage.limits, scratch: s.dir}
	index, sum, err := p.index()
	if err != nil {
		s.storage.err = err
		return err
	}
	if err := s.publish(tmp, index, sum); err != nil {
		return err
	}
	s.storage.Reindex()
	return nil
}

func (s *packSink) publish(tmp string, index *idxfile.MemoryIndex, sum plumbing.Hash) (err error) {
	base := filepath.Join(s.dir, "pack-"+sum.String())
	idx, err := os.CreateTemp(s.dir, "tmp_idx_")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(idx.Name())
		}
	}()
	if _, err = idxfile.NewEncoder(idx).Encode(index); err != nil {
		return errors.Join(err, idx.Close())
	}
	if err = idx.Close(); err != nil {
		return err
	}
	for _, f := range []string{tmp, idx.Name()} {
		if err = os.Chmod(f, 0o444); err != nil {
			return err
		}
	}
	// Who looks for packs goes by their indexes.
	if err = failpoint.Hit("source.pack.rename"); err != nil {
		return err
	}
	if err = os.Rename(tmp, base+".pack"); err != nil {
		return err
	}
	if err = failpoint.Hit("source.pack.index"); err != nil {
		return err
	}
	return os.Rename(idx.Name(), base+".idx")
}
