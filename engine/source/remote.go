package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/storage"
)

// remoteRefs is what a remote repository says it has.
type remoteRefs struct {
	refs []*plumbing.Reference
	head plumbing.ReferenceName // the branch that its HEAD names; "" when unknown
}

// find gives the ref that is wanted, by its full name.
func (r remoteRefs) find(w wantedRef) (*plumbing.Reference, error) {
	if w.versions != nil {
		return w.highest(r.refs)
	}
	for _, full := range candidates(w.name, false) {
		if full == plumbing.HEAD && r.head != "" {
			full = r.head
		}
		i := slices.IndexFunc(r.refs, func(ref *plumbing.Reference) bool { return ref.Name() == full })
		if i >= 0 && r.refs[i].Type() == plumbing.HashReference {
			return r.refs[i], nil
		}
	}
	return nil, missingRef(w.name, r.refs)
}

// list asks the remote repository for its refs.
func (m *mirror) list(ctx context.Context) (remoteRefs, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	remote, auth, err := m.remote(m.objs.dirs.storage())
	if err != nil {
		return remoteRefs{}, err
	}
	refs, err := remote.ListContext(ctx, &git.ListOptions{Auth: auth})
	if err != nil {
		return remoteRefs{}, remoteError(ctx, err)
	}
	out := remoteRefs{refs: refs}
	for _, r := range refs {
		if r.Name() == plumbing.HEAD && r.Type() == plumbing.SymbolicReference {
			out.head = r.Target()
		}
	}
	return out, nil
}

// fetch brings what specs name into the repository at dir.
func (m *mirror) fetch(ctx context.Context, dir string, specs []config.RefSpec) error {
	st := &boundedStorage{Storage: gitDirs{dot: dir, common: dir}.storage(), ctx: ctx, dir: dir, limits: m.limits}
	remote, auth, err := m.remote(st)
	if err != nil {
		return err
	}
	err = remote.FetchContext(ctx, &git.FetchOptions{
		RemoteName: remoteName, RefSpecs: specs, Auth: auth, Tags: git.NoTags, Force: true,
		Prune: slices.ContainsFunc(specs, config.RefSpec.IsWildcard),
	})
	if errors.Is(err, git.NoErrAlreadyUpToDate) {
		return nil
	}
	if errors.Is(st.err, ErrLimit) {
		return st.err // whatever the exchange made of it
	}
	return remoteError(ctx, err)
}

func (m *mirror) remote(st storage.Storer) (*git.Remote, transport.AuthMethod, error) {
	user, password, err := m.credentials()
	if err != nil {
		return nil, nil, err
	}
	var auth transport.AuthMethod
	if password != "" {
		auth = &http.BasicAuth{Username: user, Password: password}
	}
	return git.NewRemote(st, &config.RemoteConfig{Name: remoteName, URLs: []string{m.url}}), auth, nil
}

// remoteError says what a failed exchange means for the operator.
func remoteError(ctx context.Context, err error) error {
	var file *fs.PathError
	var link *os.LinkError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &file), errors.As(err, &link):
		return fmt.Errorf("the mirror cannot be written: %w", err)
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return fmt.Errorf("%w: the repository is empty", ErrNoCommit)
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed):
		return fmt.Errorf("%w: it refuses the credentials; check the token file", ErrUnreachable)
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return fmt.Errorf("%w: there is no repository at that URL, or it is private and needs a token file", ErrUnreachable)
	case errors.Is(err, git.NoMatchingRefSpecError{}):
		return fmt.Errorf("%w: it was deleted just now", ErrNoRef)
	case ctx.Err() != nil && !strings.Contains(err.Error(), ctx.Err().Error()):
		return fmt.Errorf("%w: %w: %w", ErrUnreachable, ctx.Err(), saidError{err})
	default:
		return fmt.Errorf("%w: %w", ErrUnreachable, saidError{err})
	}
}

// saidError is an error in which there may be a server's own words: its text is one line
// that can be printed, and has an end.
type saidError struct{ error }

const maxSaid = 500 // runes: names of a certificate's hosts fit in

func (e saidError) Error() string { return cutLine(e.error.Error(), maxSaid) }

func (e saidError) Unwrap() error { return e.error }
