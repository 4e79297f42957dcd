package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/schema"
)

// outcome prints what came of a change, and gives the error for the exit code.
// live says whether a daemon did it, so that it is served already.
func (c *cli) outcome(ctx context.Context, out engine.Outcome, live bool) error {
	if c.json {
		if err := c.printJSON(noted{out, c.notices}); err != nil {
			return err
		}
	}
	if f := out.Failure; f != nil {
		if !c.json {
			c.printFailure(ctx, f)
		}
		return &silent{exitCode(f)}
	}
	if c.json {
		return nil
	}
	if out.Plan != nil {
		if err := c.printPlan(out.Plan); err != nil {
			return err
		}
	}
	switch {
	case out.Generation == 0:
	case live:
		fmt.Fprintf(c.out, "\nGeneration %d serves revision %s.\n", out.Generation, short(out.Revision))
	default:
		fmt.Fprintf(c.out, "\nGeneration %d, revision %s, is recorded: `dlreconcile serve` starts on it.\n", out.Generation, short(out.Revision))
	}
	if h := out.Held; h != nil {
		fmt.Fprintf(c.out, "Held: %s. %s until a newer commit or `dlreconcile release`.\n", h.Reason, skipped(h))
	}
	return nil
}

// skipped names what a hold holds. It may not be known: the repo was away.
func skipped(h *engine.Hold) string {
	if h.Revision == "" {
		return "The newest commit is skipped"
	}
	return "Revision " + short(h.Revision) + " is skipped"
}

func (c *cli) printFailure(ctx context.Context, f *engine.Failure) {
	switch {
	case f.Reason == engine.ReasonCancelled && ctx.Err() != nil:
		fmt.Fprintf(c.err, "Interrupted while %s; nothing was changed.\n", f.Stage)
		return
	case f.Reason == engine.ReasonCancelled, f.Reason == engine.ReasonStale:
		fmt.Fprintf(c.err, "Not applied: %s.\n", f.Message)
		return
	}
	switch {
	case f.Cause == engine.CauseSuspended:
		fmt.Fprintf(c.err, "Not applied: %s. What was served is served on.\n", f.Message)
		return
	case f.Reason == engine.ReasonDenied:
		fmt.Fprintln(c.err, "Not applied: the policy does not let it through. What was served is served on.")
	default:
		fmt.Fprintf(c.err, "Not applied (%s, while %s); what was served is served on.\n", f.Reason, f.Stage)
	}
	for _, line := range reasons(f) {
		fmt.Fprintln(c.err, line)
	}
	if f.Retry {
		fmt.Fprintln(c.err, "A daemon that follows the repo tries again by itself.")
	}
}

// reasons gives the diagnostics of a failure with their source lines, or its
// message, as lines.
func reasons(f *engine.Failure) []string {
	if len(f.Diagnostics) == 0 {
		return strings.Split(strings.TrimSpace(f.Message), "\n")
	}
	var lines []string
	for _, d := range f.Diagnostics {
		lines = append(lines, diagnosticLines(d)...)
	}
	return lines
}

// diagnosticLines gives a diagnostic as lines: what, and where.
func diagnosticLines(d schema.Diagnostic) []string {
	lines := strings.Split(strings.TrimSpace(d.String()), "\n")
	if source := strings.TrimSpace(d.Source); source != "" {
		lines = append(lines, fmt.Sprintf("  %d | %s", d.Range.Line, clean(source)))
	}
	return lines
}

// clean replaces what a terminal would act on. Text of a repo, or of a program that
// builds an image, is not to be trusted with one.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

func short(hash string) string { return hash[:min(12, len(hash))] }
