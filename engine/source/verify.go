package source

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// Verify says whether a commit of this repository may be served: nil if so, given
// Config.Trust and since, the newest commit that was trusted; it gives what is to be
// passed as since the next time, if this one is served. A *UntrustedError says why not. Any other error says that this could not be
// found out now: the object database cannot be read, ctx ended, or a key file cannot
// be (ErrKeys).
//
// That rev does not descend from since is told last: an error with ReasonRewound is
// about signatures that are all in order, and comes with what an operator trusts who
// goes there all the same. With other errors, what it gives is zero.
//
// It asks nothing of the network, and remembers nothing: the same commit is verified
// anew each time. What since has among its ancestors, and since itself, may be signed
// by a key that has expired meanwhile; a key that was removed or revoked counts for
// nothing at once.
//
// With VerifyTip and a Ref that is a tag, the signature of the tag does as well, if
// the tag is the tracked one and its own name is that of the ref.
func (s *Source) Verify(ctx context.Context, rev Revision, since Trusted) (Trusted, error) {
	err := s.verify(ctx, rev.Hash, since)
	var why *UntrustedError
	switch {
	case err == nil, errors.As(err, &why) && why.Reason == ReasonRewound:
		return Trusted{rev.Hash, s.cfg.Trust.Verify}, err
	case why != nil:
		return Trusted{}, err
	}
	return Trusted{}, fmt.Errorf("repository %s: commit %s: %w", s.cfg.Repo, short(rev.Hash), err)
}

func (s *Source) verify(ctx context.Context, rev string, last Trusted) error {
	if !plumbing.IsHash(rev) {
		return fmt.Errorf("%w: not a full hash", ErrNoRef)
	}
	since, base := last.Commit, last.Commit
	covered := covers(last.Verify, s.cfg.Trust.Verify)
	if since == "" {
		since = s.cfg.Trust.Anchor
	}
	if s.cfg.Trust.Anchor != "" && !covered {
		base = s.cfg.Trust.Anchor
	}
	if since != "" && !plumbing.IsHash(since) {
		return fmt.Errorf("%w: the last trusted commit %q is not a full hash", ErrNoRef, since)
	}
	v := verification{Source: s, tip: plumbing.NewHash(rev), since: plumbing.NewHash(since)}
	if base != "" { // first for the signatures
		v.since = plumbing.NewHash(base)
	}
	v.unseen = v.since == plumbing.NewHash(last.Commit) && !covers(last.Verify, VerifyTip)
	if err := v.walk(ctx); err != nil {
		return err
	}
	if s.cfg.Trust.Verify != VerifyNone {
		if err := v.signatures(ctx); err != nil {
			return err
		}
	}
	if before := plumbing.NewHash(since); before != v.since {
		v.since = before
		if err := v.walk(ctx); err != nil {
			return err
		}
	}
	return v.rewind()
}

// verification is one call of Verify.
type verification struct {
	*Source
	tip, since plumbing.Hash // since is zero for none
	unseen     bool          // nobody looked at the signature of since
	line       lineage       // of the two, when they differ
	keys       *keys
}

// walk finds out how the two are related.
func (v *verification) walk(ctx context.Context) (err error) {
	v.line = lineage{}
	if !v.since.IsZero() && v.since != v.tip {
		v.line, err = v.objs.lineage(ctx, v.tip, v.since)
	}
	return err
}

func (v *verification) refuse(at plumbing.Hash, reason, message string) error {
	return &UntrustedError{Revision: v.tip.String(), Commit: at.String(), Reason: reason, Message: message}
}

// rewind refuses a tip that does not descend from what was trusted last.
func (v *verification) rewind() error {
	if v.since.IsZero() || v.since == v.tip || v.cfg.Trust.Rewind == RewindAccept {
		return nil
	}
	since := short(v.since.String())
	switch v.line.descends {
	case yes:
		return nil
	case no:
		return v.refuse(v.tip, ReasonRewound, fmt.Sprintf("does not descend from %s, which was trusted last: the branch was rewound or rewritten; if that is meant, apply it by its hash, or set rewind = %q", since, RewindAccept))
	}
	return v.refuse(v.tip, ReasonHistory, fmt.Sprintf("may or may not descend from %s, which was trusted last: %s", since, v.line.why))
}

