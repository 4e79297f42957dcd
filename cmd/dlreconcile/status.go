package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

func (c *cli) statusCommand() *cobra.Command {
	var observed bool
	var wait waitFor
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what is served, and if it is not the newest commit, why",
		Long: `status asks the daemon what it serves, which commit it has seen, and, when a commit
was refused, the reason with its place in the configuration.

It ends with the conditions: Ready (what is served is what is wanted; never while a
commit is refused), Synced (the newest commit is what is served), SourceReachable,
Trusted and Healthy, each with its reason and since when it is so. With --wait it
prints the status once a condition holds, or the time is over.

Exit codes: 0 asked (whatever the answer), 1 the time was over before the condition
held, 5 no daemon.`,
		Example: "  dlreconcile status\n  dlreconcile status --json\n  dlreconcile status --wait Synced --timeout 5m\n  dlreconcile status --wait SourceReachable=false\n  dlreconcile status --observed >observed.json",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.needDaemon(cmd.Context())
			if err != nil {
				return err
			}
			if observed {
				var o engine.Observed
				if err := client.Get(cmd.Context(), "/v1/observed", nil, &o); err != nil {
					return err
				}
				return c.printJSON(o)
			}
			s, reached, err := wait.status(cmd.Context(), client)
			if err != nil {
				return err
			}
			if c.json {
				err = c.printJSON(s)
			} else {
				printStatus(c.out, &s)
				var disks []provider.Overlay
				if err = client.Get(cmd.Context(), "/v1/overlays", nil, &disks); err == nil {
					printFull(c.out, disks)
				}
			}
			if err == nil && !reached {
				fmt.Fprintf(c.err, "dlreconcile: %s did not become %v within %s\n", wait.kind, wait.want, wait.limit)
				err = &silent{exitError}
			}
			return err
		},
	}
	cmd.Flags().Var(&wait, "wait", "wait until `CONDITION` holds, or does not with =false at its end")
	cmd.Flags().DurationVar(&wait.limit, "timeout", time.Minute, "how long --wait waits, as a `DURATION` such as 30s or 5m")
	cmd.Flags().BoolVar(&observed, "observed", false, "print, as JSON, everything that a plan is compared with (see plan --observed)")
	return cmd
}

func printStatus(w io.Writer, s *engine.Status) {
	if s.Generation == 0 {
		fmt.Fprintln(w, "Serving     nothing yet")
	} else {
		fmt.Fprintf(w, "Serving     generation %d, revision %s %s\n", s.Generation, short(s.Revision), s.Subject)
	}
	if s.Tip != "" {
		fmt.Fprintf(w, "Newest      %s %s\n", short(s.Tip), s.TipSubject)
	}
	if s.Attempt != "" {
		fmt.Fprintf(w, "Working on  %s: %s\n", short(s.Attempt), s.Phase)
		for _, p := range s.Progress {
			fmt.Fprintf(w, "            %s: %s: %s\n", p.Addr, p.Step, clean(p.Text))
		}
	}
	if s.Held != nil {
		fmt.Fprintf(w, "Held        %s; %s until a newer commit or `dlreconcile release`\n", s.Held.Reason, skipped(s.Held))
	}
	printWaiting(w, s.Waiting)
	printOrders(w, s)
	if s.RepoError != "" {
		fmt.Fprintf(w, "Repo        %s\n", clean(s.RepoError))
		fmt.Fprintf(w, "            It cannot be read since %s; what is served is served on.\n", s.RepoSince.Local().Format(time.DateTime))
	}
	if s.ServeError != "" {
		fmt.Fprintf(w, "Trouble     %s\n", clean(s.ServeError))
	}
	if s.Uncollected != "" {
		fmt.Fprintf(w, "Trouble     %s\n", clean(s.Uncollected))
	}
	for _, what := range s.Unwatched {
		fmt.Fprintf(w, "Unwatched   %s\n", clean(what))
	}
	for _, d := range s.Drift {
		fmt.Fprintf(w, "Drift       %s\n", clean(d.Message))
	}
	if f := s.Failure; f != nil {
		fmt.Fprintf(w, "Refused     %s (%s, while %s)\n", short(f.Revision), f.Reason, f.Stage)
		for _, line := range reasons(f) {
			fmt.Fprintf(w, "            %s\n", line)
		}
		switch _, listed := s.InQuarantine(f.Revision); {
		case f.Retry && !f.NextTry.IsZero():
			fmt.Fprintf(w, "            It is tried again by itself at %s (%s).\n", f.NextTry.Local().Format(time.DateTime), f.Cause)
		case f.Retry:
			fmt.Fprintln(w, "            It is tried again by itself.")
		case listed:
			fmt.Fprintln(w, "            It is quarantined until a newer commit or `dlreconcile release`.")
		}
	}
	printQuarantine(w, s)
	for _, cond := range s.Conditions {
		since := ""
		if !cond.LastTransition.IsZero() {
			since = " since " + cond.LastTransition.Local().Format(time.DateTime)
		}
		fmt.Fprintf(w, "%-18s%v (%s)%s\n", cond.Type, cond.Status, cond.Reason, since)
	}
}

