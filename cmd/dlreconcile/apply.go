package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/plan"
)

// applyFlags are the flags and the argument of the apply command.
type applyFlags struct {
	rev       string
	approve   bool
	overrides []string
	try       time.Duration // 0: for good
	saved     []byte        // the file of a saved plan; nil: none was named
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
exits 4 because that is not what would be done now: something else was applied
meanwhile, the ref has another commit, a file was edited or is damaged.

What is applied by hand is approved by that. The other rules of the policy that is
served count here too, and --override passes those that are named.

With --try 60s it is served on trial: unless it is confirmed by then, what was served
before is served again, also when the daemon or the machine dies meanwhile, and the
revision is quarantined. The command waits for the end of that. On a terminal Enter
confirms; anywhere, ` + "`dlreconcile confirm`" + ` does.

Exit codes: 0 applied or nothing to do, 1 failed (nothing changed), 3 invalid
configuration, 4 stale plan, 5 the state directory is locked, 6 denied: by the policy,
for want of trust, or because all is suspended, 7 applied on trial, and then reverted.`,
		Example: "  dlreconcile apply\n  dlreconcile apply --try 60s\n  dlreconcile apply --rev v1.2 --auto-approve\n  dlreconcile apply new.plan\n  dlreconcile apply --override max_delete",
		Args:    atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := engine.CheckOverrides(o.overrides); err != nil {
				return &coded{exitUsage, fmt.Errorf("--override: %w", err)}
			}
			if cmd.Flags().Changed("try") && o.try == 0 {
				return &coded{exitUsage, errors.New("--try: a trial of no time would never be one: name a duration such as 60s, or leave it out")}
			}
			if err := engine.CheckTry(o.try); err != nil {
				return &coded{exitUsage, fmt.Errorf("--try: %w", err)}
			}
			if len(args) == 1 {
				if o.rev != "" {
					return &coded{exitUsage, errors.New("a kept plan says its revision itself: leave --rev out")}
				}
				var err error
				if o.saved, err = readSaved(args[0]); err != nil {
					return err
				}
			}
			return c.apply(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.rev, "rev", "", "`COMMIT`, branch or tag to apply (default: the tip of the tracked ref)")
	f.DurationVar(&o.try, "try", 0, "serve it on trial, for a `DURATION` such as 60s or 5m, and go back unless it is confirmed")
	f.BoolVar(&o.approve, "auto-approve", false, "do not ask")
	f.StringSliceVar(&o.overrides, "override", nil, "`RULES` of the policy to pass, with commas between: max_delete, allow_empty, window")
	return cmd
}

func (c *cli) apply(ctx context.Context, o applyFlags) error {
	client, err := c.findDaemon(ctx)
	if err != nil {
		return err
	}
	c.settings.enclose()
	if o.saved != nil {
		if err := c.checkSaved(ctx, o.saved); err != nil {
			if f := new(engine.Failure); errors.As(err, &f) {
				return c.outcome(ctx, engine.Outcome{Failure: f}, client != nil)
			}
			return err
		}
	}
	if o.rev == "" && o.saved == nil && (c.settings.repoGiven || client == nil) {
		c.noteEdits(ctx, "")
	}
	if client != nil {
		return c.applyLive(ctx, client, o)
	}
	if o.try != 0 {
		_, err := c.needDaemon(ctx) // nobody else would go back
		return err
	}
	h, err := c.wire(wireRepo)
	if err != nil {
		return err
	}
	defer h.Close()
	order := engine.Order{Revision: o.rev, Saved: o.saved, Overrides: o.overrides, By: ownUser()}
	out, err := h.engine.ApplyOffline(ctx, order, func(p *plan.Plan) error { return c.approve(ctx, p, o) }, c.progressLine())
	if err != nil {
		return err
	}
	return c.outcome(ctx, out, false)
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
	req := api.ApplyRequest{Revision: o.rev, Saved: o.saved, Overrides: o.overrides}
	if o.try != 0 {
		req.Try = o.try.String()
	}
	change := client.Change
	if c.asks(o) {
		var p plan.Plan
		if err := client.Get(ctx, "/v1/plan", query("revision", o.rev), &p); err != nil {
			return err
		}
		if err := c.approve(ctx, &p, o); err != nil {
			return err
		}
		req.Generation = &p.BaseGeneration
		change = func(ctx context.Context, path string, body any, progress func(engine.Status)) (engine.Outcome, error) {
			return client.ChangeOf(ctx, p.BaseGeneration, path, body, progress)
		}
		if p.Revision != nil {
			req.Revision, req.Tip = *p.Revision, o.rev == ""
		}
	}
	out, err := change(ctx, "/v1/apply", req, c.followStatus())
	if err != nil {
		return interrupted(ctx, err, goesOn)
	}
	if o.rev == "" && o.saved == nil && !c.settings.repoGiven {
		c.noteEdits(ctx, out.Revision)
	}
	if o.try != 0 && out.Failure == nil {
		return c.onTrial(ctx, client, out)
	}
	return c.outcome(ctx, out, true)
}

// asks reports whether the operator is asked: on a terminal, and not about a plan
// that was kept.
func (c *cli) asks(o applyFlags) bool { return o.saved == nil && !o.approve && isTerminal(c.in) }

// approve shows a plan and asks, where an operator is there to be asked. Nobody is
// asked about what the policy will deny: the order is given, and the denial is told.
func (c *cli) approve(ctx context.Context, p *plan.Plan, o applyFlags) error {
	denied := slices.ContainsFunc(p.Denied, func(d plan.Denial) bool { return !slices.Contains(o.overrides, string(d.Rule)) })
	if !c.asks(o) || !p.Pending() || denied {
		return nil
	}
	if err := p.Text(c.err, plan.TextOptions{Color: c.color(c.err), Width: columns(c.err)}); err != nil {
		return err
	}
	return c.confirm(ctx, "Apply this?")
}
