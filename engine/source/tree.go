package source

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
)

// Tree is the files of one commit below one folder: a read-only fs.FS with
// ReadDir, Stat, ReadFile, Lstat and ReadLink. Files are read from the object
// database when they are opened, and can be sought in; one larger than a mebibyte
// is streamed, not held.
//
// What cannot be had from the commit alone is refused with an error that says so:
// submodules (ErrSubmodule), Git LFS pointers (ErrLFS), symbolic links out of the
// folder (ErrEscapes), and anything over the Limits (ErrLimit). Symbolic links
// inside the folder are followed. Modification times are zero.
type Tree struct {
	objs   *objects
	root   *node
	limits Limits

	mu     sync.Mutex // guards opened and total
	opened map[plumbing.Hash]bool
	total  int64
}

// node is one entry of a folder. It does not change once the tree is open.
type node struct {
	name string
	mode filemode.FileMode
	hash plumbing.Hash
	dir  *folder // for a folder
}

// folder is shared between all places that hold the same Git tree.
type folder struct {
	entries []node // sorted by name
	files   int    // entries in it and below, at most one more than the limit
	height  int    // folders inside folders
}

func (f *folder) find(name string) *node {
	i, ok := slices.BinarySearchFunc(f.entries, name, func(n node, name string) int { return strings.Compare(n.name, name) })
	if !ok {
		return nil
	}
	return &f.entries[i]
}

func openTree(ctx context.Context, objs *objects, commit plumbing.Hash, sub string, limits Limits) (*Tree, error) {
	c, err := objs.commit(commit)
	if err != nil {
		if gone(err) {
			return nil, fmt.Errorf("%w: the commit is not in the repository", ErrNoRef)
		}
		return nil, err
	}
	hash := c.TreeHash
	if sub != "." {
		if hash, err = descend(objs, hash, sub); err != nil {
			return nil, err
		}
	}
	w := walker{ctx: ctx, objs: objs, limits: limits, seen: map[plumbing.Hash]*folder{}}
	root, err := w.folder(hash, sub, 0)
	if err != nil {
		return nil, err
	}
	return &Tree{
		objs: objs, limits: limits, opened: map[plumbing.Hash]bool{},
		root: &node{name: ".", mode: filemode.Dir, hash: hash, dir: root},
	}, nil
}

// descend finds the folder that the source is about. Links are not followed on
// the way there.
func descend(objs *objects, hash plumbing.Hash, sub string) (plumbing.Hash, error) {
	for part := range strings.SplitSeq(sub, "/") {
		entries, err := objs.tree(hash)
		if err != nil {
			return hash, err
		}
		found := false
		for _, e := range entries {
			if e.Name != part {
				continue
			}
			if e.Mode == filemode.Submodule {
				return hash, fmt.Errorf("%s %w", sub, ErrSubmodule)
			}
			if e.Mode == filemode.Dir {
				hash, found = e.Hash, true
			}
		}
		if !found {
			return hash, fmt.Errorf("%w: %s", ErrNoPath, sub)
		}
	}
	return hash, nil
}

// walker reads the folders of a commit, each different one once: a commit can name
// the same tree a billion times.
type walker struct {
	ctx    context.Context
	objs   *objects
	limits Limits
	seen   map[plumbing.Hash]*folder
	read   int // entries held
}

