package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// planFlags are the flags of the plan command.
type planFlags struct {
	rev, observed, out string
	detailed           bool
}

func (c *cli) planCommand() *cobra.Command {
	var o planFlags
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what would change, why, and for which machines",
		Long: `plan compares the configuration with what is served, and prints every change with
its reason and what it means for which machines, and warnings of what would be applied
and not work for somebody. It changes nothing.

It compares with --observed FILE if given, else with what the daemon serves, else
with the state directory, else with nothing. It reads the files of the work tree,
committed or not; with --rev, or from a bare or remote repo, those of a commit.

--out FILE keeps the plan of a commit for ` + "`dlreconcile apply FILE`" + `, which does
exactly that or refuses.

Exit codes: 0 planned, 1 failed, 2 changes pending (only with --detailed-exitcode),
3 invalid configuration, or one that apply is known to refuse.`,
		Example: `  dlreconcile plan
  dlreconcile plan --rev main --json
  dlreconcile plan --detailed-exitcode --no-color
  dlreconcile plan --out new.plan && dlreconcile apply new.plan`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.plan(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.rev, "rev", "", "`COMMIT`, branch or tag to plan (default: the work tree)")
	f.StringVar(&o.observed, "observed", "", "compare with this `FILE`, as \"dlreconcile status --observed\" writes it")
	f.StringVar(&o.out, "out", "", "keep the plan in this `FILE`, for \"dlreconcile apply FILE\"")
	f.BoolVar(&o.detailed, "detailed-exitcode", false, "exit 2 when there are changes")
	return cmd
}

func (c *cli) plan(ctx context.Context, o planFlags) error {
	l, err := c.load(ctx, o.rev)
	if err != nil {
		return err
	}
	defer l.Close()
	if o.out != "" && l.revision == nil {
		return errors.New("the work tree has changes that are not committed, and only a commit can be applied: commit, or plan without --out")
	}
	p, err := c.compute(ctx, l, o.observed)
	if err != nil {
		return err
	}
	keep := o.out != "" && !p.Refused()
	if keep {
		if err := savePlan(o.out, p); err != nil {
			return err
		}
	}
	if err := c.printPlan(p); err != nil {
		return err
	}
	if keep && !c.json {
		fmt.Fprintf(c.out, "\nKept in %s: `dlreconcile apply %s` does exactly this.\n", o.out, o.out)
	}
	if p.Refused() {
		return &silent{exitInvalid} // printed with the plan
	}
	if o.detailed && len(p.Changes) > 0 {
		return &silent{exitPending}
	}
	return nil
}

// compute plans l against what is observed.
func (c *cli) compute(ctx context.Context, l *loaded, file string) (*plan.Plan, error) {
	o, err := c.observed(ctx, file)
	if err != nil {
		return nil, err
	}
	in := plan.Input{Revision: l.revision, Want: l.own, Built: o.Built, Kernels: o.Kernels, Observations: o.Observations}
	if o.Record != nil {
		own, err := c.recorded(&o)
		if err != nil {
			return nil, err
		}
		in.Applied = engine.Applied(o.Record, own)
	}
	return plan.Compute(in), nil
}

// recorded gives this server's part of the desired state that o's record holds. Its
// errors are no diagnostics: they speak of other files than the ones at hand.
func (c *cli) recorded(o *engine.Observed) (*schema.Desired, error) {
	whole, diags := store.Load(o.Record, c.settings.Vars)
	if diags.HasErrors() {
		return nil, fmt.Errorf("generation %d, which is served, cannot be read again from its record: %s", o.Record.Number, diags.Error())
	}
	own, err := engine.Own(whole, c.settings.Server)
	if err != nil {
		return nil, fmt.Errorf("generation %d, which is served: %s", o.Record.Number, err.Error())
	}
	return own, nil
}

// observed finds what the plan is compared with.
func (c *cli) observed(ctx context.Context, file string) (engine.Observed, error) {
	var o engine.Observed
	if file != "" {
		return readObserved(file)
	}
	client, err := c.findDaemon(ctx)
	if err != nil {
		return o, err
	}
	if client != nil {
		return o, client.Get(ctx, "/v1/observed", nil, &o)
	}
	st, err := store.OpenReadOnly(c.settings.State)
	if errors.Is(err, fs.ErrNotExist) {
		return o, nil // never served here: everything is to be created
	}
	if err != nil {
		return o, err
	}
	rec, ok, err := st.Current()
	if err != nil {
		return o, err
	}
	if ok {
		o.Record = rec
	}
	if o.Built, err = st.Content().Built(); err != nil {
		return o, err
	}
	o.Kernels, err = st.Content().Kernels()
	return o, err
}

// readObserved reads what `status --observed` wrote, or only its list of
// observations.
func readObserved(file string) (engine.Observed, error) {
	var o engine.Observed
	b, err := os.ReadFile(file)
	if err != nil {
		return o, fmt.Errorf("--observed: %w", err)
	}
	seen, err := plan.ReadObserved(bytes.NewReader(b))
	if err == nil && bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		err = json.Unmarshal(b, &o)
	}
	if err != nil {
		return o, &coded{exitInvalid, fmt.Errorf("--observed %s: %w: want what `dlreconcile status --observed` writes", file, err)}
	}
	o.Observations = seen
	return o, nil
}

func (c *cli) printPlan(p *plan.Plan) error {
	if c.json {
		b, err := p.JSON()
		if err != nil {
			return err
		}
		_, err = c.out.Write(b)
		return err
	}
	return p.Text(c.out, plan.TextOptions{Color: c.color(c.out), Width: columns(c.out)})
}
