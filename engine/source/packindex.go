package source

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/hash"
)

const (
	maxPackObjects = 2_000_000
	maxChain       = 512       // deltas of deltas; gc.aggressiveDepth was 250 once
	maxDeltaBase   = 512 << 20 // bytes: core.bigFileThreshold, above which Git makes no deltas
	maxSpill       = 4 << 30   // bytes on disk at a time, while deltas are resolved
)

// packIndexer makes the index of a pack that a stranger wrote. The library's own holds
// every object in memory, whatever it inflates to; this one holds none that is larger
// than a mebibyte. See gitformat-pack(5).
type packIndexer struct {
	ctx     context.Context
	file    *os.File // the pack; read from its start
	limits  Limits
	scratch string // folder for what does not fit into memory

	scanner  *packfile.Scanner
	entries  []packEntry
	byOffset map[int64]int         // deltas by the offset of their base: the first; next goes on
	byHash   map[plumbing.Hash]int // and by its name
	inflated int64
	spilled  int64
}

// packEntry is an object of the pack.
type packEntry struct {
	offset int64
	length int64 // of what is in the pack: the object, or the delta
	typ    plumbing.ObjectType
	crc    uint32
	hash   plumbing.Hash // zero until it is known
	next   int           // the next delta with the same base; -1 for none
}

// index reads the whole pack.
func (p *packIndexer) index() (*idxfile.MemoryIndex, plumbing.Hash, error) {
	sum, err := p.checksum()
	if err != nil {
		return nil, sum, err
	}
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return nil, sum, err
	}
	p.byOffset, p.byHash = map[int64]int{}, map[plumbing.Hash]int{}
	p.scanner = packfile.NewScanner(p.file)
	_, count, err := p.scanner.Header()
	if err != nil {
		return nil, sum, err
	}
	if count > maxPackObjects {
		return nil, sum, fmt.Errorf("%w: the fetch brings %d objects, %d are allowed", ErrLimit, count, maxPackObjects)
	}
	for range count {
		if err := p.next(); err != nil {
			return nil, sum, err
		}
	}
	for i := range p.entries {
		if !p.entries[i].typ.IsDelta() {
			if err := p.resolve(i); err != nil {
				return nil, sum, err
			}
		}
	}
	var w idxfile.Writer
	if err := w.OnHeader(count); err != nil {
		return nil, sum, err
	}
	for _, e := range p.entries {
		if e.hash.IsZero() {
			return nil, sum, errors.New("the pack has a delta without its base")
		}
		if err := w.OnInflatedObjectContent(e.hash, e.offset, e.crc, nil); err != nil {
			return nil, sum, err
		}
	}
	if err := w.OnFooter(sum); err != nil {
		return nil, sum, err
	}
	index, err := w.Index()
	return index, sum, err
}

// checksum holds the pack against the hash at its end.
func (p *packIndexer) checksum() (plumbing.Hash, error) {
	st, err := p.file.Stat()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	body := st.Size() - int64(len(plumbing.ZeroHash))
	if body < 0 {
		return plumbing.ZeroHash, io.ErrUnexpectedEOF
	}
	h := hash.New(crypto.SHA1)
	if _, err := io.Copy(h, &patient{p.ctx, io.NewSectionReader(p.file, 0, body)}); err != nil {
		return plumbing.ZeroHash, err
	}
	var said plumbing.Hash
	if _, err := p.file.ReadAt(said[:], body); err != nil {
		return said, err
	}
	if !bytes.Equal(h.Sum(nil), said[:]) {
		return said, errors.New("the pack is not what its checksum says")
	}
	return said, nil
}

// next reads one entry of the pack; of an object that is no delta, all that there is to
// know.
func (p *packIndexer) next() error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	head, err := p.scanner.NextObjectHeader()
	if err != nil {
		return err
	}
	e := packEntry{offset: head.Offset, length: head.Length, typ: head.Type, next: -1}
	if err := p.admit(head.Length); err != nil {
		return err
	}
	var to io.Writer = io.Discard
	hasher := plumbing.NewHasher(head.Type, head.Length)
	if !head.Type.IsDelta() {
		to = hasher
	}
	n, crc, err := p.scanner.NextObject(&patientWriter{p.ctx, to})
	if err != nil {
		return err
	}
	if n != head.Length {
		return fmt.Errorf("the pack has an object of %d bytes that inflates to %d", head.Length, n)
	}
	e.crc = crc
	i := len(p.entries)
	switch head.Type {
	case plumbing.OFSDeltaObject:
		e.next = enchain(p.byOffset, head.OffsetReference, i)
	case plumbing.REFDeltaObject:
		e.next = enchain(p.byHash, head.Reference, i)
	case plumbing.CommitObject, plumbing.TreeObject, plumbing.BlobObject, plumbing.TagObject:
		e.hash = hasher.Sum()
	default:
		return fmt.Errorf("the pack has an object of the unknown type %d", head.Type)
	}
	p.entries = append(p.entries, e)
	return nil
}

