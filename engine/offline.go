package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// ApplyOffline does what Apply does in a process that serves nothing: everything
// is prepared and checked, the generation is recorded, and the sockets are given
// back. The next Run starts on it. approve, when not nil, is shown the plan first;
// its error is a Failure with ReasonCancelled. The engine must not be running.
func (e *Engine) ApplyOffline(ctx context.Context, o Order, approve func(*plan.Plan) error, progress func(provider.Progress)) (Outcome, error) {
	if o.Try != 0 {
		return Outcome{}, errors.New("a trial needs a daemon: nobody else would go back")
	}
	if err := e.recall(); err != nil {
		return Outcome{}, err
	}
	j, err := e.orderJob(ctx, o)
	if err != nil {
		return e.refusal(err)
	}
	j.approve, j.offline = approve, true
	return e.runOffline(ctx, j, progress), nil
}

// RollbackOffline is Rollback in a process that serves nothing.
func (e *Engine) RollbackOffline(ctx context.Context, number uint64, by store.Actor, progress func(provider.Progress)) (Outcome, error) {
	if err := e.recall(); err != nil {
		return Outcome{}, err
	}
	j, err := e.rollbackJob(number)
	if err != nil {
		return Outcome{}, err
	}
	j.offline, j.by = true, by
	return e.runOffline(ctx, j, progress), nil
}

func (e *Engine) runOffline(ctx context.Context, j job, progress func(provider.Progress)) Outcome {
	e.report = progress
	e.update(func(s *Status) { s.Attempt = j.rev.Hash })
	return e.attempt(ctx, j).settle()
}

// recall reads what is recorded, without serving it.
func (e *Engine) recall() error {
	rec, ok, err := e.cfg.Store.Current()
	if err == nil {
		err = e.mendAudit() // also when nothing was ever recorded
	}
	if err != nil || !ok {
		return err
	}
	whole, diags := store.Load(rec, e.options())
	if diags.HasErrors() {
		return fmt.Errorf("generation %d as it was recorded: %w", rec.Number, diags)
	}
	own, err := Own(whole, e.cfg.Server)
	if err != nil {
		return err
	}
	if err := e.remember(); err != nil {
		return err
	}
	e.update(func(s *Status) { e.publish(s, rec, own) })
	return nil
}

// Plan says what applying a revision would do now. name "" is the tip.
func (e *Engine) Plan(ctx context.Context, name string) (*plan.Plan, error) {
	if e.cfg.Source == nil {
		return nil, ErrNoSource
	}
	rev, err := e.revision(ctx, name)
	if err != nil {
		return nil, err
	}
	_, p, err := e.planOf(ctx, rev)
	return p, err
}

// planOf gives this server's part of a revision, and what applying it would do now.
func (e *Engine) planOf(ctx context.Context, rev source.Revision) (*schema.Desired, *plan.Plan, error) {
	_, want, err := e.load(ctx, rev)
	if err != nil {
		return nil, nil, err
	}
	obs, err := e.observe(ctx)
	if err != nil {
		return nil, nil, err
	}
	return want, e.compare(rev.Hash, want, nil, obs), nil
}

// Build builds the images that a revision needs and nothing else: afterwards
// applying it needs no build. It gives the artifact by image.
func (e *Engine) Build(ctx context.Context, name string, progress func(provider.Progress)) (map[schema.Addr]provider.Artifact, error) {
	if e.cfg.Source == nil {
		return nil, ErrNoSource
	}
	rev, err := e.revision(ctx, name)
	if err != nil {
		return nil, err
	}
	tree, want, err := e.load(ctx, rev)
	if err != nil {
		return nil, err
	}
	// What is built is kept by its recipe, so nothing may be left out of it.
	if diags := unserved(want, "image"); diags.HasErrors() {
		return nil, diags
	}
	unpin := e.cfg.Store.Content().Pin()
	defer unpin()
	// Images stand first, and need nothing of the providers after them.
	t, err := e.prepare(ctx, e.cfg.Providers[:1], provider.Input{Want: want, Files: tree, Progress: progress})
	if err != nil {
		return nil, err
	}
	defer t.abort()
	built := map[schema.Addr]provider.Artifact{}
	for addr, o := range t.built {
		if o.Artifact != nil {
			built[addr] = *o.Artifact
		}
	}
	return built, nil
}

// revision finds the commit that name stands for; "" is the tip.
func (e *Engine) revision(ctx context.Context, name string) (source.Revision, error) {
	if name == "" {
		return e.cfg.Source.Tip(ctx)
	}
	return e.cfg.Source.Resolve(ctx, name)
}

// options is what this daemon gives to every revision.
func (e *Engine) options() schema.Options {
	return schema.Options{Vars: e.cfg.Vars, Env: e.cfg.Env, Open: e.cfg.Open, Cache: &e.cache}
}

// load reads this server's part of a revision.
func (e *Engine) load(ctx context.Context, rev source.Revision) (fs.FS, *schema.Desired, error) {
	tree, _, err := e.tree(ctx, rev)
	if err != nil {
		return nil, nil, err
	}
	whole, diags := schema.Load(tree, e.options())
	if !diags.HasErrors() {
		diags = UnknownZones(&whole.Policy)
	}
	if diags.HasErrors() {
		return nil, nil, diags
	}
	own, err := Own(whole, e.cfg.Server)
	return tree, own, err
}

// tree gives the files of a revision. A folder that is gone from it is a folder
// without files, once something is served: that everything was removed is for the
// policy to judge, with missing as the reason. Before that it is a mistake in the
// daemon's own settings.
func (e *Engine) tree(ctx context.Context, rev source.Revision) (tree fs.FS, missing, err error) {
	tree, err = e.cfg.Source.Tree(ctx, rev)
	if errors.Is(err, source.ErrNoPath) && e.current() != nil {
		return store.Files{}.FS(), err, nil
	}
	return tree, nil, err
}
