package engine

import (
	"context"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// load gives what the generation consists of: its record, as far as it is known
// before anything is prepared, and what the providers prepare from.
func (a *attempt) load(ctx context.Context) (*store.Record, provider.Input, error) {
	in := provider.Input{Offline: a.j.generation != 0, Progress: func(p provider.Progress) { a.progress(ctx, p) }}
	rec := &store.Record{Revision: a.j.rev.Hash, Subject: a.j.rev.Subject, Author: a.j.rev.Author, Trigger: a.j.trigger}
	fail := func(err error) (*store.Record, provider.Input, error) { return nil, provider.Input{}, err }
	var whole *schema.Desired
	var restored *store.Record // nil unless this is a rollback
	if a.j.generation != 0 {
		old, err := a.cfg.Store.Get(a.j.generation)
		if err != nil {
			return fail(err)
		}
		d, diags := store.Load(old, a.options())
		if diags.HasErrors() {
			return fail(diags)
		}
		whole = d
		rec.RolledBackTo = old.Number
		if old.RolledBackTo != 0 { // it repeats another one itself
			rec.RolledBackTo = old.RolledBackTo
		}
		rec.Files, rec.Digests, rec.Variables, rec.Given, rec.Env = old.Files, old.Digests, old.Variables, old.Given, old.Env
		in.Blobs = old.Blobs
		restored = old
	} else if a.j.trigger == store.TriggerDrift {
		var err error
		if whole, err = a.loadLost(ctx, rec, &in); err != nil {
			return fail(err)
		}
	} else {
		tree, missing, err := a.tree(ctx, a.j.rev)
		if err != nil {
			return fail(err)
		}
		a.missing = missing
		d, diags := schema.Load(tree, a.options())
		if !diags.HasErrors() {
			diags = UnknownZones(&d.Policy)
		}
		if diags.HasErrors() {
			return fail(diags)
		}
		whole = d
		in.Files = tree
		if err := rec.TakeFiles(tree, d, a.options()); err != nil {
			return fail(err)
		}
	}
	want, err := Own(whole, a.cfg.Server)
	if err != nil {
		return fail(err)
	}
	if diags := a.refuse(want); diags.HasErrors() {
		return fail(diags)
	}
	in.Want = want
	switch {
	case restored != nil:
		in.Artifacts = recorded(restored, want)
	case a.j.trigger == store.TriggerDrift:
		in.Artifacts = a.whole(recorded(a.current().record, want))
	}
	if len(rec.Given) > 0 {
		key, err := a.cfg.Store.HostKey()
		if err != nil {
			return fail(err)
		}
		rec.TakeGiven(key, a.options().Vars)
	}
	return rec, in, nil
}
