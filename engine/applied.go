package engine

import (
	"fmt"
	"maps"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// applied is the current generation in memory.
type applied struct {
	record  *store.Record
	desired *schema.Desired // this server's part
}

// Applied makes of a record, and this server's part of the desired state it
// holds, what plan.Compute compares with.
func Applied(rec *store.Record, own *schema.Desired) *plan.Applied {
	m := make(map[string]string, len(rec.Artifacts))
	for recipe, art := range recorded(rec, own) {
		m[recipe] = art.Root.Digest
	}
	return &plan.Applied{Generation: rec.Number, Revision: rec.Revision, Desired: own, Artifacts: m}
}

// recorded gives, by the recipes that own has now, the artifacts that rec was
// applied with. A later version of this program may work a recipe out differently;
// what the generation serves stays what it was.
func recorded(rec *store.Record, own *schema.Desired) map[string]provider.Artifact {
	m := maps.Clone(rec.Artifacts)
	if m == nil {
		m = map[string]provider.Artifact{}
	}
	for _, im := range own.Images {
		if a, ok := rec.Images[im.Addr]; ok {
			m[im.Recipe] = a
		}
	}
	return m
}

// compare says what serving want would change. recorded holds the artifacts, by
// recipe, that want's own record names.
func (e *Engine) compare(revision string, want *schema.Desired, recorded map[string]provider.Artifact, obs []plan.Observation) *plan.Plan {
	return e.compareWith(e.current(), revision, want, recorded, obs)
}

// compareWith is compare with another base than what is served.
func (e *Engine) compareWith(base *applied, revision string, want *schema.Desired, recorded map[string]provider.Artifact, obs []plan.Observation) *plan.Plan {
	built, kernels := builtFor(want, e.cfg.Store.Content(), recorded)
	return plan.Compute(plan.Input{
		Revision:     &revision,
		Want:         want,
		Applied:      e.base(base),
		Built:        built,
		Kernels:      kernels,
		Observations: obs,
	})
}

// builtFor gives the artifacts that need no build, and what plans want to know of
// their kernels.
func builtFor(d *schema.Desired, c *store.Content, recorded map[string]provider.Artifact) (map[string]string, map[string]plan.Kernel) {
	built, kernels := map[string]string{}, map[string]plan.Kernel{}
	for _, im := range d.Images {
		a, ok := recorded[im.Recipe]
		if !ok {
			a, ok = c.Artifact(im.Recipe)
		}
		if ok {
			built[im.Recipe], kernels[im.Recipe] = a.Root.Digest, store.KernelOf(a)
		}
	}
	return built, kernels
}

// bases lists the base archives that rebuilding d's images would want.
func bases(d *schema.Desired) []string {
	var list []string
	for _, im := range d.Images {
		list = append(list, im.BaseRecipe)
	}
	return list
}

// refuse names, with their ranges, what no provider serves.
func (e *Engine) refuse(d *schema.Desired) hcl.Diagnostics {
	served := map[string]bool{}
	for _, p := range e.cfg.Providers {
		for _, k := range p.Kinds() {
			served[k] = true
		}
	}
	var diags hcl.Diagnostics
	diags = append(diags, unserved(d, "")...)
	for _, r := range d.Resources {
		if served[r.Addr.Kind] || served[r.Addr.Kind+"."+r.Addr.Type] {
			continue
		}
		diags = append(diags, &hcl.Diagnostic{
			Severity: hcl.DiagError,
			Summary:  fmt.Sprintf("Nothing here serves %s", r.Addr),
			Detail:   "The language knows this kind of block, but this version of dlreconcile has no provider for it. Remove the block, or use a version that has.",
			Subject:  new(r.Range.HCL()),
		})
	}
	return diags
}

// unserved names, with their ranges, what of a kind no provider serves yet; of all
// kinds when kind is "".
func unserved(d *schema.Desired, kind string) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, u := range d.Unserved() {
		if kind == "" || u.Addr.Kind == kind {
			diags = append(diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: u.Summary, Detail: u.Detail, Subject: new(u.Range.HCL())})
		}
	}
	return diags
}
