package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

func (c *cli) historyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "history",
		Short: "List the recorded generations",
		Long: `history lists the generations that are kept, newest last. Each of them can be served
again, without the repo and without a build, by ` + "`dlreconcile rollback GENERATION`" + `.

It asks the daemon, and reads the state directory when there is none.

Exit codes: 0 listed, 5 neither a daemon nor a state directory.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := c.history(cmd.Context())
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(list)
			}
			if len(list) == 0 {
				fmt.Fprintln(c.out, "Nothing has been applied.")
				return nil
			}
			w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "GENERATION\tREVISION\tRECORDED\tBY\tSUBJECT")
			for _, h := range list {
				mark := ""
				if h.Current {
					mark = " *"
				}
				by := h.Trigger
				if h.RolledBackTo != 0 {
					by = fmt.Sprintf("%s to %d", h.Trigger, h.RolledBackTo)
				}
				fmt.Fprintf(w, "%d%s\t%s\t%s\t%s\t%s\n", h.Generation, mark, short(h.Revision), h.Created.Local().Format(time.DateTime), by, h.Subject)
			}
			return w.Flush()
		},
	}
}

// history asks the daemon, or reads the state directory when there is none.
func (c *cli) history(ctx context.Context) ([]api.HistoryEntry, error) {
	client, err := c.findDaemon(ctx)
	if err != nil {
		return nil, err
	}
	if client != nil {
		list := []api.HistoryEntry{}
		return list, client.Get(ctx, "/v1/history", nil, &list)
	}
	st, err := store.OpenReadOnly(c.settings.State)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w on %s, and there is no state directory %s: name it with --state", api.ErrNoDaemon, c.settings.Socket, c.settings.State)
	}
	if err != nil {
		return nil, err
	}
	return api.History(st)
}
