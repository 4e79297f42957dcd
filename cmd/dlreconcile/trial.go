package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/api"
)

func (c *cli) confirmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "confirm [GENERATION]",
		Short: "Keep the generation that is served on trial",
		Long: `confirm keeps what ` + "`dlreconcile apply --try`" + ` serves on trial; without it the generation
before is served again. With a number, that generation must be the one on trial.

Exit codes: 0 confirmed, 1 failed, 4 nothing, or another generation, is on trial,
5 no daemon.`,
		Example: "  dlreconcile confirm\n  dlreconcile confirm 12",
		Args:    atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			var req api.ConfirmRequest
			if len(args) == 1 {
				n, err := strconv.ParseUint(args[0], 10, 64)
				if err != nil || n == 0 {
					return &coded{exitUsage, fmt.Errorf("generation %q: want a number of `dlreconcile history`", args[0])}
				}
				req.Generation = n
			} else if client, err := c.needDaemon(cmd.Context()); err != nil {
				return err
			} else if s, err := client.Status(cmd.Context(), 0); err != nil {
				return err
			} else if s.Try != nil { // and not one that begins meanwhile
				req.Generation = s.Try.Generation
			}
			return c.order(cmd.Context(), "/v1/confirm", req, "Confirmed: what was on trial is kept.")
		},
	}
}

// trialGrace is how long past a trial's end a daemon may be away before it is given up:
// one that is started again goes back at once.
const trialGrace = 30 * time.Second

// onTrial prints what came of an apply, and waits for the end of the trial.
func (c *cli) onTrial(ctx context.Context, client *api.Client, out engine.Outcome) error {
	trial := out.Try
	if trial == nil {
		if err := c.outcome(ctx, out, true); err != nil || c.json {
			return err
		}
		fmt.Fprintln(c.out, "Nothing has changed, so there is nothing to try.")
		return nil
	}
	if !c.json {
		if err := c.outcome(ctx, out, true); err != nil {
			return err
		}
	}
	how := "`dlreconcile confirm`"
	if isTerminal(c.in) {
		how = "Enter, or " + how + ","
	}
	fmt.Fprintf(c.err, "On trial until %s: %s keeps it. Else generation %d is served again.\n", trial.Deadline.Local().Format(time.TimeOnly), how, trial.Back)
	tried, s, err := c.awaitTrial(ctx, client, out)
	if err != nil {
		return err
	}
	switch tried {
	case engine.TriedReverted:
		out.Generation, out.Revision, out.Held, out.Try = s.Generation, s.Revision, s.Held, nil
		out.Failure = &engine.Failure{
			Revision: trial.Revision, Stage: engine.PhaseIdle, Reason: engine.ReasonReverted, At: s.Tried.At,
			Message: fmt.Sprintf("nobody confirmed generation %d in time: generation %d, revision %s, is served", trial.Generation, s.Generation, short(s.Revision)),
		}
		if c.json {
			return c.outcome(ctx, out, true)
		}
		fmt.Fprintf(c.err, "Reverted: %s. Revision %s is quarantined until a newer commit or `dlreconcile release`.\n", out.Failure.Message, short(trial.Revision))
		return &silent{exitReverted}
	case engine.TriedReplaced:
		fmt.Fprintf(c.err, "The trial has ended: generation %d was applied in its place.\n", s.Generation)
	default:
		fmt.Fprintf(c.err, "Confirmed: generation %d is kept.\n", trial.Generation)
	}
	if out.Try = nil; c.json {
		return c.outcome(ctx, out, true)
	}
	return nil
}

// awaitTrial waits until a trial has ended, and gives how, with the status then. On a
// terminal Enter confirms it.
func (c *cli) awaitTrial(ctx context.Context, client *api.Client, out engine.Outcome) (string, engine.Status, error) {
	trial := out.Try
	tty, _ := c.in.(*os.File)
	if !isTerminal(c.in) {
		tty = nil
	}
	for {
		s, err := client.Status(ctx, 0)
		switch {
		case ctx.Err() != nil:
			return "", s, fmt.Errorf("interrupted: generation %d is on trial until %s all the same; `dlreconcile confirm` keeps it", trial.Generation, trial.Deadline.Local().Format(time.TimeOnly))
		case err != nil && time.Now().After(trial.Deadline.Add(trialGrace)):
			return "", s, errors.Join(errors.New("the daemon is away, and its trial is over: when it is started, it goes back first"), err)
		case err != nil: // it is being started again
		case s.Tried != nil && s.Tried.Generation == trial.Generation && s.Phase != engine.PhaseStarting:
			return s.Tried.Result, s, nil
		}
		if pressed(tty) {
			if _, err := client.Change(ctx, "/v1/confirm", api.ConfirmRequest{Generation: trial.Generation}, nil); err != nil {
				return "", s, err
			}
		}
	}
}

// pressed waits a moment, and reports whether Enter was pressed on the terminal
// meanwhile. Without one it only waits.
func pressed(tty *os.File) bool {
	const moment = 200 // milliseconds
	var fds []unix.PollFd
	if tty != nil {
		fds = []unix.PollFd{{Fd: int32(tty.Fd()), Events: unix.POLLIN}}
	}
	n, err := unix.Poll(fds, moment)
	if err != nil || n == 0 {
		return false
	}
	line := make([]byte, 256)
	n, err = tty.Read(line) // a terminal gives whole lines
	return err == nil && n > 0
}
