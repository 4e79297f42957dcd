// Package source reads the desired state out of Git: it follows one ref of one
// repository, gives the tree of any commit as a read-only fs.FS, and says when it
// is worth looking again. It never runs the git program, never checks anything
// out, and a Source writes nothing but its own mirror of a remote repository. Init
// and Commit do write to a repository with a work tree: the demonstration and tests
// make theirs with them, and following a repository never calls them.
package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// Errors that callers tell apart, with errors.Is.
var (
	// ErrNoCommit: the repository, or the branch that HEAD names, has no commit.
	ErrNoCommit = errors.New("there is no commit yet")
	// ErrNoRef: the branch, tag or revision does not exist (any more).
	ErrNoRef = errors.New("no such branch, tag or revision")
	// ErrNoPath: the commit has no folder of that name.
	ErrNoPath = errors.New("no such folder in the commit")
	// ErrUnreachable: the remote repository did not answer, or refused, and what was
	// fetched before can still be read; or the local one is not there any more.
	ErrUnreachable = errors.New("the repository cannot be reached")
	// ErrLimit: something in the tree is larger than Limits allow.
	ErrLimit = errors.New("over the limit")
	// ErrMalformed: a commit, folder or tag is in the repository as it was pushed, and is
	// none that Git makes.
	ErrMalformed = errors.New("is malformed")
	// ErrSubmodule: a path leads into a submodule, whose files are in another
	// repository.
	ErrSubmodule = errors.New("is a submodule: its files are not in this repository and are not fetched")
	// ErrLFS: the file is a Git LFS pointer; the real content is not in Git.
	ErrLFS = errors.New("is a Git LFS pointer: the content is not in the repository; commit the file itself")
	// ErrNoWorkTree: the repository is bare, or it is remote.
	ErrNoWorkTree = errors.New("has no work tree")
	// ErrEscapes: a symbolic link leads out of the tree.
	ErrEscapes = errors.New("is a symbolic link that leads out of the tree")
)

// Config says what to follow.
type Config struct {
	// Repo is a local path, a file:// URL, or an https://, http:// or git:// URL.
	// Credentials in a URL are refused: see TokenFile. With git:// Trust.Verify must
	// be said: nothing on the way tells the server from anybody else.
	Repo string
	// Ref is a branch, a tag, a full name ("refs/…"), or "semver:RANGE": the tag with
	// the highest version in that range, such as "semver:>=1.2 <2". Default: the
	// branch that the repository's HEAD names, asked anew each time.
	Ref string
	// Path is the folder of the repository to load, slash-separated and relative.
	// Default: the whole repository.
	Path string
	// Mirror is the folder of the bare mirror of a remote repository. It is a
	// cache: made when missing, made anew when it is damaged or belongs to another
	// repository. One process at a time may use it. Not needed for local ones.
	Mirror string
	// TokenFile holds the credentials for an https repository: one line, either a
	// token or "user:password". It is read again each time. They are never sent
	// over plain http.
	TokenFile string
	// Poll is how often Run asks for a look. Default 30 s. One tenth of jitter is
	// added either way.
	Poll time.Duration
	// Timeout bounds one fetch. Default 10 min; asking for the tip takes at most
	// 30 s of it.
	Timeout time.Duration
	Limits  Limits
	Trust   Trust
	Now     func() time.Time // default: time.Now
	Log     *slog.Logger     // nil: silent
}

const (
	defaultPoll    = 30 * time.Second
	defaultTimeout = 10 * time.Minute
	listTimeout    = 30 * time.Second
)

// Limits bound what one tree may make this process hold or read. A zero field
// takes its default.
type Limits struct {
	Files int   // files, links and folders below Path; default 50,000
	Depth int   // folders inside folders; default 64
	Blob  int64 // bytes of one file that is opened; default 16 GiB
	Total int64 // bytes of all different files opened through one tree, and of what one fetch brings when unpacked; default 64 GiB
	Fetch int64 // bytes that one fetch brings, as they cross the network; default 4 GiB
}

