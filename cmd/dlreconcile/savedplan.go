package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/renameio/v2"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// savePlan plans l where it would be applied, by the daemon or else here, and keeps
// what comes of it in a file. It gives the plan that is in there.
func (c *cli) savePlan(ctx context.Context, l *loaded, file string) (*plan.Plan, error) {
	b, err := c.signedPlan(ctx, *l.revision)
	if err != nil {
		return nil, err
	}
	s, err := engine.ReadSavedPlan(b)
	if err != nil {
		return nil, fmt.Errorf("the plan that was made: %w", err)
	}
	if s.Plan.Refused() {
		return s.Plan, nil // it would never be applied
	}
	if err := renameio.WriteFile(file, b, 0o644); err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	return s.Plan, nil
}

// signedPlan gives the bytes of a saved plan's file.
func (c *cli) signedPlan(ctx context.Context, revision string) ([]byte, error) {
	clean, err := c.cleanWorkTree(ctx)
	if err != nil {
		return nil, err
	}
	client, err := c.findDaemon(ctx)
	if err != nil {
		return nil, err
	}
	if client != nil {
		if len(c.settings.varFlags) > 0 {
			return nil, &coded{exitUsage, errors.New("a daemon plans with its own values of variables: give --var to `dlreconcile serve`, or put the value into its daemon.hcl")}
		}
		if c.settings.envFlag {
			return nil, &coded{exitUsage, errors.New("a daemon plans with its own env file: give --env to `dlreconcile serve`, or write env into its daemon.hcl")}
		}
		return client.SavePlan(ctx, api.SavePlanRequest{Revision: revision, WorkTree: clean})
	}
	h, err := c.wire(wireRepo)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	s, err := h.engine.SavePlanOffline(ctx, revision, clean)
	if err != nil {
		return nil, err
	}
	return s.Bytes()
}

// cleanWorkTree reports whether the repo has a work tree here that holds what was
// committed and nothing else.
func (c *cli) cleanWorkTree(ctx context.Context) (bool, error) {
	if c.settings.remote() {
		return false, nil
	}
	dirty, _, err := source.Dirty(ctx, c.settings.Repo, c.settings.Path)
	if errors.Is(err, source.ErrNoWorkTree) {
		return false, nil
	}
	return !dirty, c.ofRepo(err)
}

// readSaved reads the file of a saved plan.
func readSaved(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("the plan: %w: name a file that `dlreconcile plan --out FILE` wrote", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, engine.MaxSavedPlan+1))
	if err != nil {
		return nil, fmt.Errorf("the plan: %w", err)
	}
	return b, nil
}

// checkSaved says why a saved plan cannot be applied, as far as that can be told
// here: whether it is one, and whether files have been edited since. The rest is
// for whoever applies it.
func (c *cli) checkSaved(ctx context.Context, b []byte) error {
	s, err := engine.ReadSavedPlan(b)
	if err != nil {
		return engine.StalePlan("", err.Error(), time.Now())
	}
	if !s.Bound.WorkTree {
		return nil
	}
	clean, err := c.cleanWorkTree(ctx)
	if err != nil {
		return err
	}
	if !clean {
		return engine.StalePlan(s.Bound.Revision, "files of the work tree have been edited since it was made", time.Now())
	}
	return nil
}

// ownUser is who gives orders without a daemon.
func ownUser() store.Actor {
	uid := uint32(os.Getuid())
	return store.Actor{Via: store.ViaCommand, UID: &uid}
}
