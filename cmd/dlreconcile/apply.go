package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/plan"
)

// applyFlags are the flags and the argument of the apply command.
type applyFlags struct {
	rev     string
	approve bool
	planned *plan.Plan // nil: no plan was kept
}

func (c *cli) applyCommand() *cobra.Command {
	var o applyFlags
	cmd := &cobra.Command{
		Use:   "apply [PLAN]",
		Short: "Plan a revision and bring it about",
		Long: `apply prints the plan and brings it about, exactly that or nothing. With a daemon it
is applied live. Without one, images are built and the generation is recorded, and the
next ` + "`dlreconcile serve`" + ` starts on it.

A revision that is not the tip of the tracked ref holds the ref there: the tip is
skipped until a newer commit or ` + "`dlreconcile release`" + `.

On a terminal it asks first, unless --auto-approve is given. With the file of a plan
that ` + "`dlreconcile plan --out FILE`" + ` kept, it does what that says, without asking, or
exits 4 because something else was applied meanwhile.

Exit codes: 0 applied or nothing to do, 1 failed (nothing changed), 3 invalid
configuration, 4 stale plan, 5 the state directory is locked.`,
		Example: "  dlreconcile apply\n  dlreconcile apply --rev v1.2 --auto-approve\n  dlreconcile apply new.plan",
		Args:    atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if o.rev != "" {
					return &coded{exitUsage, errors.New("a kept plan says its revision itself: leave --rev out")}
				}
				p, err := readPlan(args[0])
				if err != nil {
					return err
				}
				o.planned, o.rev = p, *p.Revision
			}
			return c.apply(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.rev, "rev", "", "`COMMIT`, branch or tag to apply (default: the tip of the tracked ref)")
	f.BoolVar(&o.approve, "auto-approve", false, "do not ask")
	return cmd
}

func (c *cli) apply(ctx context.Context, o applyFlags) error {
	client, err := c.findDaemon(ctx)
	if err != nil {
		return err
	}
	if client != nil {
		return c.applyLive(ctx, client, o)
	}
	c.settings.enclose()
	h, err := c.wire(wireRepo)
	if err != nil {
		return err
	}
	defer h.Close()
	if o.planned != nil {
		// Nothing to do would be told without a look at the plan.
		if cur, ok, err := h.store.Current(); err != nil {
			return err
		} else if ok && cur.Number != o.planned.BaseGeneration {
			return c.outcome(ctx, engine.Outcome{Generation: cur.Number, Revision: cur.Revision, Failure: staleBase(o.planned, cur.Number)}, false)
		}
	}
	out, err := h.engine.ApplyOffline(ctx, o.rev, func(p *plan.Plan) error { return c.approve(ctx, p, o) }, c.progressLine())
	if err != nil {
		return err
	}
	return c.outcome(ctx, out, false)
}

// staleBase is what stale says when another generation is served.
func staleBase(planned *plan.Plan, served uint64) *engine.Failure {
	var f *engine.Failure
	errors.As(stale(planned, &plan.Plan{BaseGeneration: served}), &f)
	return f
}

// applyLive asks the daemon. What is planned here is bound to the generation it
// was planned against, so the daemon applies this plan or refuses.
func (c *cli) applyLive(ctx context.Context, client *api.Client, o applyFlags) error {
	if len(c.settings.varFlags) > 0 {
		return &coded{exitUsage, errors.New("a daemon applies with its own values of variables: give --var to `dlreconcile serve`, or put the value into its daemon.hcl")}
	}
	if c.settings.envFlag {
		return &coded{exitUsage, errors.New("a daemon applies with its own env file: give --env to `dlreconcile serve`, or write env into its daemon.hcl")}
	}
	req := api.ApplyRequest{Revision: o.rev}
	if o.planned != nil || !o.approve && isTerminal(c.in) {
		var p plan.Plan
		if err := client.Get(ctx, "/v1/plan", query("revision", o.rev), &p); err != nil {
			return err
		}
		if err := c.approve(ctx, &p, o); err != nil {
			var f *engine.Failure
			if errors.As(err, &f) {
				return c.outcome(ctx, engine.Outcome{Generation: p.BaseGeneration, Failure: f}, true)
			}
			return err
		}
		req.Generation = &p.BaseGeneration
		if p.Revision != nil {
			req.Revision = *p.Revision
		}
	}
	out, err := client.Change(ctx, "/v1/apply", req, c.followStatus())
	if err != nil {
		return goesOn(ctx, err)
	}
	return c.outcome(ctx, out, true)
}

// goesOn says what an interrupt of a command that waits for the daemon means.
func goesOn(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return errors.New("interrupted while waiting: the daemon goes on with it; see `dlreconcile status`")
}

// approve lets pass what was planned before. Else it asks on a terminal, and lets
// everything else pass.
func (c *cli) approve(ctx context.Context, p *plan.Plan, o applyFlags) error {
	if o.planned != nil {
		return stale(o.planned, p)
	}
	if o.approve || !isTerminal(c.in) || len(p.Changes) == 0 {
		return nil
	}
	if err := p.Text(c.err, plan.TextOptions{Color: c.color(c.err), Width: columns(c.err)}); err != nil {
		return err
	}
	return c.confirm(ctx, "Apply this?")
}
