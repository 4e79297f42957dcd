package source

import (
	"bufio"
	"container/heap"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing"
)

// lineage is how two commits are related.
type lineage struct {
	descends answer // whether the newer has the older among its ancestors
	why      string // that is unknown
	// added are the commits that the newer one brings, itself included: those that
	// are no ancestors of the older. Where committers' clocks are wrong, commits that
	// both have may be among them.
	added []plumbing.Hash
	// cut is set when added lacks commits, because history ends early.
	cut bool
}

const (
	ofNewer = 1 << iota // the newer commit, or an ancestor of it
	ofOlder
)

// visit is a commit on the way back.
type visit struct {
	ancestor
	marks int
	turn  int  // in which it was read; breaks ties, so that the order is always the same
	waits bool // in the queue: its parents were not looked at yet
}

// visits is a queue of those that wait, the newest first.
type visits []*visit

func (v visits) Len() int { return len(v) }
func (v visits) Less(i, j int) bool {
	if v[i].made == v[j].made {
		return v[i].turn < v[j].turn
	}
	return v[i].made > v[j].made
}
func (v visits) Swap(i, j int) { v[i], v[j] = v[j], v[i] }
func (v *visits) Push(x any)   { *v = append(*v, x.(*visit)) }
func (v *visits) Pop() any {
	last := (*v)[len(*v)-1]
	*v = (*v)[:len(*v)-1]
	return last
}

// lineage walks back from both commits, as git-rev-list(1) does for "newer ^older",
// and stops where only common history is left. Dates only decide how far it goes:
// descends is right whatever they say, and added lacks none.
func (o *objects) lineage(ctx context.Context, newer, older plumbing.Hash) (lineage, error) {
	edge, err := o.dirs.shallow()
	if err != nil {
		return lineage{}, err
	}
	w := lineageWalk{past: past{objs: o}, edge: edge, seen: map[plumbing.Hash]*visit{}}
	var out lineage
	if err := w.begin(newer, older); err != nil {
		if out.why = endless(err); out.why == "" {
			return lineage{}, err
		}
		out.cut = true
	}
	for w.open > 0 && !out.cut {
		if err := ctx.Err(); err != nil {
			return lineage{}, err
		}
		v := heap.Pop(&w.queue).(*visit)
		v.waits = false
		if v.marks == ofNewer {
			w.open--
			if edge[v.hash] {
				out.cut, out.why = true, "the repository is a shallow clone: fetch the rest of its history with git fetch --unshallow"
			}
		}
		for _, p := range w.parents(v) {
			err := w.mark(p, v.marks)
			if err == nil {
				continue
			}
			if out.why = endless(err); out.why == "" {
				return lineage{}, err
			}
			out.cut = true
			break
		}
	}
	old := w.seen[older]
	switch {
	case old != nil && old.marks&ofNewer != 0:
		out.descends = yes
	case !out.cut:
		out.descends = no
	}
	for _, v := range w.order {
		if v.marks == ofNewer {
			out.added = append(out.added, v.hash)
		}
	}
	return out, nil
}

// lineageWalk is the state of one walk.
type lineageWalk struct {
	past
	edge  map[plumbing.Hash]bool // commits whose parents are not there
	seen  map[plumbing.Hash]*visit
	order []*visit // as they were read
	queue visits
	open  int // how many of the queue only the newer commit has, as far as is known
}

func (w *lineageWalk) parents(v *visit) []plumbing.Hash {
	if w.edge[v.hash] {
		return nil
	}
	return v.parents
}

func (w *lineageWalk) begin(newer, older plumbing.Hash) error {
	if err := w.mark(newer, ofNewer); err != nil {
		return err
	}
	// The older one may be gone: nothing refers any more to what a force-push replaced.
	if err := w.mark(older, ofOlder); err != nil && !gone(err) {
		return err
	}
	return nil
}

// mark adds marks to a commit, and to those before it that were visited already.
func (w *lineageWalk) mark(h plumbing.Hash, marks int) error {
	for todo := []plumbing.Hash{h}; len(todo) > 0; {
		h := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		v := w.seen[h]
		if v == nil {
			c, err := w.read(h)
			if err != nil {
				return err
			}
			v = &visit{ancestor: c, marks: marks, turn: len(w.order), waits: true}
			w.seen[h] = v
			w.order = append(w.order, v)
			heap.Push(&w.queue, v)
			if marks == ofNewer {
				w.open++
			}
			continue
		}
		had := v.marks
		if v.marks |= marks; v.marks == had {
			continue
		}
		if !v.waits {
			todo = append(todo, w.parents(v)...)
		} else if had == ofNewer {
			w.open--
		}
	}
	return nil
}

const maxShallow = 4 << 20 // bytes of the file: some 100,000 commits

// shallow lists the commits of a shallow clone whose parents were not fetched; see
// gitrepository-layout(5). It is nil for an ordinary repository.
func (d gitDirs) shallow() (map[plumbing.Hash]bool, error) {
	f, err := os.Open(filepath.Join(d.common, "shallow"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	edge := map[plumbing.Hash]bool{}
	lines := bufio.NewScanner(io.LimitReader(f, maxShallow))
	for lines.Scan() {
		if plumbing.IsHash(lines.Text()) {
			edge[plumbing.NewHash(lines.Text())] = true
		}
	}
	return edge, lines.Err()
}
