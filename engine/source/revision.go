package source

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

func revisionOf(c *object.Commit) Revision {
	subject, _, _ := strings.Cut(strings.TrimLeft(c.Message, "\n"), "\n")
	return Revision{
		Hash:    c.Hash.String(),
		Subject: oneLine(subject),
		Author:  oneLine(c.Author.Name + " <" + c.Author.Email + ">"),
	}
}

// oneLine makes text of a stranger fit for a terminal and for a log line.
func oneLine(s string) string { return cutLine(s, 200) }

// cutLine does so with at most longest runes of it.
func cutLine(s string, longest int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > longest {
		return string(r[:longest-1]) + "…"
	}
	return s
}

// candidates are the full names that a short one may stand for, the first that
// exists wins. A configured ref is a branch first; gitrevisions(7) looks at tags
// first.
func candidates(name string, tagsFirst bool) []plumbing.ReferenceName {
	switch {
	case name == "@" || name == "HEAD":
		return []plumbing.ReferenceName{plumbing.HEAD}
	case strings.HasPrefix(name, "refs/"):
		return []plumbing.ReferenceName{plumbing.ReferenceName(name)}
	}
	list := []plumbing.ReferenceName{
		plumbing.NewBranchReferenceName(name),
		plumbing.NewTagReferenceName(name),
	}
	if tagsFirst {
		slices.Reverse(list)
	}
	return append(list, plumbing.ReferenceName("refs/remotes/"+name), plumbing.ReferenceName("refs/"+name))
}

// ref gives the commit that a full name of a ref leads to.
func (o *objects) ref(name plumbing.ReferenceName) (plumbing.Hash, error) {
	h, err := o.named(name.String(), []plumbing.ReferenceName{name})
	if err != nil {
		return plumbing.ZeroHash, err
	}
	c, err := o.peel(h)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	return c.Hash, nil
}

// named gives what the first existing candidate points at.
func (o *objects) named(name string, list []plumbing.ReferenceName) (plumbing.Hash, error) {
	var h plumbing.Hash
	err := o.with(func(st *filesystem.Storage) error {
		ref, err := lookUp(st, name, list)
		if err == nil {
			h = ref.Hash()
		}
		return err
	})
	return h, err
}

// noSuchRef says which branches there are instead.
func noSuchRef(st storer.ReferenceStorer, name string) error {
	iter, err := st.IterReferences()
	if err != nil {
		return fmt.Errorf("%w: %s", ErrNoRef, name)
	}
	defer iter.Close()
	var all []*plumbing.Reference
	_ = iter.ForEach(func(r *plumbing.Reference) error { all = append(all, r); return nil })
	return missingRef(name, all)
}

func missingRef(name string, all []*plumbing.Reference) error {
	var branches []string
	for _, r := range all {
		if r.Name().IsBranch() {
			branches = append(branches, oneLine(r.Name().Short()))
		}
	}
	slices.Sort(branches)
	const shown = 8
	switch {
	case len(branches) == 0:
		return fmt.Errorf("%w on %s", ErrNoCommit, oneLine(name))
	case len(branches) > shown:
		branches = append(branches[:shown], "…")
	}
	return fmt.Errorf("%w: %s; the branches are: %s", ErrNoRef, oneLine(name), strings.Join(branches, ", "))
}

// revSpec is a parsed revision: a name, then steps towards its ancestors.
type revSpec struct {
	base  string
	steps []revStep
}

// revStep goes first parents back n times when parent is 0, else to that parent.
type revStep struct{ parent, n int }

// maxStep bounds one ~N, and with it how much history a revision can walk.
const maxStep = 100_000

