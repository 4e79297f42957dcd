package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
)

const (
	remoteName = "origin"
	// tipRef is where the followed ref is kept. A name of its own cannot collide
	// with branches that come and go ("a" was deleted, "a/b" is new).
	tipRef = plumbing.ReferenceName("refs/dlreconcile/tip")
	// maxPacks is how many fetches pile up before the mirror is made anew, which
	// costs less than searching hundreds of packs for every object.
	maxPacks = 300
)

// mirror is a bare copy of a remote repository. The library writes refs and packs
// without syncing them, so after a power cut it may hold anything: it is a cache,
// and whatever does not add up is answered by making a new one beside it and
// putting that in its place. Until the new one is complete, the old one stays.
type mirror struct {
	dir     string
	url     string
	ref     wantedRef
	token   string // file; "" for none
	timeout time.Duration
	limits  Limits
	objs    *objects
	log     *slog.Logger

	turn chan struct{} // holds one token: who has it may write the mirror

	now  func() time.Time
	over overLimit // who has the turn may touch it

	// seen is the wanted ref as the remote repository had it last; nil before. For an
	// annotated tag it points at the tag.
	seen atomic.Pointer[plumbing.Reference]
}

func newMirror(cfg Config, remote string, ref wantedRef, objs *objects, log *slog.Logger) (*mirror, error) {
	u, err := url.Parse(remote)
	if err != nil {
		return nil, fmt.Errorf("repository: %w", err)
	}
	if cfg.TokenFile != "" && u.Scheme != "https" {
		return nil, fmt.Errorf("repository %s: the token would cross the network in the clear; use https", remote)
	}
	boundTransports()
	m := &mirror{dir: filepath.Clean(cfg.Mirror), url: remote, ref: ref, token: cfg.TokenFile,
		timeout: cfg.Timeout, limits: cfg.Limits, now: cfg.Now, objs: objs, log: log, turn: make(chan struct{}, 1)}
	m.turn <- struct{}{}
	if _, err := os.Stat(m.dir); err == nil {
		// Of a process that was killed while it put a new mirror in place. It costs space.
		_ = errors.Join(os.RemoveAll(m.dir+".new"), os.RemoveAll(m.dir+".old"))
	}
	return m, nil
}

// take waits for the turn to write the mirror, and bounds how long it is held.
func (m *mirror) take(ctx context.Context) (context.Context, func(), error) {
	select {
	case <-m.turn:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	return ctx, func() { cancel(); m.turn <- struct{}{} }, nil
}

// begin takes the turn and asks the remote repository for its refs. What it gives to
// release the turn is nil after an error.
func (m *mirror) begin(ctx context.Context) (context.Context, remoteRefs, func(), error) {
	ctx, release, err := m.take(ctx)
	if err != nil {
		return nil, remoteRefs{}, nil, err
	}
	remote, err := m.list(ctx)
	if err != nil {
		release()
		return nil, remoteRefs{}, nil, err
	}
	return ctx, remote, release, nil
}

// tip asks the remote repository for the newest commit of the ref, and fetches it
// when it is not there yet.
func (m *mirror) tip(ctx context.Context) (plumbing.Hash, error) {
	ctx, remote, release, err := m.begin(ctx)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	defer release()
	want, err := remote.find(m.ref)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	if err := m.over.holds(want.Hash(), m.now()); err != nil {
		return plumbing.ZeroHash, err
	}
	var commit plumbing.Hash
	take := func(h plumbing.Hash) error {
		c, err := m.objs.peel(h)
		if err == nil {
			commit = c.Hash
			m.seen.Store(plumbing.NewHashReference(want.Name(), h))
		}
		return err
	}
	have := func() error { return take(want.Hash()) }
	fetched := func() error {
		// The ref may have moved between the question and the fetch.
		h, err := m.objs.named(tipRef.String(), []plumbing.ReferenceName{tipRef})
		if err != nil {
			return err
		}
		return take(h)
	}
	err = m.sync(ctx, remote.head, have, fetched, tipSpec(want.Name()))
	m.over = overLimit{}
	if errors.Is(err, ErrLimit) {
		m.over = overLimit{want.Hash(), m.now(), err}
	}
	return commit, err
}

// overLimit is a tip that cannot be fetched because it brings too much.
type overLimit struct {
	hash plumbing.Hash
	at   time.Time
	err  error
}

// overAgain is when it is tried again: the server may have packed it in another way.
const overAgain = time.Hour

// holds gives why a tip is not fetched now. Without it each poll would bring gigabytes
// for nothing.
func (o overLimit) holds(h plumbing.Hash, now time.Time) error {
	if waited := now.Sub(o.at); o.err == nil || o.hash != h || waited < 0 || waited >= overAgain {
		return nil
	}
	return o.err
}

func tipSpec(name plumbing.ReferenceName) config.RefSpec {
	return config.RefSpec("+" + name.String() + ":" + tipRef.String())
}

// everything names all branches and tags.
func everything() []config.RefSpec {
	return []config.RefSpec{"+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"}
}

// fetchAll fetches every branch and tag, and forgets those that are gone.
func (m *mirror) fetchAll(ctx context.Context) error {
	ctx, remote, release, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer release()
	have := func() error { return errors.New("never") }
	fetched := func() error { return nil }
	return m.sync(ctx, remote.head, have, fetched, everything()...)
}

// rebuild makes the mirror anew because of reason, with all branches and tags and
// the followed ref.
func (m *mirror) rebuild(ctx context.Context, reason error) error {
	ctx, remote, release, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer release()
	specs := everything()
	if want, err := remote.find(m.ref); err == nil {
		specs = append(specs, tipSpec(want.Name()))
	}
	return m.replace(ctx, remote.head, reason, specs...)
}

// sync makes the mirror hold what specs name. have says whether it does already,
// fetched whether it does after a fetch.
func (m *mirror) sync(ctx context.Context, head plumbing.ReferenceName, have, fetched func() error, specs ...config.RefSpec) error {
	reason := m.unfit()
	if reason == nil {
		if have() == nil {
			return m.setHead(m.dir, head)
		}
		err := m.fetch(ctx, m.dir, specs)
		m.objs.forget()
		if err == nil {
			if err = fetched(); err == nil {
				return m.setHead(m.dir, head)
			}
			if errors.Is(err, ErrMalformed) || errors.Is(err, ErrLimit) {
				return err // it is so in every mirror
			}
			reason = err
		} else if reason = m.check(); reason == nil {
			return err // not our side
		}
	}
	if err := m.replace(ctx, head, reason, specs...); err != nil {
		return err
	}
	return fetched()
}

var errNoMirror = errors.New("there is no mirror yet")

// unfit says why the mirror cannot be used as it is.
func (m *mirror) unfit() error {
	if m.objs.suspect.Load() {
		return errDamaged
	}
	if _, err := os.Stat(filepath.Join(m.dir, "HEAD")); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return errNoMirror
		}
		return err
	}
	st := m.objs.dirs.storage()
	cfg, err := st.Config()
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if r := cfg.Remotes[remoteName]; r == nil || len(r.URLs) != 1 || r.URLs[0] != m.url {
		return errors.New("it is the mirror of another repository")
	}
	packs, err := st.ObjectPacks()
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if len(packs) > maxPacks {
		return fmt.Errorf("it has %d packs", len(packs))
	}
	return nil
}

