package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
	"github.com/go-git/go-git/v5/plumbing/format/index"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// Dirty compares the folder sub of a checkout with the commit that is checked out:
// whether a file of the commit is missing or different, or one is there that is
// neither in the commit nor ignored (.gitignore, info/exclude and the user's and
// the machine's own ignore files). It gives the commit, too. repo and sub are as
// Config.Repo, a local one, and Config.Path: what is edited outside of sub does not
// count.
//
// A repository without a commit gives true and ErrNoCommit, a bare or remote one true
// and ErrNoWorkTree.
func Dirty(ctx context.Context, repo, sub string) (dirty bool, rev Revision, err error) {
	fail := func(err error) (bool, Revision, error) {
		return true, rev, fmt.Errorf("repository %s: %w", repo, err)
	}
	src, err := openWork(repo, sub)
	if err != nil {
		return true, rev, err
	}
	hash, err := src.objs.ref(plumbing.HEAD)
	if err != nil {
		return fail(err)
	}
	c, err := src.objs.commit(hash)
	if err != nil {
		return fail(err)
	}
	rev = revisionOf(c)
	tree, err := openTree(ctx, src.objs, hash, src.cfg.Path, src.cfg.Limits)
	if errors.Is(err, ErrNoPath) {
		return true, rev, nil // not committed at all
	}
	if err != nil {
		return fail(err)
	}
	d := comparison{ctx: ctx, src: src}
	if err := d.load(); err != nil {
		return fail(err)
	}
	err = d.folder(src.cfg.Path, tree.root.dir)
	if errors.Is(err, errDiffers) {
		return true, rev, nil
	}
	if err != nil {
		return fail(err)
	}
	return false, rev, nil
}

var errDiffers = errors.New("differs")

// comparison compares a checkout with a commit, and stops at the first difference.
type comparison struct {
	ctx     context.Context
	src     *Source
	index   map[string]*index.Entry
	ignored gitignore.Matcher
}

func (d *comparison) load() error {
	d.index = map[string]*index.Entry{}
	err := d.src.objs.with(func(st *filesystem.Storage) error {
		idx, err := st.Index()
		if err != nil {
			return nil // only a shortcut: without it every file is read
		}
		for _, e := range idx.Entries {
			d.index[e.Name] = e
		}
		return nil
	})
	if err != nil {
		return err
	}
	patterns, err := gitignore.ReadPatterns(osfs.New(d.src.dirs.work), nil)
	if err != nil {
		return fmt.Errorf(".gitignore: %w", err)
	}
	// The least important first. That of a linked work tree is in the common folder.
	own := patterns
	patterns = nil
	machine := osfs.New("/")
	for _, load := range []func() ([]gitignore.Pattern, error){
		func() ([]gitignore.Pattern, error) { return gitignore.LoadSystemPatterns(machine) },
		func() ([]gitignore.Pattern, error) { return gitignore.LoadGlobalPatterns(machine) },
		func() ([]gitignore.Pattern, error) {
			return excludeFile(filepath.Join(d.src.dirs.common, "info", "exclude"))
		},
	} {
		if p, err := load(); err == nil { // somebody else's broken settings are not a reason to fail
			patterns = append(patterns, p...)
		}
	}
	d.ignored = gitignore.NewMatcher(append(patterns, own...))
	return nil
}

func excludeFile(file string) ([]gitignore.Pattern, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []gitignore.Pattern
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimRight(line, "\r\n"); strings.TrimSpace(line) != "" && line[0] != '#' {
			out = append(out, gitignore.ParsePattern(line, nil))
		}
	}
	return out, nil
}

// folder compares the folder at with what was committed there; nil for a folder
// that was not committed, in which any file that is not ignored is a difference.
func (d *comparison) folder(at string, committed *folder) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	list, err := os.ReadDir(filepath.Join(d.src.dirs.work, filepath.FromSlash(at)))
	if errors.Is(err, fs.ErrNotExist) {
		return errDiffers
	}
	if err != nil {
		return err
	}
	there := map[string]fs.DirEntry{}
	for _, e := range list {
		there[e.Name()] = e
	}
	if committed != nil {
		for i := range committed.entries {
			n := &committed.entries[i]
			e, ok := there[n.name]
			if !ok {
				return errDiffers
			}
			delete(there, n.name)
			if err := d.entry(path.Join(at, n.name), n, e); err != nil {
				return err
			}
		}
	}
	for name, e := range there {
		p := path.Join(at, name)
		switch {
		case name == ".git" || d.ignored.Match(strings.Split(p, "/"), e.IsDir()):
		case !e.IsDir():
			return errDiffers
		default: // a folder without files is none to Git
			if err := d.folder(p, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *comparison) entry(p string, n *node, e fs.DirEntry) error {
	if n.mode == filemode.Submodule {
		return nil // what is in it is not read
	}
	if e.Type() != modeOf(n.mode).Type() {
		return errDiffers
	}
	if n.dir != nil {
		return d.folder(p, n.dir)
	}
	file := filepath.Join(d.src.dirs.work, filepath.FromSlash(p))
	if n.mode == filemode.Symlink {
		target, err := os.Readlink(file)
		if err != nil {
			return err
		}
		return differs(plumbing.ComputeHash(plumbing.BlobObject, []byte(target)) != n.hash)
	}
	st, err := e.Info()
	if err != nil {
		return err
	}
	// Git writes size and time of a file into the index when it checks it out. That
	// also knows about files that filters change on the way (line ends, LFS).
	if idx := d.index[p]; idx != nil && idx.Hash == n.hash && idx.Mode == n.mode &&
		uint32(st.Size()) == idx.Size && st.ModTime().Equal(idx.ModifiedAt) && !d.racy(idx) {
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := plumbing.NewHasher(plumbing.BlobObject, st.Size())
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	return differs(h.Sum() != n.hash)
}

// racy reports whether the file may have been changed after Git looked at it
// within the same tick of the clock; see Git's racy-git documentation.
func (d *comparison) racy(e *index.Entry) bool {
	st, err := os.Stat(filepath.Join(d.src.dirs.dot, "index"))
	return err != nil || !e.ModifiedAt.Before(st.ModTime())
}

func differs(yes bool) error {
	if yes {
		return errDiffers
	}
	return nil
}
