package engine

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// rebuild is called by the loop.
func (e *Engine) rebuild(ctx context.Context, st *loopState, r rebuild) {
	j, err := e.rebuildJob()
	if s, _ := e.Status(); err == nil && (st.running != nil || st.next != nil || s.Try != nil) {
		err = errBusy
	}
	if err != nil {
		r.reply <- Outcome{Failure: failure("", PhaseLoading, err, e.now())}
		return
	}
	e.log.Warn("what is served is made anew", "generation", e.Generation(), "revision", j.rev.Hash, "because", r.why)
	j.reply = r.reply
	e.begin(ctx, st, j)
}

// rebuildJob makes what is served anew, under the hold that is in force.
func (e *Engine) rebuildJob() (job, error) {
	cur := e.current()
	if cur == nil || e.cfg.Source == nil {
		return job{}, errors.New("nothing is served that could be made anew")
	}
	s, _ := e.Status()
	rev := source.Revision{Hash: cur.record.Revision, Subject: cur.record.Subject, Author: cur.record.Author}
	if s.Held == nil && s.Synced != "" && s.Synced != rev.Hash { // which describes the same
		rev = source.Revision{Hash: s.Synced} // loadLost knows the rest: the repo may be far away
	}
	// A rewind is no matter: it is served already.
	return job{trigger: store.TriggerDrift, rev: rev, hold: s.Held, named: true}, nil
}

// loadLost fills rec and in with what is served, as its record has it, and the files of
// the repo that it is made from.
func (a *attempt) loadLost(ctx context.Context, rec *store.Record, in *provider.Input) (_ *schema.Desired, err error) {
	cur := a.current()
	if cur == nil {
		return nil, errors.New("nothing is served any more")
	}
	old := cur.record
	whole, diags := store.Load(old, a.options())
	if diags.HasErrors() {
		return nil, diags
	}
	if a.j.rev.Author == "" {
		if a.j.rev, err = a.cfg.Source.Resolve(ctx, a.j.rev.Hash); err != nil {
			return nil, err
		}
		rec.Subject, rec.Author = a.j.rev.Subject, a.j.rev.Author
	}
	tree, missing, err := a.tree(ctx, a.j.rev)
	if err != nil {
		return nil, err
	}
	a.missing, in.Files = missing, tree
	rec.RolledBackTo = old.RolledBackTo
	rec.Files, rec.Digests, rec.Variables, rec.Given, rec.Env = old.Files, old.Digests, old.Variables, old.Given, old.Env
	return whole, nil
}

// whole gives those of artifacts of which nothing is lost.
func (a *attempt) whole(artifacts map[string]provider.Artifact) map[string]provider.Artifact {
	c := a.cfg.Store.Content()
	all := maps.Clone(artifacts)
	maps.DeleteFunc(all, func(_ string, art provider.Artifact) bool {
		parts := append(slices.Collect(maps.Values(art.Loaders)), art.Root, art.Kernel, art.Initrd)
		return slices.ContainsFunc(parts, func(b provider.Blob) bool { return !c.Has(b) })
	})
	return all
}

// same reports whether t serves the very bytes that rec says.
func (t *transaction) same(rec *store.Record) bool {
	var made store.Record
	t.fill(&made)
	return maps.EqualFunc(made.Images, rec.Images, sameArtifact) && maps.Equal(made.Exports, rec.Exports) &&
		maps.EqualFunc(made.Blobs, rec.Blobs, maps.Equal) && slices.Equal(made.Trees, rec.Trees)
}

func sameArtifact(a, b provider.Artifact) bool {
	return a.Root == b.Root && a.Kernel == b.Kernel && a.Initrd == b.Initrd && maps.Equal(a.Loaders, b.Loaders)
}