func (l Limits) withDefaults() Limits {
	if l.Files <= 0 {
		l.Files = 50_000
	}
	if l.Depth <= 0 {
		l.Depth = 64
	}
	if l.Blob <= 0 {
		l.Blob = 16 << 30
	}
	if l.Total <= 0 {
		l.Total = 64 << 30
	}
	if l.Fetch <= 0 {
		l.Fetch = 4 << 30
	}
	return l
}

// Revision is one commit. It carries no time, so that what is made from it does
// not depend on when the commit was made. Subject and Author are safe to print:
// one line of valid UTF-8 without control characters.
type Revision struct {
	Hash    string `json:"hash"`    // 40 hex digits
	Subject string `json:"subject"` // first line of the message
	Author  string `json:"author"`  // "Name <address>"
	// Rewrote is the hash of the tip seen before this one, when this one does not
	// descend from it: somebody rewrote the branch, or Ref now names something
	// else. Only Tip sets it, once per rewrite.
	Rewrote string `json:"rewrote,omitempty"`
}

// Source follows one repository. Safe for concurrent use. It holds no open file
// and no goroutine between calls.
type Source struct {
	cfg    Config
	log    *slog.Logger
	local  string  // where the local repository is
	dirs   gitDirs // of the local repository, or of the mirror
	objs   *objects
	ref    wantedRef
	mirror *mirror // nil for a local repository

	mu   sync.Mutex // guards last
	last plumbing.Hash
}

