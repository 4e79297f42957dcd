package source

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// versionPrefix begins a ref that is a range of versions.
const versionPrefix = "semver:"

// wantedRef is what Config.Ref says: one ref by name, or the highest tag in a range.
type wantedRef struct {
	name     string              // as written; "HEAD" for nothing
	versions *semver.Constraints // nil for a name
}

func parseRef(text string) (wantedRef, error) {
	if text == "" {
		return wantedRef{name: "HEAD"}, nil
	}
	span, ok := strings.CutPrefix(text, versionPrefix)
	if !ok {
		return wantedRef{name: text}, nil
	}
	if len(span) > 256 {
		return wantedRef{}, errors.New("ref: the range of versions is too long")
	}
	c, err := semver.NewConstraint(span)
	if err != nil || strings.TrimSpace(span) == "" {
		return wantedRef{}, fmt.Errorf("ref %q: want a range of versions behind the colon, such as semver:>=1.2 <2", oneLine(text))
	}
	return wantedRef{name: text, versions: c}, nil
}

// version reads the name of a tag: 1.2.3 or v1.2.3, with a pre-release and metadata
// perhaps. Less than three numbers are no version: a tag "2026" is not meant so.
func version(name plumbing.ReferenceName) *semver.Version {
	text, ok := strings.CutPrefix(name.String(), "refs/tags/")
	if !ok || len(text) > 256 {
		return nil
	}
	v, err := semver.StrictNewVersion(strings.TrimPrefix(text, "v"))
	if err != nil {
		return nil
	}
	return v
}

// highest gives the tag with the highest version of the range. A pre-release is taken
// only where the range names one. Versions that differ in nothing that counts go by
// their names.
func (w wantedRef) highest(refs []*plumbing.Reference) (*plumbing.Reference, error) {
	var best, above *plumbing.Reference // above is of any version
	over := func(r, than *plumbing.Reference) bool {
		return than == nil || cmp.Or(version(r.Name()).Compare(version(than.Name())), cmp.Compare(r.Name(), than.Name())) > 0
	}
	for _, r := range refs {
		v := version(r.Name())
		if v == nil || r.Type() != plumbing.HashReference {
			continue
		}
		if over(r, above) {
			above = r
		}
		if w.versions.Check(v) && over(r, best) {
			best = r
		}
	}
	switch {
	case best != nil:
		return best, nil
	case above != nil:
		return nil, fmt.Errorf("%w: no tag is a version of %s; the highest is %s", ErrNoRef, oneLine(w.name), oneLine(above.Name().Short()))
	default:
		return nil, fmt.Errorf("%w: no tag is a version such as v1.2.3, to choose by %s from", ErrNoRef, oneLine(w.name))
	}
}

// tracked gives the ref that is wanted and what it points at, which for an annotated
// tag is the tag.
func (o *objects) tracked(w wantedRef) (*plumbing.Reference, error) {
	var found *plumbing.Reference
	err := o.with(func(st *filesystem.Storage) (err error) {
		if w.versions == nil {
			found, err = lookUp(st, w.name, candidates(w.name, false))
			return err
		}
		iter, err := st.IterReferences()
		if err != nil {
			return err
		}
		var all []*plumbing.Reference
		if err := iter.ForEach(func(r *plumbing.Reference) error { all = append(all, r); return nil }); err != nil {
			return err
		}
		found, err = w.highest(all)
		return err
	})
	return found, err
}

// lookUp gives the first existing candidate.
func lookUp(st *filesystem.Storage, name string, list []plumbing.ReferenceName) (*plumbing.Reference, error) {
	for _, full := range list {
		if !full.IsSafe() {
			continue
		}
		ref, err := storer.ResolveReference(st, full)
		if err == nil {
			return ref, nil
		}
		if !errors.Is(err, plumbing.ErrReferenceNotFound) {
			return nil, fmt.Errorf("ref %s: %w", full, err)
		}
	}
	return nil, noSuchRef(st, name)
}
