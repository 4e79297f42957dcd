package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/schema"
)

// observed is what the digest in Bound is over. It is all that a plan is compared
// with and that an operator who agreed to it relied on. Which machines are up is not
// in it, or every boot would make every saved plan stale: they only are where a
// change takes something from them.
type observed struct {
	Record  string                `json:"record"`  // digest of the base generation's record; "": nothing is served
	Blobs   map[string]string     `json:"blobs"`   // of that generation: stamp by digest
	Built   map[string]builtState `json:"built"`   // by recipe that is wanted
	Impacts []boundImpact         `json:"impacts"` // those that take something away
}

// builtState is what the store has for a recipe.
type builtState struct {
	Artifact string `json:"artifact"` // "": it would have to be built
	Root     string `json:"root"`     // stamps
	Kernel   string `json:"kernel"`
	Initrd   string `json:"initrd"`
}

type boundImpact struct {
	Address schema.Addr `json:"address"`
	plan.Impact
}

// takes reports whether an effect takes something from a machine.
func takes(e plan.Effect) bool { return e == plan.EffectDiscards || e == plan.EffectInterrupts }

// observedDigest tells whether a plan would still be compared with the same.
func (e *Engine) observedDigest(want *schema.Desired, p *plan.Plan) (string, error) {
	content := e.cfg.Store.Content()
	o := observed{Blobs: map[string]string{}, Built: map[string]builtState{}, Impacts: []boundImpact{}}
	if p.BaseGeneration != 0 {
		sum, blobs, err := e.cfg.Store.Digest(p.BaseGeneration)
		if err != nil {
			return "", err
		}
		o.Record = sum
		for _, b := range blobs {
			if b.Digest != "" {
				o.Blobs[b.Digest] = content.Stamp(b)
			}
		}
	}
	stamp := func(b provider.Blob) string {
		if b.Digest == "" {
			return ""
		}
		return content.Stamp(b)
	}
	for _, im := range want.Images {
		var s builtState
		if a, ok := content.Artifact(im.Recipe); ok {
			s = builtState{a.Root.Digest, stamp(a.Root), stamp(a.Kernel), stamp(a.Initrd)}
		}
		o.Built[im.Recipe] = s
	}
	for _, ch := range p.Changes {
		for _, i := range ch.Impact {
			if takes(i.Effect) {
				o.Impacts = append(o.Impacts, boundImpact{ch.Address, i})
			}
		}
	}
	raw, err := json.Marshal(o)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// variablesDigest covers the values that this daemon gives to variables.
func (e *Engine) variablesDigest() (string, error) {
	key, err := e.cfg.Store.HostKey()
	if err != nil {
		return "", err
	}
	vars := e.cfg.Vars
	if vars == nil {
		vars = map[string]string{} // the same as none
	}
	raw, err := json.Marshal(vars) // sorted
	if err != nil {
		return "", err
	}
	return key.Digest(signsVariables, raw), nil
}

// SavePlan plans a revision as Plan does, and binds and signs the plan. workTree is
// kept for the caller; see Bound.
func (e *Engine) SavePlan(ctx context.Context, name string, workTree bool) (*SavedPlan, error) {
	if e.cfg.Source == nil {
		return nil, ErrNoSource
	}
	tip, err := e.cfg.Source.Tip(ctx)
	if err != nil {
		return nil, err
	}
	rev := tip
	if name != "" {
		if rev, err = e.cfg.Source.Resolve(ctx, name); err != nil {
			return nil, err
		}
	}
	want, p, err := e.planOf(ctx, rev)
	if err != nil {
		return nil, err
	}
	s := &SavedPlan{FormatVersion: SavedPlanFormat, Plan: p, Bound: Bound{
		Revision: rev.Hash, Tip: tip.Hash, BaseGeneration: p.BaseGeneration,
		Server: e.cfg.Server, Env: e.cfg.Env, WorkTree: workTree,
	}}
	if s.Bound.Observed, err = e.observedDigest(want, p); err != nil {
		return nil, err
	}
	if s.Bound.Variables, err = e.variablesDigest(); err != nil {
		return nil, err
	}
	key, err := e.cfg.Store.HostKey()
	if err != nil {
		return nil, err
	}
	return s, s.sign(key)
}

// SavePlanOffline is SavePlan in a process that serves nothing. The engine must not
// be running.
func (e *Engine) SavePlanOffline(ctx context.Context, name string, workTree bool) (*SavedPlan, error) {
	if err := e.recall(); err != nil {
		return nil, err
	}
	return e.SavePlan(ctx, name, workTree)
}

// savedJob makes the job of applying a saved plan, or gives a *Failure that says why
// it is not accepted. What must be so still is looked at again when its turn comes.
func (e *Engine) savedJob(ctx context.Context, file []byte) (job, error) {
	s, err := ReadSavedPlan(file)
	if err != nil {
		return job{}, e.stale("", err.Error())
	}
	key, err := e.cfg.Store.HostKey()
	if err != nil {
		return job{}, err
	}
	if err := s.verify(key); err != nil {
		return job{}, e.stale(s.Bound.Revision, err.Error())
	}
	switch {
	case s.Bound.Server != e.cfg.Server:
		return job{}, e.stale(s.Bound.Revision, fmt.Sprintf("it was made for server %q, and this daemon is server %q", s.Bound.Server, e.cfg.Server))
	case s.Bound.Env != e.cfg.Env:
		return job{}, e.stale(s.Bound.Revision, fmt.Sprintf("it was made with env %q, and this daemon has env %q", s.Bound.Env, e.cfg.Env))
	}
	vars, err := e.variablesDigest()
	if err != nil {
		return job{}, err
	}
	if vars != s.Bound.Variables {
		return job{}, e.stale(s.Bound.Revision, "it was made with other values of variables")
	}
	if err := e.expectBase(s.Bound.Revision, s.Bound.BaseGeneration); err != nil {
		return job{}, err
	}
	j, err := e.applyJob(ctx, s.Bound.Revision, true)
	switch {
	case errors.Is(err, source.ErrNoRef):
		return job{}, e.stale(s.Bound.Revision, "the repo does not have its commit any more")
	case err != nil:
		return job{}, err
	case j.tip != s.Bound.Tip:
		return job{}, e.stale(s.Bound.Revision, fmt.Sprintf("the tracked ref was at %s then, and is at %s now", short(s.Bound.Tip), short(j.tip)))
	}
	j.saved, j.expect = s, &s.Bound.BaseGeneration
	return j, nil
}

// unchanged says why what would be done now is not what was saved; nil when it is.
func (a *attempt) unchanged(want *schema.Desired) error {
	s := a.j.saved
	if s == nil {
		return nil
	}
	now, err := a.observedDigest(want, a.plan)
	if err != nil {
		return err
	}
	if now != s.Bound.Observed {
		return a.stale(s.Bound.Revision, "what it was compared with has changed since: a file of what is served or was built is missing, damaged or new, or another machine would lose something")
	}
	then, err := canonical(essence(s.Plan))
	if err != nil {
		return err
	}
	again, err := canonical(essence(a.plan))
	if err != nil {
		return err
	}
	if string(then) != string(again) {
		return a.stale(s.Bound.Revision, "what would be done now is not what it says")
	}
	return nil
}

// essence is what of a plan must be the same still. What a change means for machines
// may differ, where it takes nothing from them: they boot and go away meanwhile.
func essence(p *plan.Plan) *plan.Plan {
	out := *p
	out.Warnings = nil
	out.Changes = slices.Clone(p.Changes)
	for i := range out.Changes {
		ch := &out.Changes[i]
		ch.Impact = slices.DeleteFunc(slices.Clone(ch.Impact), func(i plan.Impact) bool { return !takes(i.Effect) })
	}
	return &out
}

// stale makes the Failure of a saved plan, or of an order that was bound to a
// generation.
func (e *Engine) stale(revision, why string) *Failure {
	return StalePlan(revision, why, e.now())
}

// StalePlan is the Failure of a plan that is not accepted: because it is not of what
// is so now, or because it is not what this host wrote.
func StalePlan(revision, why string, at time.Time) *Failure {
	return &Failure{
		Revision: revision, Stage: PhaseLoading, Reason: ReasonStale, At: at,
		Message: "the plan is stale: " + why + "; plan again",
	}
}

// expectBase compares what is served with what a plan was made against.
func (e *Engine) expectBase(revision string, base uint64) error {
	have := e.Generation()
	if have == base {
		return nil
	}
	return e.stale(revision, fmt.Sprintf("it was made against generation %d, but generation %d is served", base, have))
}