// Open checks the configuration and, for a local repository, that it is there.
// It does not touch the network.
func Open(cfg Config) (*Source, error) {
	if cfg.Path == "" {
		cfg.Path = "."
	}
	cfg.Path = path.Clean(cfg.Path)
	if !fs.ValidPath(cfg.Path) {
		return nil, fmt.Errorf("path %q: want a folder of the repository, relative and without \"..\"", cfg.Path)
	}
	if cfg.Poll <= 0 {
		cfg.Poll = defaultPoll
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Limits = cfg.Limits.withDefaults()
	s := &Source{cfg: cfg, log: cfg.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.ref, err = parseRef(cfg.Ref); err != nil {
		return nil, err
	}
	loc, err := parseRepo(cfg.Repo)
	if err != nil {
		return nil, err
	}
	if loc.remote == "" {
		s.local = loc.local
		if s.dirs, err = findRepo(s.local); err != nil {
			return nil, err
		}
		s.objs = &objects{dirs: s.dirs}
		s.cfg.Trust, err = cfg.Trust.withDefaults(s.dirs)
		return s, err
	}
	if cfg.Mirror == "" {
		return nil, fmt.Errorf("repository %s: a remote repository needs a folder for its mirror", loc.remote)
	}
	s.dirs = gitDirs{dot: cfg.Mirror, common: cfg.Mirror}
	if s.cfg.Trust, err = cfg.Trust.withDefaults(s.dirs); err != nil {
		return nil, err
	}
	if err := cfg.Trust.overTheWire(loc.remote); err != nil {
		return nil, err
	}
	s.objs = &objects{dirs: s.dirs}
	s.mirror, err = newMirror(cfg, loc.remote, s.ref, s.objs, s.log)
	return s, err
}

// Close forgets what is cached. It stops nothing: the context of Run does. Trees
// that were opened stay usable.
func (s *Source) Close() error {
	s.objs.forget()
	return nil
}

// Local reports whether the repository is on this machine.
func (s *Source) Local() bool { return s.mirror == nil }

// Tip gives the newest commit of the ref. For a remote repository it asks there,
// and fetches what is new; when it fails, what was fetched before stays readable.
func (s *Source) Tip(ctx context.Context) (Revision, error) {
	var hash plumbing.Hash
	var err error
	if s.mirror != nil {
		hash, err = s.mirror.tip(ctx)
	} else {
		hash, err = s.localTip()
	}
	if err != nil {
		return Revision{}, fmt.Errorf("repository %s: %w", s.cfg.Repo, err)
	}
	c, err := s.objs.commit(hash)
	if err != nil {
		return Revision{}, fmt.Errorf("repository %s: commit %s: %w", s.cfg.Repo, hash, err)
	}
	rev := revisionOf(c)
	before := s.swapLast(c.Hash)
	if before.IsZero() || before == c.Hash {
		return rev, nil
	}
	if line, err := s.objs.lineage(ctx, c.Hash, before); err == nil && line.descends == no {
		rev.Rewrote = before.String()
		s.log.Warn("the branch was rewritten", "repo", s.cfg.Repo, "before", before.String(), "now", rev.Hash)
	}
	return rev, nil
}

// localTip is the commit of the ref in a local repository.
func (s *Source) localTip() (plumbing.Hash, error) {
	ref, err := s.objs.tracked(s.ref)
	if err != nil {
		if _, away := findRepo(s.local); away != nil {
			return plumbing.ZeroHash, fmt.Errorf("%w: %w", ErrUnreachable, away)
		}
		return plumbing.ZeroHash, err
	}
	c, err := s.objs.peel(ref.Hash())
	if err != nil {
		return plumbing.ZeroHash, err
	}
	return c.Hash, nil
}

// tracked gives the ref that is followed, and what it points at: the tag where that is
// an annotated one. The name is empty while the remote repository was not asked yet.
func (s *Source) tracked() (plumbing.ReferenceName, plumbing.Hash, error) {
	if s.mirror != nil {
		if ref := s.mirror.seen.Load(); ref != nil {
			return ref.Name(), ref.Hash(), nil
		}
		return "", plumbing.ZeroHash, nil
	}
	ref, err := s.objs.tracked(s.ref)
	if errors.Is(err, ErrNoRef) || errors.Is(err, ErrNoCommit) {
		return "", plumbing.ZeroHash, nil
	}
	if err != nil {
		return "", plumbing.ZeroHash, err
	}
	return ref.Name(), ref.Hash(), nil
}

func (s *Source) swapLast(h plumbing.Hash) plumbing.Hash {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.last
	s.last = h
	return before
}

// Resolve finds the commit that spec names: a full or abbreviated hash (4 digits
// and up), a branch, a tag, HEAD or @, each followed by any number of ~, ~N, ^
// and ^N as gitrevisions(7) has them. For a remote repository all branches and
// tags are fetched first, unless spec is the full hash of a commit that is there.
func (s *Source) Resolve(ctx context.Context, spec string) (Revision, error) {
	fail := func(err error) (Revision, error) {
		return Revision{}, fmt.Errorf("repository %s: revision %q: %w", s.cfg.Repo, spec, err)
	}
	rs, err := parseRevSpec(spec)
	if err != nil {
		return fail(err)
	}
	if s.mirror != nil && !s.objs.hasCommit(rs.base) {
		if err := s.mirror.fetchAll(ctx); err != nil {
			return fail(err)
		}
	}
	c, err := s.objs.resolve(rs)
	if err != nil {
		return fail(err)
	}
	return revisionOf(c), nil
}

// Tree gives the files of a commit below Config.Path. The folders are read now,
// the files when they are opened, from the object database: nothing is checked
// out. The result may be used from any goroutine, for as long as the repository
// keeps the commit.
//
// See Tree (the type) for what it refuses.
func (s *Source) Tree(ctx context.Context, rev Revision) (fs.FS, error) {
	fail := func(err error) (fs.FS, error) {
		return nil, fmt.Errorf("repository %s: commit %s: %w", s.cfg.Repo, rev.Hash, err)
	}
	if !plumbing.IsHash(rev.Hash) {
		return fail(fmt.Errorf("%w: not a full hash", ErrNoRef))
	}
	hash := plumbing.NewHash(rev.Hash)
	t, err := openTree(ctx, s.objs, hash, s.cfg.Path, s.cfg.Limits)
	if err != nil && s.mirror != nil && damaged(err) {
		if merr := s.mirror.rebuild(ctx, err); merr != nil {
			return fail(errors.Join(err, merr))
		}
		t, err = openTree(ctx, s.objs, hash, s.cfg.Path, s.cfg.Limits)
		if err != nil && damaged(err) {
			err = fmt.Errorf("%w (in a mirror that was fetched anew just now, too: look with git fsck where it comes from)", err)
		}
	}
	if err != nil {
		return fail(err)
	}
	return t, nil
}
