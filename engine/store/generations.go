package store

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

func (s *Store) recordPath(n uint64) string {
	return filepath.Join(s.dir, "generations", fmt.Sprintf("%010d.json", n))
}

// numbers lists the generations that have a file, ascending.
func (s *Store) numbers() ([]uint64, error) {
	list, err := os.ReadDir(filepath.Join(s.dir, "generations"))
	if err != nil && !missing(err) {
		return nil, err
	}
	var out []uint64
	for _, e := range list {
		digits, ok := strings.CutSuffix(e.Name(), ".json")
		n, err := strconv.ParseUint(digits, 10, 64)
		if ok && err == nil && n > 0 && e.Name() == filepath.Base(s.recordPath(n)) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// read reads a record and checks it; the digest is that of its body.
func (s *Store) read(n uint64) (*Record, string, error) {
	path := s.recordPath(n)
	var disk onDisk
	sum, err := readSealed(path, maxFile, &disk)
	if err != nil {
		return nil, "", err
	}
	if disk.Number != n {
		return nil, "", &DamagedError{Path: path, Err: fmt.Errorf("it is the record of generation %d", disk.Number)}
	}
	rec := Record(disk.inline)
	if rec.Files = nil; disk.Files != nil {
		rec.Files = make(Files, len(disk.Files))
	}
	for p, e := range disk.Files {
		if rec.Files[p], err = s.content.entry(p, e); err != nil {
			return nil, "", &DamagedError{Path: path, Err: err}
		}
	}
	return &rec, sum, nil
}

// entry gives the content of a file of a record, wherever it is.
func (c *Content) entry(path string, e fileEntry) ([]byte, error) {
	if e.Blob == nil {
		return e.bytes(path)
	}
	f, err := c.Open(*e.Blob)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	if "sha256:"+digest(b) != e.Blob.Digest {
		return nil, fmt.Errorf("the content of %s does not match its digest", path)
	}
	return b, nil
}

// Get gives the record of a generation. One that is not kept gives fs.ErrNotExist,
// one that cannot be trusted a *DamagedError.
func (s *Store) Get(n uint64) (*Record, error) {
	rec, _, err := s.read(n)
	if err != nil {
		return nil, fmt.Errorf("generation %d: %w", n, err)
	}
	return rec, nil
}

// List gives the heads of all generations that were current at some time and are
// kept, oldest first. Damaged ones are listed as such.
func (s *Store) List() []Header {
	var out []Header
	all := s.Numbers()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range all {
		rec, _, err := s.read(n)
		switch {
		case err == nil:
			out = append(out, rec.Header())
		case !missing(err) || errors.As(err, new(*DamagedError)): // else collected meanwhile
			s.noted(err)
			out = append(out, Header{Number: n, Damaged: err.Error()})
		}
	}
	return out
}

// Numbers gives what List would, but only the numbers, and without a look at the
// records.
func (s *Store) Numbers() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := s.numbers()
	if err != nil {
		s.noted(&DamagedError{Path: filepath.Join(s.dir, "generations"), Err: err})
		return nil
	}
	upTo, _ := s.committed(all)
	for i, n := range all {
		if n > upTo {
			return all[:i]
		}
	}
	return all
}

// committed gives the number up to which generations have been current. When the
// pointer is damaged, that is every one there is.
func (s *Store) committed(all []uint64) (uint64, error) {
	p, err := s.pointer()
	if err == nil || missing(err) {
		return p.Generation, nil
	}
	if len(all) > 0 {
		return all[len(all)-1], err
	}
	return 0, err
}

// Current gives the generation to be served; false when nothing was ever recorded.
// When its record, or what names it, is damaged, it is the newest good one before
// it, and Damage tells. An error means that there were generations and none can be
// used.
func (s *Store) Current() (*Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current()
}

// current is Current for a caller that holds mu.
func (s *Store) current() (*Record, bool, error) {
	fail := func(err error) (*Record, bool, error) {
		return nil, false, fmt.Errorf("current generation: %w", err)
	}
	p, perr := s.pointer()
	switch {
	case missing(perr), perr == nil && p.Generation == 0:
		return nil, false, nil
	case perr != nil && !errors.As(perr, new(*DamagedError)):
		return fail(perr) // the disk, not the data
	}
	all, err := s.numbers()
	if err != nil {
		return fail(err)
	}
	if perr == nil {
		rec, sum, err := s.read(p.Generation)
		if err == nil && sum != p.Record {
			err = &DamagedError{Path: s.recordPath(p.Generation), Err: errors.New("it is not the record that was made current")}
		}
		if err == nil {
			return rec, true, nil
		}
		if missing(err) && !errors.As(err, new(*DamagedError)) {
			err = &DamagedError{Path: s.recordPath(p.Generation), Err: err}
		}
		perr = err
	}
	s.noted(perr)
	for _, n := range slices.Backward(all) {
		if p.Generation != 0 && n >= p.Generation {
			continue
		}
		rec, _, err := s.read(n)
		if err == nil {
			return rec, true, nil
		}
		s.noted(err)
	}
	return fail(perr)
}

// Pointed gives the number of the generation that was made current last, whether or
// not its record can be read: see Current. 0: none was, or what named it is damaged.
func (s *Store) Pointed() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.pointer()
	if err != nil && !missing(err) && !errors.As(err, new(*DamagedError)) {
		return 0, fmt.Errorf("current generation: %w", err)
	}
	return p.Generation, nil
}

// Digest gives the digest of the record of a generation as it is on disk, 64 hex
// digits, and the blobs that the generation cannot do without.
func (s *Store) Digest(n uint64) (string, []provider.Blob, error) {
	_, sum, err := s.read(n)
	if err != nil {
		return "", nil, fmt.Errorf("generation %d: %w", n, err)
	}
	_, blobs, err := s.needs(n)
	if err != nil {
		return "", nil, fmt.Errorf("generation %d: %w", n, err)
	}
	return sum, blobs, nil
}

// needs lists the blobs that a record cannot do without.
func (s *Store) needs(n uint64) (*Record, []provider.Blob, error) {
	var disk onDisk
	if _, err := readSealed(s.recordPath(n), maxFile, &disk); err != nil {
		return nil, nil, err
	}
	rec := Record(disk.inline)
	return &rec, disk.blobs(), nil
}

// blobs lists the blobs that the record names.
func (d *onDisk) blobs() []provider.Blob {
	var out []provider.Blob
	for _, e := range d.Files {
		if e.Blob != nil {
			out = append(out, *e.Blob)
		}
	}
	for _, a := range d.Artifacts {
		out = append(out, blobsOf(a)...)
	}
	for _, a := range d.Images {
		out = append(out, blobsOf(a)...)
	}
	for _, named := range d.Blobs {
		out = slices.AppendSeq(out, maps.Values(named))
	}
	return out
}