// signatures checks the commits that must be signed.
func (v *verification) signatures(ctx context.Context) error {
	var err error
	if v.keys, err = v.cfg.Trust.readKeys(); err != nil {
		return err
	}
	if err := v.signedTip(); err != nil {
		return err
	}
	if v.cfg.Trust.Verify != VerifyEvery {
		return nil
	}
	var old map[plumbing.Hash]bool // ancestors of since, when they had to be read
	for _, c := range v.line.added {
		if err := ctx.Err(); err != nil {
			return err
		}
		if c == v.tip {
			continue
		}
		why, err := v.signedBy(c, true)
		if err != nil {
			return err
		}
		if why == nil || old[c] {
			continue
		}
		// Is it new at all? A committer's clock may have been wrong.
		if old == nil {
			if old, err = v.objs.ancestors(ctx, v.since); err != nil {
				return err
			}
		}
		if !old[c] {
			return v.refuse(c, why.reason, why.message)
		}
	}
	if v.line.cut {
		return v.refuse(v.tip, ReasonHistory, fmt.Sprintf("has commits before it that cannot be checked: %s", v.line.why))
	}
	return nil
}

// signedTip checks the commit that is to be served.
func (v *verification) signedTip() error {
	fresh := v.since != v.tip || v.unseen
	if v.since != v.tip && !v.since.IsZero() {
		fresh = false
		for _, c := range v.line.added {
			fresh = fresh || c == v.tip
		}
	}
	why, err := v.signedBy(v.tip, fresh)
	if why == nil || err != nil {
		return err
	}
	if v.cfg.Trust.Verify == VerifyTip {
		name, more, err := v.signedTag(fresh)
		switch {
		case err != nil:
			return err
		case name != "" && more == nil:
			return nil
		case name != "" && more.reason != ReasonUnsigned && why.reason == ReasonUnsigned:
			why = &rejection{more.reason, fmt.Sprintf("is not signed, and its tag %s %s", oneLine(name), more.message)}
		case name != "":
			why = &rejection{why.reason, fmt.Sprintf("%s; its tag %s %s", why.message, oneLine(name), more.message)}
		}
	}
	return v.refuse(v.tip, why.reason, why.message)
}

// when gives the time at which a signature counts, besides that of the object.
func (v *verification) when(made time.Time, fresh bool) occasion {
	if fresh {
		return occasion{made, v.cfg.Now()}
	}
	return occasion{made: made}
}

// signedBy says why the signature of a commit does not count; nil when it does.
func (v *verification) signedBy(h plumbing.Hash, fresh bool) (*rejection, error) {
	sig, c, err := v.objs.signedCommit(h)
	var why *rejection
	if errors.As(err, &why) {
		return why, nil
	}
	if err != nil {
		return nil, err
	}
	return v.keys.check(sig, v.when(c.Committer.When, fresh)), nil
}

// signedTag looks at the tracked tag: its name, "" when there is no annotated tag that
// leads to the tip, and why its signature does not count.
func (v *verification) signedTag(fresh bool) (string, *rejection, error) {
	name, h, err := v.tracked()
	if err != nil || !name.IsTag() {
		return "", nil, err
	}
	raw, err := v.objs.read(plumbing.TagObject, h, maxCommit)
	if err != nil {
		if gone(err) { // it leads to the commit itself
			return "", nil, nil
		}
		return "", nil, err
	}
	if c, err := v.objs.peel(h); err != nil || c.Hash != v.tip {
		return "", nil, err
	}
	short := strings.TrimPrefix(name.String(), "refs/tags/")
	sig, bad := splitTag(raw)
	if bad != nil {
		return short, reject(ReasonBadSignature, "%s", bad.Error()), nil
	}
	tag := &object.Tag{}
	if err := tag.Decode(encoded(plumbing.TagObject, sig.payload)); err != nil {
		return "", nil, malformed(plumbing.TagObject, h, err)
	}
	switch {
	case tag.Name != short:
		// Else an old tag could be given the name of a new version.
		return short, reject(ReasonBadSignature, "was made with another name, %s", oneLine(tag.Name)), nil
	case tag.TargetType != plumbing.CommitObject || tag.Target != v.tip:
		return short, reject(ReasonBadSignature, "is a tag of a tag"), nil
	}
	return short, v.keys.check(sig, v.when(tag.Tagger.When, fresh)), nil
}

// ancestors lists a commit and all before it, as far as history is looked at.
func (o *objects) ancestors(ctx context.Context, h plumbing.Hash) (map[plumbing.Hash]bool, error) {
	edge, err := o.dirs.shallow()
	if err != nil {
		return nil, err
	}
	seen := map[plumbing.Hash]bool{h: true}
	walk := past{objs: o}
	for todo := []plumbing.Hash{h}; len(todo) > 0; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c, err := walk.read(todo[len(todo)-1])
		todo = todo[:len(todo)-1]
		if endless(err) != "" {
			return seen, nil
		}
		if err != nil {
			if gone(err) { // since itself may be
				continue
			}
			return nil, err
		}
		if edge[c.hash] {
			continue
		}
		for _, p := range c.parents {
			if !seen[p] {
				seen[p] = true
				todo = append(todo, p)
			}
		}
	}
	return seen, nil
}
