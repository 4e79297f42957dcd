package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine/api"
)

func (c *cli) rollbackCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rollback [GENERATION]",
		Short: "Serve an earlier generation again",
		Long: `rollback serves a recorded generation again, by default the one before the present
one, from the local store: no repo, no build. The commit that was followed is then
skipped until a newer one comes, or until ` + "`dlreconcile release`" + `.

Running machines keep what they have until they reboot. Without a daemon the
generation is recorded, and the next ` + "`dlreconcile serve`" + ` starts on it.

Exit codes: 0 gone back, 1 failed, 5 neither a daemon nor a state directory, or
another process holds it.`,
		Example: "  dlreconcile rollback\n  dlreconcile rollback 7",
		Args:    atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			var number uint64
			if len(args) == 1 {
				n, err := strconv.ParseUint(args[0], 10, 64)
				if err != nil || n == 0 {
					return &coded{exitUsage, fmt.Errorf("generation %q: want a number of `dlreconcile history`", args[0])}
				}
				number = n
			}
			return c.rollback(cmd.Context(), number)
		},
	}
}

// rollback goes back to a generation; 0 is the one before the present one.
func (c *cli) rollback(ctx context.Context, number uint64) error {
	client, err := c.findDaemon(ctx)
	if err != nil {
		return err
	}
	if client != nil {
		out, err := client.Change(ctx, "/v1/rollback", api.RollbackRequest{Generation: number}, c.followStatus())
		if err != nil {
			return goesOn(ctx, err)
		}
		return c.outcome(ctx, out, true)
	}
	if _, err := os.Stat(c.settings.State); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w on %s, and there is no state directory %s: name it with --state", api.ErrNoDaemon, c.settings.Socket, c.settings.State)
	}
	h, err := c.wire(wireRecords)
	if err != nil {
		return err
	}
	defer h.Close()
	out, err := h.engine.RollbackOffline(ctx, number, ownUser(), c.progressLine())
	if err != nil {
		return err
	}
	return c.outcome(ctx, out, false)
}

func (c *cli) releaseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "release",
		Short: "Follow the newest commit again after a rollback",
		Long: `release gives up what holds the tracked ref: a rollback, a revision applied by hand,
or a refusal. The newest commit is planned and applied again; it does not wait for that.

Exit codes: 0 released, 5 no daemon.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			client, err := c.needDaemon(ctx)
			if err != nil {
				return err
			}
			out, err := client.Change(ctx, "/v1/release", nil, nil)
			if err != nil {
				return goesOn(ctx, err)
			}
			if c.json || out.Failure != nil {
				return c.outcome(ctx, out, true)
			}
			fmt.Fprintln(c.out, "Released: the newest commit is followed again. `dlreconcile status` shows what comes of it.")
			return nil
		},
	}
}