func (w *walker) folder(hash plumbing.Hash, at string, depth int) (*folder, error) {
	if err := w.ctx.Err(); err != nil {
		return nil, err
	}
	if f := w.seen[hash]; f != nil {
		if depth+f.height > w.limits.Depth {
			return nil, w.tooDeep(at)
		}
		return f, nil
	}
	if depth > w.limits.Depth {
		return nil, w.tooDeep(at)
	}
	entries, err := w.objs.tree(hash)
	if err != nil {
		return nil, err
	}
	if w.read += len(entries); w.read > w.limits.Files {
		return nil, w.tooMany()
	}
	f := &folder{entries: make([]node, 0, len(entries)), files: len(entries)}
	for _, e := range entries {
		if err := checkName(e.Name); err != nil {
			return nil, fmt.Errorf("%s: the entry %.100q %w", at, e.Name, err)
		}
		n := node{name: e.Name, mode: e.Mode, hash: e.Hash}
		if e.Mode == filemode.Dir {
			if n.dir, err = w.folder(e.Hash, path.Join(at, e.Name), depth+1); err != nil {
				return nil, err
			}
			f.files += n.dir.files
			f.height = max(f.height, n.dir.height+1)
		}
		if f.files > w.limits.Files {
			return nil, w.tooMany()
		}
		f.entries = append(f.entries, n)
	}
	slices.SortFunc(f.entries, func(a, b node) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(f.entries); i++ {
		if f.entries[i].name == f.entries[i-1].name {
			return nil, fmt.Errorf("%s: the entry %q is there twice", at, f.entries[i].name)
		}
	}
	w.seen[hash] = f
	return f, nil
}

func (w *walker) tooDeep(at string) error {
	return fmt.Errorf("%w: %s is nested more than %d folders deep", ErrLimit, at, w.limits.Depth)
}

func (w *walker) tooMany() error {
	return fmt.Errorf("%w: the tree has more than %d files and folders", ErrLimit, w.limits.Files)
}

// checkName refuses what Git itself would refuse to check out, and what an fs.FS
// cannot name.
func checkName(name string) error {
	switch {
	case name == "." || name == ".." || strings.Contains(name, "/") || strings.EqualFold(name, ".git"):
		return fmt.Errorf("has a name that no checkout allows")
	case !utf8.ValidString(name):
		return fmt.Errorf("has a name that is not valid UTF-8; rename it")
	}
	return nil
}

const (
	maxLinks      = 40 // followed for one name, as Linux does
	maxLinkTarget = 4096
)

// find walks to name. The last component is followed when it is a link and follow
// is set.
func (t *Tree) find(name string, follow bool) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, fs.ErrInvalid
	}
	stack := []*node{t.root}
	rest := strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		top := stack[len(stack)-1]
		switch {
		case top.mode == filemode.Submodule:
			return nil, ErrSubmodule
		case top.dir == nil:
			return nil, syscall.ENOTDIR
		case part == "" || part == ".":
			continue
		case part == "..":
			if len(stack) == 1 {
				return nil, ErrEscapes
			}
			stack = stack[:len(stack)-1]
			continue
		}
		n := top.dir.find(part)
		if n == nil {
			return nil, fs.ErrNotExist
		}
		if n.mode != filemode.Symlink || len(rest) == 0 && !follow {
			stack = append(stack, n)
			continue
		}
		if links++; links > maxLinks {
			return nil, syscall.ELOOP
		}
		target, err := t.target(n)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(target, "/") {
			return nil, ErrEscapes
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return stack[len(stack)-1], nil
}

func (t *Tree) target(n *node) (string, error) {
	b, err := t.objs.read(plumbing.BlobObject, n.hash, maxLinkTarget)
	return string(b), t.noted(err)
}

// noted remembers that the object database is damaged, so that a mirror is made
// anew at the next occasion.
func (t *Tree) noted(err error) error {
	if damaged(err) {
		t.objs.suspect.Store(true)
	}
	return err
}

// admit counts a file against the limits before its content is read.
func (t *Tree) admit(n *node, size int64) error {
	if size > t.limits.Blob {
		return fmt.Errorf("%w: it has %d bytes, %d are allowed", ErrLimit, size, t.limits.Blob)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.opened[n.hash] {
		return nil
	}
	if size > t.limits.Total-t.total {
		return fmt.Errorf("%w: the files read have more than %d bytes together", ErrLimit, t.limits.Total)
	}
	t.total += size
	t.opened[n.hash] = true
	return nil
}

// lfsPrefix starts every Git LFS pointer; see the LFS specification, "The
// Pointer": it is the first line, and a pointer has less than 1024 bytes.
var lfsPrefix = []byte("version https://git-lfs.github.com/spec/")

const maxPointer = 1024

func isPointer(content []byte) bool {
	return len(content) < maxPointer && bytes.HasPrefix(content, lfsPrefix)
}
