package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// planFlags are the flags of the plan command.
type planFlags struct {
	rev, observed, out string
	targets            []string
	detailed, markdown bool
}

func (c *cli) planCommand() *cobra.Command {
	var o planFlags
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what would change, why, and for which machines",
		Long: `plan compares the configuration with what is served, and prints every change with
its reason and what it means for which machines, warnings of what would be applied
and not work for somebody, and what the policy in force denies or waits for. It changes
nothing.

It compares with --observed FILE if given, else with what the daemon serves, else
with the state directory, else with nothing. It reads the files of the work tree,
committed or not; with --rev, or from a bare or remote repo, those of a commit.

--out FILE keeps the plan of a commit for ` + "`dlreconcile apply FILE`" + `, which does
exactly that or refuses. It is signed where it is to be applied: by the daemon, or
else with the key of the state directory.

--markdown prints it for a comment on a pull request. --target ADDRESS, which may be
given several times, shows that resource, block or module and what it needs only; it is
for looking, and such a plan cannot be kept.

Exit codes: 0 planned, 1 failed, 2 changes pending (only with --detailed-exitcode),
3 invalid configuration, or one that apply is known to refuse, 6 denied by the policy.`,
		Example: `  dlreconcile plan
  dlreconcile plan --rev main --json
  dlreconcile plan --detailed-exitcode --no-color
  dlreconcile plan --rev "$COMMIT" --markdown | gh pr comment --body-file -
  dlreconcile plan --target 'host.ws["ws02"]' --target module.rack
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
	f.StringArrayVar(&o.targets, "target", nil, "show only this `ADDRESS` and what it needs; may be repeated")
	f.BoolVar(&o.markdown, "markdown", false, "print the plan as Markdown, for a pull request")
	f.BoolVar(&o.detailed, "detailed-exitcode", false, "exit 2 when there are changes")
	return cmd
}

func (c *cli) plan(ctx context.Context, o planFlags) error {
	targets, err := o.check(c.json)
	if err != nil {
		return err
	}
	l, err := c.loadInto(ctx, &loaded{gone: func() bool {
		seen, err := c.observed(ctx, o.observed)
		return err == nil && seen.Record != nil
	}}, o.rev)
	if err != nil {
		return err
	}
	defer l.Close()
	if o.out != "" && o.observed != "" {
		return &coded{exitUsage, errors.New("--out keeps a plan of what is served here, and --observed looks at something else: leave one of them out")}
	}
	if o.out != "" && l.revision == nil {
		return errors.New("the work tree has changes that are not committed, and only a commit can be applied: commit, or plan without --out")
	}
	var p *plan.Plan
	if o.out != "" {
		p, err = c.savePlan(ctx, l, o.out)
	} else {
		p, err = c.compute(ctx, l, o.observed, targets)
	}
	if err != nil {
		return err
	}
	if len(l.edits.Files) > 0 {
		// On stderr even with --json: a plan's document has its schema.
		fmt.Fprintf(c.err, "Note: %s part of this plan, so it is of no commit (its revision is null). Only what is committed is applied: commit to apply it.\n", editsText(l.edits))
	}
	keep := o.out != "" && !p.Refused()
	print := c.printPlan
	if o.markdown {
		print = func(p *plan.Plan) error { return p.Markdown(c.out, plan.MarkdownOptions{}) }
	}
	if err := print(p); err != nil {
		return err
	}
	if !c.json && !o.markdown && o.observed == "" {
		c.noteDrift(ctx)
	}
	if keep && !c.json && !o.markdown {
		fmt.Fprintf(c.out, "\nKept in %s: `dlreconcile apply %s` does exactly this.\n", o.out, o.out)
	}
	if p.Refused() {
		return &silent{exitInvalid} // printed with the plan
	}
	if len(p.Denied) > 0 {
		return &silent{exitDenied}
	}
	if o.detailed && p.Pending() {
		return &silent{exitPending}
	}
	return nil
}

// check refuses flags that do not go together, and reads the targets.
func (o *planFlags) check(json bool) ([]schema.Addr, error) {
	if o.markdown && json {
		return nil, &coded{exitUsage, errors.New("--markdown and --json are two forms of the plan: name one")}
	}
	if len(o.targets) > 0 && o.out != "" {
		return nil, &coded{exitUsage, errors.New("a plan with --target is for looking, and cannot be kept: leave --target or --out away")}
	}
	var targets []schema.Addr
	for _, text := range o.targets {
		a, err := schema.ParseAddr(text)
		if err != nil || a.IsZero() {
			return nil, &coded{exitUsage, fmt.Errorf("--target %q is not the address of a resource, such as image.arch, host.ws[\"ws02\"] or module.rack", text)}
		}
		targets = append(targets, a)
	}
	slices.SortFunc(targets, schema.Addr.Compare)
	return slices.Compact(targets), nil
}

// compute plans l against what is observed.
func (c *cli) compute(ctx context.Context, l *loaded, file string, targets []schema.Addr) (*plan.Plan, error) {
	o, err := c.observed(ctx, file)
	if err != nil {
		return nil, err
	}
	in := plan.Input{Revision: l.revision, Want: l.own, Built: o.Built, Kernels: o.Kernels, Observations: o.Observations, Targets: targets}
	if o.Record != nil {
		own, err := c.recorded(&o)
		if err != nil {
			return nil, err
		}
		in.Applied = c.base(o.Record, own)
	}
	there := func(a schema.Addr) bool {
		return plan.Matches(in.Want, a) || in.Applied != nil && plan.Matches(in.Applied.Desired, a)
	}
	for i, a := range targets {
		if there(a) {
			continue
		}
		// As a reference in a file has it: there, a key's ${ is written $${.
		targets[i].Key = strings.NewReplacer("$${", "${", "%%{", "%{").Replace(a.Key)
		if !there(targets[i]) {
			return nil, &coded{exitUsage, fmt.Errorf("--target %s: neither the configuration nor what is served has it: name an address as `dlreconcile plan` prints it", a)}
		}
	}
	return plan.Compute(in), nil
}

// base gives what a plan is compared with. Whether sensitive variables had other values
// can be told where the key of the state directory can be read.
func (c *cli) base(rec *store.Record, own *schema.Desired) *plan.Applied {
	if len(rec.GivenDigests) > 0 {
		if st, err := store.OpenReadOnly(c.settings.State); err == nil {
			if key, err := st.HostKey(); err == nil {
				return engine.Base(rec, own, c.settings.Server, key, c.options())
			}
		}
	}
	return engine.Applied(rec, own)
}

// recorded gives this server's part of the desired state that o's record holds. Its
// errors are no diagnostics: they speak of other files than the ones at hand.
func (c *cli) recorded(o *engine.Observed) (*schema.Desired, error) {
	whole, diags := store.Load(o.Record, c.options())
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
