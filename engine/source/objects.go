package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/go-git/go-git/v5/storage/filesystem/dotgit"
)

const (
	maxCommit = 1 << 20  // bytes of one commit or tag
	maxTree   = 16 << 20 // bytes of one tree: some 300,000 entries
)

// errDamaged marks what a healthy repository does not give: missing objects,
// bytes that do not match their name, broken compression. ErrMalformed is another thing.
var errDamaged = errors.New("the object database is damaged")

func damaged(err error) bool { return errors.Is(err, errDamaged) }

// objects reads the object database of one repository. Whoever else works on the
// repository may repack it at any time: what is not found is looked for again
// with fresh eyes. Every object that is read whole is checked against its name.
// Safe for concurrent use.
type objects struct {
	dirs gitDirs
	// suspect is set when a file of a tree that was opened cannot be read.
	suspect atomic.Bool
	// most bounds how many commits a walk back reads; 0: maxHistory.
	most int

	mu sync.Mutex // guards st; the storage is not safe for concurrent use
	st *filesystem.Storage
}

// forget drops what is cached of the object database.
func (o *objects) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.st = nil
}

// with calls f with the storage, and again with a new one when something was not there.
// That is said of one that was new twice in a row: git may repack between the look at
// the packs and the look at what lies beside them, and takes nothing away before it is
// elsewhere.
func (o *objects) with(f func(*filesystem.Storage) error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	misses := 0 // of new ones
	for {
		fresh := o.st == nil
		if fresh {
			o.st = o.dirs.storage()
		}
		err := f(o.st)
		if err != nil {
			// The library caches half an object when reading it failed.
			o.st = nil
		}
		if fresh {
			misses++
		}
		if err == nil || !gone(err) || misses == 2 {
			return err
		}
	}
}

func gone(err error) bool {
	return errors.Is(err, plumbing.ErrObjectNotFound) || errors.Is(err, fs.ErrNotExist) ||
		errors.Is(err, dotgit.ErrPackfileNotFound) || errors.Is(err, dotgit.ErrIdxNotFound)
}

// damage wraps an error of reading an object that must be there.
func damage(h plumbing.Hash, err error) error {
	if err == nil || errors.Is(err, ErrLimit) {
		return err
	}
	return fmt.Errorf("%w: object %s: %w", errDamaged, h, err)
}

// malformed says that an object is not what its kind is to be, though its bytes are those
// that its name stands for: whoever pushed it made it so.
func malformed(t plumbing.ObjectType, h plumbing.Hash, err error) error {
	return fmt.Errorf("%w: %s %s: %w (its bytes match its name, so it was pushed like that and nothing here is damaged: make that commit again with git)", ErrMalformed, t, h, saidError{err})
}

// read gives a whole object of at most limit bytes.
func (o *objects) read(t plumbing.ObjectType, h plumbing.Hash, limit int64) ([]byte, error) {
	var data []byte
	err := o.with(func(st *filesystem.Storage) error {
		obj, err := st.EncodedObject(t, h)
		if err != nil {
			return err
		}
		if obj.Size() > limit {
			return fmt.Errorf("%w: object %s has %d bytes, %d are allowed", ErrLimit, h, obj.Size(), limit)
		}
		r, err := obj.Reader()
		if err != nil {
			return err
		}
		defer r.Close()
		var b bytes.Buffer
		b.Grow(int(obj.Size()))
		if _, err := io.Copy(&b, io.LimitReader(r, limit+1)); err != nil {
			return err
		}
		if data = b.Bytes(); plumbing.ComputeHash(t, data) != h {
			return errors.New("its bytes do not match its name")
		}
		return nil
	})
	return data, damage(h, err)
}

// size gives the size of a file without reading more than its header.
func (o *objects) size(h plumbing.Hash) (int64, error) {
	var n int64
	err := o.with(func(st *filesystem.Storage) error {
		obj, err := st.EncodedObject(plumbing.BlobObject, h)
		if err == nil {
			n = obj.Size()
		}
		return err
	})
	return n, damage(h, err)
}

// stream reads a large file from its start. (Git stores what is larger than its
// core.bigFileThreshold whole, and only that is read without holding it; the base
// of a smaller file stored as a delta is held by the library.)
func (o *objects) stream(h plumbing.Hash) (io.ReadCloser, error) {
	var r io.ReadCloser
	err := o.with(func(st *filesystem.Storage) error {
		obj, err := st.EncodedObject(plumbing.BlobObject, h)
		if err == nil {
			r, err = obj.Reader()
		}
		return err
	})
	return r, damage(h, err)
}

// encoded makes the library's form of an object that was read.
func encoded(t plumbing.ObjectType, data []byte) *plumbing.MemoryObject {
	obj := &plumbing.MemoryObject{}
	obj.SetType(t)
	_, _ = obj.Write(data) // memory: cannot fail
	return obj
}

func (o *objects) commit(h plumbing.Hash) (*object.Commit, error) {
	c, _, err := o.sizedCommit(h)
	return c, err
}

// sizedCommit gives a commit, and how many bytes were read for it.
func (o *objects) sizedCommit(h plumbing.Hash) (*object.Commit, int64, error) {
	data, err := o.read(plumbing.CommitObject, h, maxCommit)
	if err != nil {
		return nil, 0, err
	}
	c := &object.Commit{}
	if err := c.Decode(encoded(plumbing.CommitObject, data)); err != nil {
		return nil, 0, malformed(plumbing.CommitObject, h, err)
	}
	return c, int64(len(data)), nil
}

func (o *objects) tree(h plumbing.Hash) ([]object.TreeEntry, error) {
	data, err := o.read(plumbing.TreeObject, h, maxTree)
	if err != nil {
		return nil, err
	}
	t := &object.Tree{}
	if err := t.Decode(encoded(plumbing.TreeObject, data)); err != nil {
		return nil, malformed(plumbing.TreeObject, h, err)
	}
	return t.Entries, nil
}

// peel follows annotated tags to the commit they are about.
func (o *objects) peel(h plumbing.Hash) (*object.Commit, error) {
	for range 8 { // tags of tags
		var typ plumbing.ObjectType
		err := o.with(func(st *filesystem.Storage) error {
			obj, err := st.EncodedObject(plumbing.AnyObject, h)
			if err == nil {
				typ = obj.Type()
			}
			return err
		})
		switch {
		case err != nil:
			return nil, damage(h, err)
		case typ == plumbing.CommitObject:
			return o.commit(h)
		case typ != plumbing.TagObject:
			return nil, fmt.Errorf("%w: %s is a %s, not a commit", ErrNoRef, h, typ)
		}
		data, err := o.read(plumbing.TagObject, h, maxCommit)
		if err != nil {
			return nil, err
		}
		tag := &object.Tag{}
		if err := tag.Decode(encoded(plumbing.TagObject, data)); err != nil {
			return nil, malformed(plumbing.TagObject, h, err)
		}
		h = tag.Target
	}
	return nil, fmt.Errorf("%w: too many tags of tags", ErrNoRef)
}

func (o *objects) hasCommit(base string) bool {
	if !plumbing.IsHash(base) {
		return false
	}
	_, err := o.commit(plumbing.NewHash(base))
	return err == nil
}

// answer is yes, no or unknown.
type answer int

const (
	unknown answer = iota
	yes
	no
)