// parseRevSpec reads the part of gitrevisions(7) that names one commit by name or
// ancestry: <name>, @, and the suffixes ~, ~N, ^, ^N.
func parseRevSpec(s string) (revSpec, error) {
	var rs revSpec
	if len(s) > 512 {
		return rs, errors.New("is too long")
	}
	end := strings.IndexAny(s, "~^")
	if end < 0 {
		end = len(s)
	}
	rs.base = s[:end]
	switch {
	case rs.base == "":
		return rs, errors.New("names nothing")
	case strings.ContainsAny(rs.base, ": ?*[\\\x7f") || strings.Contains(rs.base, "..") || strings.Contains(rs.base, "@{") || rs.base[0] == '-':
		return rs, errors.New("want a hash, a branch, a tag or HEAD, with ~N or ^N after it")
	}
	for rest := s[end:]; rest != ""; {
		op := rest[0]
		if op != '~' && op != '^' {
			return rs, fmt.Errorf("%q is not understood; want ~N or ^N", rest)
		}
		digits := 1
		for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
			digits++
		}
		n := 1
		if digits > 1 {
			var err error
			if n, err = strconv.Atoi(rest[1:digits]); err != nil || n > maxStep {
				return rs, fmt.Errorf("%s is too far back", rest[:digits])
			}
		}
		rest = rest[digits:]
		switch {
		case n == 0: // X~0 and X^0 are X
		case op == '~':
			rs.steps = append(rs.steps, revStep{n: n})
		default:
			rs.steps = append(rs.steps, revStep{parent: n})
		}
	}
	return rs, nil
}

// resolve finds the commit of a revision: a full hash before a name, a name before
// an abbreviated hash, as Git does.
func (o *objects) resolve(rs revSpec) (*object.Commit, error) {
	c, err := o.resolveBase(rs.base)
	if err != nil {
		return nil, err
	}
	for _, step := range rs.steps {
		parent, n := max(step.parent, 1), max(step.n, 1)
		for range n {
			if parent > len(c.ParentHashes) {
				return nil, fmt.Errorf("%w: %s has %d parents", ErrNoRef, c.Hash, len(c.ParentHashes))
			}
			if c, err = o.commit(c.ParentHashes[parent-1]); err != nil {
				return nil, fmt.Errorf("%w (a shallow history ends somewhere)", err)
			}
		}
	}
	return c, nil
}

func (o *objects) resolveBase(base string) (*object.Commit, error) {
	if plumbing.IsHash(base) {
		c, err := o.peel(plumbing.NewHash(base))
		if err != nil && gone(err) {
			err = fmt.Errorf("%w: %s", ErrNoRef, base)
		}
		return c, err
	}
	h, err := o.named(base, candidates(base, true))
	if err == nil {
		return o.peel(h)
	}
	if hash, herr := o.expand(base); herr != nil {
		return nil, herr
	} else if !hash.IsZero() {
		return o.commit(hash)
	}
	return nil, err
}

// expand finds the one commit whose hash starts with prefix; the zero hash means
// that there is none, or that prefix is not the start of a hash.
func (o *objects) expand(prefix string) (plumbing.Hash, error) {
	prefix = strings.ToLower(prefix)
	if len(prefix) < 4 || len(prefix) >= 40 || strings.Trim(prefix, "0123456789abcdef") != "" {
		return plumbing.ZeroHash, nil
	}
	raw := plumbing.NewHash(prefix[:len(prefix)&^1] + strings.Repeat("0", 40-len(prefix)&^1))
	var found []plumbing.Hash
	err := o.with(func(st *filesystem.Storage) error {
		found = nil
		all, err := st.HashesWithPrefix(raw[:len(prefix)/2])
		if err != nil {
			return err
		}
		for _, h := range all {
			if strings.HasPrefix(h.String(), prefix) {
				if obj, err := st.EncodedObject(plumbing.CommitObject, h); err == nil && !slices.Contains(found, obj.Hash()) {
					found = append(found, h)
				}
			}
		}
		if len(found) == 0 {
			return plumbing.ErrObjectNotFound // perhaps packed since
		}
		return nil
	})
	switch {
	case errors.Is(err, plumbing.ErrObjectNotFound):
		return plumbing.ZeroHash, nil
	case err != nil:
		return plumbing.ZeroHash, err
	case len(found) > 1:
		return plumbing.ZeroHash, fmt.Errorf("%w: %s is the start of %d commits; write more digits", ErrNoRef, prefix, len(found))
	}
	return found[0], nil
}
