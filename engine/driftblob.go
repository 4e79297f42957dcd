package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// lostBlob is a blob whose file is not there, or is not it.
type lostBlob struct {
	blob   provider.Blob
	kind   provider.DriftKind
	reason string
	since  time.Time
	mark   store.Mark // of the file that is not it; zero: there is none
	uses   []store.Use
	on     []string // machines that have it as their root now

	heals bool
	how   string
	// wait is how long the next try to heal it waits after the one at tried.
	tried time.Time
	wait  time.Duration
}

// look compares every file that a kept generation needs with what is known of it. It
// reads those through whose mark is another than it was.
func (w *watch) look(ctx context.Context) {
	w.learn()
	for digest, list := range w.needed() {
		if ctx.Err() != nil {
			return
		}
		w.examine(ctx, digest, list)
	}
}

// learn finds out what the kept generations need.
func (w *watch) learn() {
	kept := map[uint64]bool{}
	for _, n := range w.cfg.Store.Numbers() {
		kept[n] = true
		if _, ok := w.uses[n]; ok {
			continue
		}
		list, err := w.cfg.Store.Uses(n)
		if err != nil { // the store tells of damage itself
			w.log.Debug("what a generation needs is not known", "generation", n, "error", err)
			continue
		}
		w.uses[n] = list
	}
	maps.DeleteFunc(w.uses, func(n uint64, _ []store.Use) bool { return !kept[n] })
	needed := w.needed()
	maps.DeleteFunc(w.marks, func(d string, _ store.Mark) bool { return needed[d] == nil })
	w.proven.keep(needed)
	maps.DeleteFunc(w.lost, func(d string, _ *lostBlob) bool { return needed[d] == nil })
}

// needed gives the uses of each digest, those of the newest generation first.
func (w *watch) needed() map[string][]store.Use {
	all := map[string][]store.Use{}
	for _, n := range slices.Backward(slices.Sorted(maps.Keys(w.uses))) {
		for _, u := range w.uses[n] {
			all[u.Digest] = append(all[u.Digest], u)
		}
	}
	return all
}

// suspect examines a file that somebody found to be wrong.
func (w *watch) suspect(ctx context.Context, digest string) {
	w.learn()
	if list := w.needed()[digest]; list != nil {
		w.marks[digest] = store.Mark{} // another than any file's: it is read through
		w.examine(ctx, digest, list)
	}
}

// examine finds out whether one blob is there and sound.
func (w *watch) examine(ctx context.Context, digest string, uses []store.Use) {
	b, c := uses[0].Blob, w.cfg.Store.Content()
	mark, err := c.Mark(b)
	was, seen := w.marks[digest]
	lost := w.lost[digest]
	switch {
	case err == nil && lost == nil && !seen:
		w.marks[digest] = mark
		w.believe(b, mark)
		return
	case err == nil && lost == nil && was == mark:
		return
	case lost != nil && lost.mark == mark:
		lost.uses = uses
		return // as it was
	case err == nil:
		mark, err = c.Check(ctx, b, nil)
	}
	var spoilt *store.SpoiltError
	switch {
	case err == nil:
		w.marks[digest] = mark
		w.proved(digest, mark)
		delete(w.lost, digest)
		if lost != nil {
			w.renew(b)
		}
		return
	case errors.Is(err, fs.ErrNotExist):
		w.lose(lost, uses, provider.DriftBlobMissing, "its file is gone", store.Mark{})
	case errors.As(err, &spoilt):
		w.lose(lost, uses, provider.DriftBlobChanged, spoilt.Reason, mark)
	case ctx.Err() == nil: // says nothing about the file
		w.log.Error("a file of the content store cannot be read", "digest", digest, "error", err)
	}
}

// lose notes that a blob is lost.
func (w *watch) lose(was *lostBlob, uses []store.Use, kind provider.DriftKind, reason string, mark store.Mark) {
	if was != nil && was.kind == provider.DriftBlobChanged && kind == provider.DriftBlobMissing {
		kind, reason = was.kind, was.reason // it was set aside
	}
	l := &lostBlob{blob: uses[0].Blob, kind: kind, reason: reason, since: w.now().UTC(), mark: mark, uses: uses}
	if was != nil {
		l.since, l.tried, l.wait, l.heals, l.how = was.since, was.tried, was.wait, was.heals, was.how
	}
	delete(w.marks, l.blob.Digest)
	w.proven.drop(l.blob.Digest)
	w.lost[l.blob.Digest] = l
}

// blobDrift describes what is lost.
func (w *watch) blobDrift() []provider.Drift {
	var list []provider.Drift
	for _, l := range w.lost {
		for _, d := range l.drifts() {
			d.Range, d.Former = w.rangeOf(d.Address), !l.current(w.Generation())
			list = append(list, d)
		}
	}
	return list
}

// drifts gives a drift for each resource that the blob belongs to.
func (l *lostBlob) drifts() []provider.Drift {
	var list []provider.Drift
	seen := map[schema.Addr]bool{}
	for _, u := range l.uses {
		if seen[u.Address] {
			continue
		}
		seen[u.Address] = true
		d := provider.Drift{
			Kind: l.kind, Address: u.Address, What: l.blob.Digest,
			Message: l.message(u), Since: l.since, Heals: l.heals, How: l.how,
		}
		if u.Name == "root" {
			d.Machines = l.on
		}
		list = append(list, d)
	}
	return list
}

// message says in one sentence what is lost for a use.
func (l *lostBlob) message(u store.Use) string {
	of := u.Name
	if !u.Address.IsZero() {
		of += " of " + u.Address.String()
	}
	var gens []string
	for _, other := range l.uses {
		n := fmt.Sprint(other.Generation)
		if other.Address == u.Address && !slices.Contains(gens, n) {
			gens = append(gens, n)
		}
	}
	word := "generation"
	if len(gens) > 1 {
		word += "s"
	}
	text := fmt.Sprintf("%s (%s), which %s %s needs: %s", of, provider.ShortDigest(l.blob.Digest), word, strings.Join(gens, ", "), l.reason)
	if l.kind == provider.DriftBlobChanged && len(l.on) > 0 {
		text += fmt.Sprintf("; %d running on it", len(l.on))
	}
	return text
}

// rangeOf says where a resource is declared in what is served.
func (w *watch) rangeOf(a schema.Addr) schema.Range {
	cur := w.current()
	if cur == nil || a.IsZero() {
		return schema.Range{}
	}
	d := cur.desired
	for _, x := range d.Images {
		if x.Addr == a {
			return x.Range
		}
	}
	for _, x := range d.Bootloaders {
		if x.Addr == a {
			return x.Range
		}
	}
	return schema.Range{}
}

// runningOn names the machines that have an artifact as their root.
func runningOn(obs []plan.Observation, digest string) []string {
	set := map[string]bool{}
	for _, o := range obs {
		if o.Kind != plan.SawConnection || o.Artifact != digest {
			continue
		}
		switch {
		case !o.Host.IsZero():
			set[o.Host.String()] = true
		case o.MAC != "":
			set[o.MAC] = true
		default:
			set[o.Address] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}