// nearLimit reports whether an overlay holds nearly all that it may.
func nearLimit(o provider.Overlay) bool { return o.Limit > 0 && o.Bytes >= o.Limit/10*9 }

// printFull names the machines whose overlays hold nearly all that they may.
func printFull(w io.Writer, disks []provider.Overlay) {
	for _, o := range disks {
		if nearLimit(o) {
			fmt.Fprintf(w, "Disk        %s holds %s of %s over %s: `dlreconcile image diff %[1]s`\n", o.Machine, amount(o.Bytes), amount(o.Limit), o.Export)
		}
	}
}

// printQuarantine names what is not tried by itself, but for the newest commit, which is
// told above: the newest few.
func printQuarantine(w io.Writer, s *engine.Status) {
	const shown = 3
	n := 0
	for _, q := range slices.Backward(s.Quarantined) {
		if s.Failure != nil && s.Failure.Revision == q.Revision {
			continue
		}
		if n++; n <= shown {
			fmt.Fprintf(w, "Quarantine  %s (%s) since %s\n", short(q.Revision), q.Reason, q.Since.Local().Format(time.DateTime))
		}
	}
	if n > shown {
		fmt.Fprintf(w, "            and %d more: see --json\n", n-shown)
	}
}

// printOrders says what operators want left as it is, or tried.
func printOrders(w io.Writer, s *engine.Status) {
	because := func(o store.Suspension) string {
		text := " since " + o.Since.Local().Format(time.DateTime)
		if o.Reason != "" {
			text += ": " + clean(o.Reason)
		}
		return text
	}
	if s.Suspended != nil {
		fmt.Fprintf(w, "Suspended   commits wait until `dlreconcile resume`,%s\n", because(*s.Suspended))
	}
	for _, host := range slices.Sorted(maps.Keys(s.SuspendedHosts)) {
		fmt.Fprintf(w, "Suspended   %s stays on generation %d%s\n", host, s.SuspendedHosts[host].Generation, because(s.SuspendedHosts[host]))
	}
	if t := s.Try; t != nil {
		fmt.Fprintf(w, "On trial    generation %d, until about %s; `dlreconcile confirm` keeps it, else generation %d is served again\n",
			t.Generation, t.Deadline.Local().Format(time.DateTime), t.Back)
	}
}

// printWaiting says what a revision waits for, and how not to.
func printWaiting(out io.Writer, w *engine.Waiting) {
	if w == nil {
		return
	}
	fmt.Fprintf(out, "Waiting     %s for %s: %s\n", short(w.Revision), w.For, clean(w.Message))
	if !w.Until.IsZero() {
		fmt.Fprintf(out, "            until %s\n", w.Until.Format(time.RFC3339))
	}
	if at := w.Range.String(); at != "" {
		fmt.Fprintf(out, "            The policy is at %s.\n", at)
	}
	fmt.Fprintf(out, "            `%s` applies it now.\n", w.Command)
}
