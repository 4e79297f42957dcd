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
	"slices"
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
	e, rev, err := edited(ctx, repo, sub, 1)
	return err != nil || len(e.Files) > 0, rev, err
}

// Edits are what of a checkout is not part of a commit.
type Edits struct {
	Files []string // relative to the repository, sorted; folders that are gone end in "/"
	More  bool     // there are more than these
}

// mostEdits bounds Edits.Files.
const mostEdits = 1000

// Edited gives the files for which Dirty says that a checkout is not what is committed,
// at most 1000 of them. Its errors are Dirty's.
func Edited(ctx context.Context, repo, sub string) (Edits, Revision, error) {
	e, rev, err := edited(ctx, repo, sub, mostEdits)
	slices.Sort(e.Files)
	return e, rev, err
}

// edited stops when it has found most files.
func edited(ctx context.Context, repo, sub string, most int) (e Edits, rev Revision, err error) {
	fail := func(err error) (Edits, Revision, error) {
		return Edits{}, rev, fmt.Errorf("repository %s: %w", repo, err)
	}
	src, err := openWork(repo, sub)
	if err != nil {
		return Edits{}, rev, err
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
	d := comparison{ctx: ctx, src: src, most: most}
	var committed *folder
	tree, err := openTree(ctx, src.objs, hash, src.cfg.Path, src.cfg.Limits)
	switch {
	case err == nil:
		committed = tree.root.dir
	case errors.Is(err, ErrNoPath): // not committed at all
		d.edits.Files = append(d.edits.Files, src.cfg.Path+"/")
		return d.edits, rev, nil
	default:
		return fail(err)
	}
	if err := d.load(); err != nil {
		return fail(err)
	}
	if err := d.folder(src.cfg.Path, committed); err != nil && !errors.Is(err, errEnough) {
		return fail(err)
	}
	return d.edits, rev, nil
}

var errEnough = errors.New("enough differs")

// comparison compares a checkout with a commit.
type comparison struct {
	most  int // differences after which it stops
	edits Edits

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

// differs notes a difference.
func (d *comparison) differs(file string) error {
	if len(d.edits.Files) == d.most {
		d.edits.More = true
		return errEnough
	}
	d.edits.Files = append(d.edits.Files, file)
	if d.most == 1 {
		return errEnough // whether there are more does not matter
	}
	return nil
}

// folder compares the folder at with what was committed there; nil for a folder
// that was not committed, in which any file that is not ignored is a difference.
func (d *comparison) folder(at string, committed *folder) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	list, err := os.ReadDir(filepath.Join(d.src.dirs.work, filepath.FromSlash(at)))
	if errors.Is(err, fs.ErrNotExist) {
		return d.differs(at + "/")
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
			delete(there, n.name)
			var err error
			switch p := path.Join(at, n.name); {
			case ok:
				err = d.entry(p, n, e)
			case n.dir != nil:
				err = d.differs(p + "/")
			default:
				err = d.differs(p)
			}
			if err != nil {
				return err
			}
		}
	}
	for name, e := range there {
		p := path.Join(at, name)
		switch {
		case name == ".git" || d.ignored.Match(strings.Split(p, "/"), e.IsDir()):
		case !e.IsDir():
			if err := d.differs(p); err != nil {
				return err
			}
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
		return d.differs(p)
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
		if plumbing.ComputeHash(plumbing.BlobObject, []byte(target)) != n.hash {
			return d.differs(p)
		}
		return nil
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
	if h.Sum() != n.hash {
		return d.differs(p)
	}
	return nil
}

// racy reports whether the file may have been changed after Git looked at it
// within the same tick of the clock; see Git's racy-git documentation.
func (d *comparison) racy(e *index.Entry) bool {
	st, err := os.Stat(filepath.Join(d.src.dirs.dot, "index"))
	return err != nil || !e.ModifiedAt.Before(st.ModTime())
}