// enchain puts a delta before those that have the same base already.
func enchain[K comparable](first map[K]int, base K, i int) (next int) {
	next, ok := first[base]
	if !ok {
		next = -1
	}
	first[base] = i
	return next
}

// admit counts what an object inflates to.
func (p *packIndexer) admit(size int64) error {
	if size < 0 || size > p.limits.Blob {
		return fmt.Errorf("%w: the fetch brings an object of %d bytes, %d are allowed", ErrLimit, size, p.limits.Blob)
	}
	if p.inflated += size; p.inflated > p.limits.Total {
		return fmt.Errorf("%w: the fetch brings more than %d bytes in all, unpacked", ErrLimit, p.limits.Total)
	}
	return nil
}

// deltas takes the deltas whose base an entry is.
func (p *packIndexer) deltas(e packEntry) []int {
	var list []int
	for _, i := range [2]int{taken(p.byOffset, e.offset), taken(p.byHash, e.hash)} {
		for ; i >= 0; i = p.entries[i].next {
			list = append(list, i)
		}
	}
	return list
}

func taken[K comparable](first map[K]int, base K) int {
	i, ok := first[base]
	if !ok {
		return -1
	}
	delete(first, base)
	return i
}

// resolve finds the names of all deltas that an object is, directly or not, the base
// of. The contents on the way there are held, and no others.
func (p *packIndexer) resolve(i int) error {
	children := p.deltas(p.entries[i])
	if len(children) == 0 {
		return nil
	}
	typ := p.entries[i].typ
	base, err := p.read(i)
	if err != nil {
		return err
	}
	type level struct {
		base *spool
		todo []int
	}
	stack := []level{{base, children}}
	defer func() {
		for _, l := range stack {
			p.release(l.base)
		}
	}()
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if len(top.todo) == 0 {
			p.release(top.base)
			stack = stack[:len(stack)-1]
			continue
		}
		child := top.todo[0]
		top.todo = top.todo[1:]
		out, err := p.apply(top.base, child, typ)
		if err != nil {
			return err
		}
		more := p.deltas(p.entries[child])
		if len(more) == 0 {
			p.release(out)
			continue
		}
		stack = append(stack, level{out, more})
		if len(stack) > maxChain {
			return fmt.Errorf("%w: the fetch brings a chain of more than %d deltas; repack the repository with a smaller depth", ErrLimit, maxChain)
		}
	}
	return nil
}

// read inflates what an entry holds.
func (p *packIndexer) read(i int) (*spool, error) {
	e := p.entries[i]
	if err := p.admit(e.length); err != nil {
		return nil, err
	}
	out := &spool{p: p}
	_, err := p.scanner.SeekObjectHeader(e.offset)
	if err == nil {
		_, _, err = p.scanner.NextObject(&patientWriter{p.ctx, out})
	}
	if err == nil {
		err = out.done()
	}
	if err != nil {
		p.release(out)
		return nil, err
	}
	return out, nil
}

// apply makes the object that a delta describes, and finds its name.
func (p *packIndexer) apply(base *spool, i int, typ plumbing.ObjectType) (*spool, error) {
	delta, err := p.read(i)
	if err != nil {
		return nil, err
	}
	defer p.release(delta)
	r := bufio.NewReader(io.NewSectionReader(delta, 0, delta.size))
	from, to, err := deltaSizes(r)
	if err != nil {
		return nil, err
	}
	switch {
	case from != base.size:
		return nil, errors.New("the pack has a delta for another base")
	case from > maxDeltaBase, from > largeObject && to < from/32:
		// No Git makes these, and reading them would take the whole base.
		return nil, fmt.Errorf("%w: the fetch brings %d bytes as the difference to %d", ErrLimit, to, from)
	}
	if err := p.admit(to); err != nil {
		return nil, err
	}
	out := &spool{p: p}
	hasher := plumbing.NewHasher(typ, to)
	err = patch(io.MultiWriter(hasher, &patientWriter{p.ctx, out}), base, from, r, to)
	if err == nil {
		err = out.done()
	}
	if err != nil {
		p.release(out)
		return nil, err
	}
	p.entries[i].hash = hasher.Sum()
	return out, nil
}
