package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine/store"
)

func (c *cli) auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who changed what, and check that the log of it is whole",
		Long: `The audit log has a line for each attempt to change what is served and for each order
of an operator's. Each line carries the hash of the one before, and how far the log has
come is signed with the host key: what is edited, inserted, moved or cut off shows.

Both commands read the state directory, with or without a daemon.`,
		Example: "  dlreconcile audit show --since 24h\n  dlreconcile audit verify",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.json {
				return &coded{exitUsage, errors.New("name a command of audit: show or verify")}
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(c.auditShowCommand(), c.auditVerifyCommand())
	return cmd
}

func (c *cli) auditShowCommand() *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "List the lines of the audit log",
		Long: `show lists the lines of the audit log, oldest first. It does not check them: verify
does.

Exit codes: 0 listed, 5 no state directory.`,
		Example: "  dlreconcile audit show\n  dlreconcile audit show --since 2026-11-01T00:00:00Z --json",
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			from, err := sinceTime(since, time.Now())
			if err != nil {
				return err
			}
			st, err := c.records()
			if err != nil {
				return err
			}
			list := []store.AuditEntry{}
			if err := st.EachAudit(func(e store.AuditEntry) error {
				if !e.Time.Before(from) {
					list = append(list, e)
				}
				return nil
			}); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(list)
			}
			return c.printAudit(list)
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "leave out what is older than a `TIME`: 24h, or 2026-11-01T12:00:00Z")
	return cmd
}

// sinceTime reads a time, or how long ago it was; "" is the beginning.
func sinceTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly, time.DateTime} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, &coded{exitUsage, fmt.Errorf("--since %q: want a duration such as 24h, a day such as 2026-11-01, or a time such as 2026-11-01T12:00:00Z", text)}
}

// records opens the state directory for reading.
func (c *cli) records() (*store.Store, error) {
	if err := c.here(); err != nil {
		return nil, err
	}
	st, err := store.OpenReadOnly(c.settings.State)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &coded{exitLocked, fmt.Errorf("there is no state directory %s: name it with --state", c.settings.State)}
	}
	return st, err
}

func (c *cli) printAudit(list []store.AuditEntry) error {
	if len(list) == 0 {
		fmt.Fprintln(c.out, "Nothing is in the log.")
		return nil
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tWHO\tTRIGGER\tREVISION\tGENERATION\tRESULT\tWHAT")
	for _, e := range list {
		result := e.Result
		if e.Reason != "" {
			result += " (" + e.Reason + ")"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", e.Time.Local().Format(time.DateTime), actorText(e.Who), e.Trigger, short(e.Revision), e.Generation, result, auditText(&e))
	}
	return w.Flush()
}

// actorText names who gave an order.
func actorText(a store.Actor) string {
	if a.Name != "" {
		return a.Via + " " + a.Name
	}
	switch {
	case a.Name != "":
		return clean(a.Name)
	case a.UID != nil:
		return fmt.Sprintf("uid %d", *a.UID)
	}
	return a.Via
}

// auditText says in a few words what a line is about.
func auditText(e *store.AuditEntry) string {
	var parts []string
	if n := len(e.Changes); n == 1 {
		parts = append(parts, fmt.Sprintf("%s %s", e.Changes[0].Action, e.Changes[0].Address))
	} else if n > 1 {
		parts = append(parts, fmt.Sprintf("%d changes", n))
	}
	if len(e.Hosts) > 0 {
		parts = append(parts, strings.Join(e.Hosts, ", "))
	}
	if len(e.Overrides) > 0 {
		parts = append(parts, "overrides "+strings.Join(e.Overrides, ", "))
	}
	if line, _, _ := strings.Cut(e.Message, "\n"); line != "" {
		parts = append(parts, line)
	}
	const most = 120
	text := []rune(clean(strings.Join(parts, "; ")))
	if len(text) > most {
		text = append(text[:most-1], '…')
	}
	return string(text)
}

func (c *cli) auditVerifyCommand() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that nothing was edited in, or cut off, the audit log",
		Long: `verify reads the audit log from its first line on: each line must be what was written,
and follow the one before; and the log must reach as far as audit.head, which the host
key signed, says. It names the first line that is wrong.

Who can read host.key can sign anything. With --key, the public key that ` + "`status --json`" + `
gave as host_key and that was noted elsewhere, another key in its place is found too.

Exit codes: 0 the log is whole, 1 it is not, 5 no state directory.`,
		Example: "  dlreconcile audit verify\n  dlreconcile audit verify --key ed25519:…",
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			st, err := c.records()
			if err != nil {
				return err
			}
			r, err := st.VerifyAudit(key)
			if err != nil {
				return err
			}
			if c.json {
				if err := c.printJSON(r); err != nil {
					return err
				}
			}
			switch {
			case r.Wrong != nil && c.json:
				return &silent{exitError}
			case r.Wrong != nil:
				return r.Wrong
			case c.json:
				return nil
			}
			fmt.Fprintf(c.out, "The audit log is whole: %d chained lines.\n", r.Lines)
			if r.Attested > 0 {
				fmt.Fprintf(c.out, "%d bytes are no chained lines: of before the chain, or cut off by a power cut. Later lines vouch for them.\n", r.Attested)
			}
			if r.Unsigned > 0 {
				fmt.Fprintf(c.out, "Not signed yet, as a process ended before it could: the last %d.\n", r.Unsigned)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "public `KEY` that must have signed (default: of host.key)")
	return cmd
}