// check reads what a fetch needs of the mirror, to tell a broken mirror from a
// broken network.
func (m *mirror) check() error {
	return m.objs.with(func(st *filesystem.Storage) error {
		if _, err := st.HashesWithPrefix(plumbing.ZeroHash[:2]); err != nil { // reads every index
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
		refs, err := st.IterReferences()
		if err != nil {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
		defer refs.Close()
		return refs.ForEach(func(r *plumbing.Reference) error {
			if r.Type() != plumbing.HashReference {
				return nil
			}
			if _, err := st.EncodedObject(plumbing.AnyObject, r.Hash()); err != nil {
				return damage(r.Hash(), err)
			}
			return nil
		})
	})
}

// replace makes a new mirror and puts it in place of the old one.
func (m *mirror) replace(ctx context.Context, head plumbing.ReferenceName, reason error, specs ...config.RefSpec) error {
	if !errors.Is(reason, errNoMirror) {
		m.log.Warn("making the mirror of the repository anew", "repo", m.url, "mirror", m.dir, "reason", reason)
	}
	fail := func(err error) error { return fmt.Errorf("mirror %s: %w", m.dir, err) }
	fresh, old := m.dir+".new", m.dir+".old"
	for _, d := range []string{fresh, old} {
		if err := os.RemoveAll(d); err != nil {
			return fail(err)
		}
	}
	defer os.RemoveAll(fresh)
	if err := m.create(fresh); err != nil {
		return fail(err)
	}
	if err := m.fetch(ctx, fresh, specs); err != nil {
		return err
	}
	if err := m.setHead(fresh, head); err != nil {
		return fail(err)
	}
	if err := failpoint.Hit("source.mirror.fetched"); err != nil {
		return fail(err)
	}
	if err := os.Rename(m.dir, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	if err := failpoint.Hit("source.mirror.rename"); err != nil {
		return fail(err)
	}
	if err := os.Rename(fresh, m.dir); err != nil {
		return fail(err)
	}
	if err := failpoint.Hit("source.mirror.renamed"); err != nil {
		return fail(err)
	}
	m.objs.suspect.Store(false)
	m.objs.forget()
	if err := os.RemoveAll(old); err != nil {
		return fail(err)
	}
	return nil
}

// create makes an empty bare repository.
func (m *mirror) create(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	st := gitDirs{dot: dir, common: dir}.storage()
	if err := st.Init(); err != nil {
		return err
	}
	cfg := config.NewConfig()
	cfg.Core.IsBare = true
	cfg.Remotes[remoteName] = &config.RemoteConfig{Name: remoteName, URLs: []string{m.url}, Mirror: true,
		Fetch: []config.RefSpec{"+refs/heads/*:refs/heads/*"}}
	if err := st.SetConfig(cfg); err != nil {
		return err
	}
	return m.setHead(dir, plumbing.Master)
}

// setHead makes HEAD of the mirror name the branch that HEAD of the remote
// repository names, so that Resolve knows HEAD.
func (m *mirror) setHead(dir string, head plumbing.ReferenceName) error {
	if head == "" {
		return nil
	}
	st := gitDirs{dot: dir, common: dir}.storage()
	if ref, err := st.Reference(plumbing.HEAD); err == nil && ref.Type() == plumbing.SymbolicReference && ref.Target() == head {
		return nil
	}
	return st.SetReference(plumbing.NewSymbolicReference(plumbing.HEAD, head))
}

// credentials reads the token file.
func (m *mirror) credentials() (user, password string, err error) {
	if m.token == "" {
		return "", "", nil
	}
	b, err := os.ReadFile(m.token)
	if err != nil {
		return "", "", fmt.Errorf("token file: %w", err)
	}
	line := strings.TrimSpace(string(b))
	if line == "" || len(line) > 8192 || strings.ContainsAny(line, "\n\r\x00") {
		return "", "", fmt.Errorf("token file %s: want one line, a token or user:password", m.token)
	}
	if user, password, ok := strings.Cut(line, ":"); ok {
		return user, password, nil
	}
	// The hosting services take any user name beside a token.
	return "git", line, nil
}
