package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

func (c *cli) driftCommand() *cobra.Command {
	var detailed bool
	cmd := &cobra.Command{
		Use:   "drift",
		Short: "Show what is not as it was published: files, listeners, other DHCP servers",
		Long: `drift looks whether what machines meet is still what was published, and says what is
not, and whether it is put right by itself. It changes nothing: the daemon heals by
itself, whether anybody looks or not.

The daemon looks at the files of the content store (missing, changed), at its own
listeners (lost), and asks on each subnet whether somebody else answers DHCP, which
takes four seconds. Without a daemon the files of the state directory are read
through, and nothing else is known.

Exit codes: 0 looked, 1 failed, 2 there is drift (only with --detailed-exitcode),
5 no daemon and no state directory.`,
		Example: "  dlreconcile drift\n  dlreconcile drift --json\n  dlreconcile drift --detailed-exitcode",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, whole, err := c.drift(cmd.Context())
			if err != nil {
				return err
			}
			if c.json {
				err = c.printJSON(list)
			} else {
				printDrift(c.out, list, whole)
			}
			if err == nil && detailed && len(list) > 0 {
				err = &silent{exitPending}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit 2 when there is drift")
	return cmd
}

// drift asks the daemon, or else looks at the state directory; whole says which.
func (c *cli) drift(ctx context.Context) (list []provider.Drift, whole bool, err error) {
	list = []provider.Drift{}
	client, err := c.findDaemon(ctx)
	if err != nil {
		return nil, false, err
	}
	if client != nil {
		return list, true, client.Get(ctx, "/v1/drift", nil, &list)
	}
	st, err := store.OpenReadOnly(c.settings.State)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("%w on %s, and there is no state directory %s: name it with --state", api.ErrNoDaemon, c.settings.Socket, c.settings.State)
	}
	if err != nil {
		return nil, false, err
	}
	found, err := engine.StoreDrift(ctx, st)
	return append(list, found...), false, err
}

func printDrift(w io.Writer, list []provider.Drift, whole bool) {
	if len(list) == 0 {
		if whole {
			fmt.Fprintln(w, "No drift: what is served is what was published.")
		} else {
			fmt.Fprintln(w, "No drift among the files of the state directory. No daemon is running.")
		}
		return
	}
	for _, d := range list {
		fmt.Fprintf(w, "%-14s %s\n", d.Kind, clean(d.Message))
		if !d.Address.IsZero() {
			at := d.Range.String()
			if at != "" {
				at = "  " + at
			}
			fmt.Fprintf(w, "  %s%s\n", d.Address, at)
		}
		if !d.Since.IsZero() {
			fmt.Fprintf(w, "  since %s\n", d.Since.Local().Format(time.DateTime))
		}
		if len(d.Machines) > 0 {
			fmt.Fprintf(w, "  concerns %s\n", clean(strings.Join(d.Machines, ", ")))
		}
		word := "It does not heal by itself"
		if d.Heals {
			word = "It heals by itself"
		}
		if d.How != "" {
			word += ": " + clean(d.How)
		}
		fmt.Fprintf(w, "  %s.\n", strings.TrimSuffix(word, "."))
	}
}

// noteDrift says below a plan that something else is wrong too.
func (c *cli) noteDrift(ctx context.Context) {
	client, err := c.findDaemon(ctx)
	if err != nil || client == nil {
		return // a plan needs no daemon
	}
	s, err := client.Status(ctx, 0)
	if err != nil || len(s.Drift) == 0 {
		return
	}
	fmt.Fprintf(c.out, "\nNote: what is served has drifted (%d): %s. `dlreconcile drift` shows all of it.\n", len(s.Drift), clean(s.Drift[0].Message))
}
