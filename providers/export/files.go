package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	mostEntries = 4 << 20 // paths of one file system that are compared
	mostChanges = 10_000  // that are listed
)

// diffFiles compares the file system of a disk with the image's. The disk is copied, and
// the copy mounted, so that the kernel plays its journal back as the machine would after
// a power cut; nothing is ever mounted that a machine can write to.
func (p *Provider) diffFiles(ctx context.Context, f found, o *cow.Overlay) (*provider.FilesDiff, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("which files changed is seen by mounting a copy of the disk, and the daemon does not run as root")
	}
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
	before, err := entriesOf(ctx, base, typ, true)
	if err != nil {
		return nil, err
	}
	disk := filepath.Join(dir, "disk")
	if err := p.compose(ctx, f, o, disk, true); err != nil {
		return nil, err
	}
	after, err := entriesOf(ctx, disk, typ, false)
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
func entriesOf(ctx context.Context, path, typ string, readOnly bool) (map[string]entry, error) {
	root, detach, err := mountFile(path, typ, readOnly)
	if err != nil {
		return nil, fmt.Errorf("the %s of the disk cannot be read on this machine: %w", cmp.Or(typ, "file system"), err)
	}
	defer detach()
	all := map[string]entry{}
	err = fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if len(all) == mostEntries {
			return fmt.Errorf("it has more than %d files", mostEntries)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		all[path] = entry{info.Mode(), st.Uid, st.Gid, st.Ino, st.Size, st.Rdev, st.Ctim}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the %s of the disk: %w", typ, err)
	}
	return all, nil
}

// compareEntries says what is different.
func compareEntries(before, after map[string]entry) *provider.FilesDiff {
	var list []provider.FileChange
	add := func(action, path string, e entry) {
		c := provider.FileChange{Action: action, Path: "/" + path, Kind: kindOf(e.mode)}
		if e.mode.IsRegular() {
			c.Size = e.size
		}
		list = append(list, c)
	}
	for path, e := range after {
		was, there := before[path]
		if e.mode.IsDir() && was.mode.IsDir() { // its contents tell for themselves
			e.size, was.size, e.ctime, was.ctime = 0, 0, syscall.Timespec{}, syscall.Timespec{}
		}
		switch {
		case !there:
			add("added", path, e)
		case e != was:
			add("changed", path, e)
		}
	}
	for path, e := range before {
		if _, there := after[path]; !there {
			add("removed", path, e)
		}
	}
	slices.SortFunc(list, func(a, b provider.FileChange) int { return cmp.Compare(a.Path, b.Path) })
	return &provider.FilesDiff{Changes: append([]provider.FileChange{}, list[:min(len(list), mostChanges)]...), All: len(list)}
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
