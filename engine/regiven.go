package engine

import (
	"maps"
	"slices"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// base gives what plan.Compute compares with; nil when that is nothing.
func (e *Engine) base(a *applied) *plan.Applied {
	if a == nil {
		return nil
	}
	if len(a.record.GivenDigests) > 0 {
		// Without the key nobody can tell, and the next generation fails on it.
		if key, err := e.cfg.Store.HostKey(); err == nil {
			return Base(a.record, a.desired, e.cfg.Server, key, e.options())
		}
	}
	return Applied(a.record, a.desired)
}

// Base is Applied where values of sensitive variables, which no record has, may be
// others now than those that rec was made with. own was loaded from rec with the values
// that they have now, in opts. With other values, what a plan is compared with is loaded
// again with a stand-in for each of them, so that all that uses one differs. A variable
// for which that cannot be done, because it is no text or is held to a form, is only
// named.
func Base(rec *store.Record, own *schema.Desired, server string, key *store.HostKey, opts schema.Options) *plan.Applied {
	changed := rec.Regiven(key, opts.Vars)
	if len(changed) == 0 {
		return Applied(rec, own)
	}
	opts.Vars, opts.Cache = maps.Clone(opts.Vars), nil // what is cached is for the values that are so
	for _, name := range changed {
		opts.Vars[name] = rec.GivenDigests[name]
	}
	before, followed := own, false
	if whole, diags := store.Load(rec, opts); !diags.HasErrors() {
		if then, err := Own(whole, server); err == nil {
			before, followed = sameRecipes(rec, then), true
		}
	}
	a := Applied(rec, before)
	for _, name := range changed {
		a.Variables = append(a.Variables, plan.VariableChange{Name: name, Followed: followed})
	}
	return a
}

// sameRecipes gives images the recipes that they were recorded with, instead of those of
// the stand-ins. d is changed.
func sameRecipes(rec *store.Record, d *schema.Desired) *schema.Desired {
	for i, im := range d.Images {
		art, ok := rec.Images[im.Addr]
		if _, same := rec.Artifacts[im.Recipe]; same || !ok {
			continue
		}
		var of []string
		for recipe, other := range rec.Artifacts {
			if other.Root.Digest == art.Root.Digest {
				of = append(of, recipe)
			}
		}
		if len(of) > 0 {
			was := *im
			was.Recipe = slices.Min(of)
			d.Images[i] = &was
		}
	}
	return d
}
