package source

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
)

// What is looked at to find out how two commits are related. Nobody has signed for it
// yet when it is read.
const (
	maxHistory      = 50_000    // commits, unless objects has another bound
	maxHistoryBytes = 128 << 20 // of all of them
	maxParents      = 4 * maxHistory
)

// ancestor is what is kept of a commit on the way back: a few dozen bytes, however
// large the commit is.
type ancestor struct {
	hash    plumbing.Hash
	parents []plumbing.Hash
	made    int64 // committer's time, in seconds of Unix
}

// past reads the commits of one walk back.
type past struct {
	objs    *objects
	commits int
	bytes   int64
	parents int
}

// errEndless says that there is more history than is looked at. Its text follows
// "may or may not descend: ".
type errEndless string

func (e errEndless) Error() string { return string(e) }

// endless gives the text of an errEndless, "" for any other error.
func endless(err error) string {
	var e errEndless
	errors.As(err, &e)
	return string(e)
}

// read gives the next commit. Its error is an errEndless when that is one too many, or
// it is larger than any that is read.
func (p *past) read(h plumbing.Hash) (ancestor, error) {
	most := cmp.Or(p.objs.most, maxHistory)
	switch {
	case p.commits > most:
		return ancestor{}, errEndless(fmt.Sprintf("more than %d commits lie between them", most))
	case p.bytes > maxHistoryBytes:
		return ancestor{}, errEndless(fmt.Sprintf("more than %d MiB of commits lie between them", maxHistoryBytes>>20))
	case p.parents > maxParents:
		return ancestor{}, errEndless(fmt.Sprintf("the commits between them have more than %d parents", maxParents))
	}
	c, size, err := p.objs.sizedCommit(h)
	if errors.Is(err, ErrLimit) {
		return ancestor{}, errEndless(fmt.Sprintf("commit %s before it has more than %d bytes", short(h.String()), maxCommit))
	}
	if err != nil {
		return ancestor{}, err
	}
	p.commits++
	p.bytes += size
	p.parents += len(c.ParentHashes)
	return ancestor{h, c.ParentHashes, c.Committer.When.Unix()}, nil
}
