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
			return interrupted(ctx, err, goesOn)
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
		Use:   "release [REVISION]",
		Short: "Try again what is held or was refused",
		Long: `release gives up what holds the tracked ref: a rollback, a revision applied by hand,
or the refusal of its newest commit. That is planned and applied again; it does not wait
for that.

A commit that was refused, because it is wrong, denied or not trusted, or that was tried
and not confirmed, is quarantined: it is not tried by itself any more, and stays so over
restarts. With a REVISION (a hash, its beginning, a branch or a tag) that one alone is let
out. ` + "`dlreconcile status`" + ` lists them.

Exit codes: 0 released, 1 nothing is known against that revision, 5 no daemon.`,
		Example: "  dlreconcile release\n  dlreconcile release 3f2a9c1d",
		Args:    atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			var req api.ReleaseRequest
			text := "Released: the newest commit is followed again."
			if len(args) == 1 {
				req.Revision = args[0]
				text = "Released: nothing is held against revision " + args[0] + " any more."
			}
			return c.order(cmd.Context(), "/v1/release", req, text+" `dlreconcile status` shows what comes of it.")
		},
	}
}

// order has the daemon do something that concerns no generation, and prints text when
// it is done.
func (c *cli) order(ctx context.Context, path string, body any, text string) error {
	client, err := c.needDaemon(ctx)
	if err != nil {
		return err
	}
	out, err := client.Change(ctx, path, body, nil)
	if err != nil {
		return interrupted(ctx, err, goesOn)
	}
	if c.json {
		return c.outcome(ctx, out, true)
	}
	if f := out.Failure; f != nil {
		fmt.Fprintf(c.err, "Nothing was changed: %s.\n", f.Message)
		return &silent{exitCode(f)}
	}
	fmt.Fprintln(c.out, text)
	return nil
}
