package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
)

// Bounds of a diff of files.
const (
	mostMemory  = 1 << 30 // bytes that the paths of both file systems take while they are compared
	perEntry    = 256     // of them, beside the path: an entry, its place in a map, and a change that it may be
	mostChanges = 10_000  // that are listed
	mostListed  = 4 << 20 // bytes that their paths have
	mostPath    = 4000    // bytes of one, which the kernel looks up as a whole
	perRead     = 1024    // entries of a folder that are read at once
)

// errMuch is for who has more files than can be compared.
var errMuch = fmt.Errorf("it has too many files, or too long names: what their paths take is more than %d MiB; without --files the ranges of the disk are listed", mostMemory>>20)

// budget is what memory is left for a diff.
type budget struct{ left int64 }

// take takes what a path needs.
func (b *budget) take(path string) error {
	if len(path) > mostPath {
		return fmt.Errorf("it has a path of more than %d bytes, %.40q…; without --files the ranges of the disk are listed", mostPath, path)
	}
	if b.left -= int64(len(path)) + perEntry; b.left < 0 {
		return errMuch
	}
	return nil
}

// diffFiles compares the file system of a disk with the image's. The disk is copied, the
// copy settled, and that mounted, so that no kernel plays back what a machine wrote. Of a
// btrfs, what is in its log is left out. Nothing is ever mounted that a machine can write
// to.
func (p *Provider) diffFiles(ctx context.Context, f found, o *cow.Overlay) (*provider.FilesDiff, error) {
	typ := p.filesystemOf(f)
	defer p.content.Pin()()
	dir, err := p.content.Scratch("diff")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	base, err := p.content.Path(f.Artifact)
	if err != nil {
		return nil, err
	}
	// One after the other: btrfs takes two with the same identity for one.
	room := &budget{mostMemory}
	before, err := entriesOf(ctx, base, typ, room)
	if err != nil {
		return nil, err
	}
	disk := filepath.Join(dir, "disk")
	if err := p.compose(ctx, f, o, disk, true); err != nil {
		return nil, err
	}
	if err := settle(ctx, disk, typ); err != nil && !errors.Is(err, errLog) {
		return nil, fmt.Errorf("the file system of the disk cannot be read: %w; without --files the ranges of the disk are listed", err)
	}
	after, err := entriesOf(ctx, disk, typ, room)
	if err != nil {
		return nil, err
	}
	return compareEntries(before, after), nil
}

// filesystemOf gives the type of the file system of a disk's image.
func (p *Provider) filesystemOf(f found) string {
	if r, ok := p.overlays.Lookup(f.key); ok {
		return recorded(r).Filesystem
	}
	return ""
}

// entry is what tells whether a path changed. A change of a file changes its ctime, and
// nobody can set that; that of a folder says only that something in it did.
type entry struct {
	mode     fs.FileMode
	uid, gid uint32
	ino      uint64
	size     int64
	rdev     uint64
	ctime    syscall.Timespec
}

// entriesOf lists the file system in a file.
func entriesOf(ctx context.Context, path, typ string, room *budget) (map[string]entry, error) {
	root, detach, err := mountFile(path, typ)
	if err != nil {
		return nil, fmt.Errorf("the %s of the disk cannot be read on this machine: %w", cmp.Or(typ, "file system"), err)
	}
	defer detach()
	all, err := walk(ctx, root, room)
	if err != nil {
		return nil, fmt.Errorf("reading the %s of the disk: %w", typ, err)
	}
	return all, nil
}

// walk lists the paths below a folder, which is "." itself. A folder is read piece by
// piece: its size is up to whoever wrote it.
func walk(ctx context.Context, root string, room *budget) (map[string]entry, error) {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	info, err := dir.Stat(".")
	if err != nil {
		return nil, err
	}
	all := map[string]entry{".": entryOf(info)}
	for todo := []string{"."}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		err := eachIn(ctx, dir, at, func(info fs.FileInfo) error {
			path := filepath.Join(at, info.Name())
			if err := room.take(path); err != nil {
				return err
			}
			all[path] = entryOf(info)
			if info.IsDir() {
				todo = append(todo, path)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// eachIn calls do with everything in a folder.
func eachIn(ctx context.Context, root *os.Root, path string, do func(fs.FileInfo) error) error {
	f, err := root.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		list, err := f.Readdir(perRead)
		for _, info := range list {
			if err := do(info); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func entryOf(info fs.FileInfo) entry {
	st := info.Sys().(*syscall.Stat_t)
	return entry{info.Mode(), st.Uid, st.Gid, st.Ino, st.Size, st.Rdev, st.Ctim}
}

// compareEntries says what is different.
func compareEntries(before, after map[string]entry) *provider.FilesDiff {
	type change struct{ path, action string }
	var list []change
	for path, e := range after {
		was, there := before[path]
		if e.mode.IsDir() && was.mode.IsDir() { // its contents tell for themselves
			e.size, was.size, e.ctime, was.ctime = 0, 0, syscall.Timespec{}, syscall.Timespec{}
		}
		switch {
		case !there:
			list = append(list, change{path, "added"})
		case e != was:
			list = append(list, change{path, "changed"})
		}
	}
	for path := range before {
		if _, there := after[path]; !there {
			list = append(list, change{path, "removed"})
		}
	}
	slices.SortFunc(list, func(a, b change) int { return cmp.Compare(a.path, b.path) })
	d := &provider.FilesDiff{Changes: []provider.FileChange{}, All: len(list)}
	length := 0
	for _, c := range list[:min(len(list), mostChanges)] {
		e, there := after[c.path]
		if !there {
			e = before[c.path]
		}
		if length += len(c.path); length > mostListed {
			break
		}
		f := provider.FileChange{Action: c.action, Path: "/" + c.path, Kind: kindOf(e.mode)}
		if e.mode.IsRegular() {
			f.Size = e.size
		}
		d.Changes = append(d.Changes, f)
	}
	return d
}

func kindOf(m fs.FileMode) string {
	switch m.Type() {
	case 0:
		return "file"
	case fs.ModeDir:
		return "dir"
	case fs.ModeSymlink:
		return "symlink"
	case fs.ModeNamedPipe:
		return "fifo"
	case fs.ModeSocket:
		return "socket"
	}
	return "device"
}
