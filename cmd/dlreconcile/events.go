package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine/node"
	"github.com/dlreconcile/dlreconcile/engine/provider"
)

func (c *cli) eventsCommand() *cobra.Command {
	var since uint64
	var follow bool
	var kinds []string
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happens: commits, applies, and machines that boot",
		Long: `events prints what the daemon remembers of what happened, oldest first: what became of
commits and orders, and what machines asked for. With --follow it goes on until it is
interrupted, and says when it missed something.

Each event has a number. --since gives what came after one, over breaks of the
connection and restarts of the daemon. With --json it prints an array, and with --follow
one object per line.

Exit codes: 0 shown, 5 no daemon, 64 no such kind.`,
		Example: "  dlreconcile events\n  dlreconcile events --follow --kind 'commit.*,applied'\n  dlreconcile events --follow --json --since 1763841600000123",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, k := range kinds {
				if err := provider.CheckEventPattern(k); err != nil {
					return &coded{exitUsage, fmt.Errorf("--kind: %w", err)}
				}
			}
			client, err := c.needDaemon(cmd.Context())
			if err != nil {
				return err
			}
			q := url.Values{"since": {fmt.Sprint(since)}, "follow": {fmt.Sprint(follow)}}
			list := []json.RawMessage{}
			err = client.Lines(cmd.Context(), "/v1/events", q, func(raw json.RawMessage) error {
				var l node.Logged
				if err := json.Unmarshal(raw, &l); err != nil {
					return fmt.Errorf("the daemon's answer: %w", err)
				}
				switch {
				case !wanted(l.Kind, kinds):
				case !c.json:
					fmt.Fprintln(c.out, eventText(&l))
				case follow:
					fmt.Fprintln(c.out, string(raw))
				default:
					list = append(list, raw)
				}
				return nil
			})
			switch {
			case err != nil && cmd.Context().Err() != nil && follow:
				return nil
			case err != nil:
				return err
			case follow:
				return errors.New("the daemon has ended")
			case c.json:
				return c.printJSON(list)
			}
			return nil
		},
	}
	cmd.Flags().Uint64Var(&since, "since", 0, "only what came after the event with this `NUMBER`")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on as things happen")
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "only events of these `KINDS`, such as applied or commit.*")
	return cmd
}

// wanted reports whether a kind is among patterns; none want all. A gap is always
// told.
func wanted(kind provider.EventKind, patterns []string) bool {
	if len(patterns) == 0 || kind == provider.NoteGap {
		return true
	}
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, string(kind))
		return ok
	})
}

// eventText gives an event as one line.
func eventText(l *node.Logged) string {
	var parts []string
	add := func(format string, arg any) {
		if text := fmt.Sprint(arg); text != "" && text != "0" && text != "invalid IP" {
			parts = append(parts, fmt.Sprintf(format, text))
		}
	}
	if n := l.Note; n != nil {
		switch {
		case n.Kind == provider.NoteGap && n.Missed > 0:
			add("%s events are forgotten", n.Missed)
		case n.Kind == provider.NoteGap:
			add("%s", "events before this are forgotten")
		}
		add("%s", short(n.Revision))
		add("%s", n.Subject)
		add("generation %s", n.Generation)
		if n.Status != nil {
			add("%s", fmt.Sprintf("%s is %v", n.Condition, *n.Status))
		}
		add("by %s", n.Trigger)
		add("(%s)", n.Reason)
		if ch := n.Changes; ch != nil {
			add("%s", fmt.Sprintf("%d created, %d updated, %d replaced, %d deleted", ch.Create, ch.Update, ch.Replace, ch.Delete))
		}
		add("%s", n.Address.String())
		add("%s", strings.Join(n.Hosts, ", "))
		line, _, _ := strings.Cut(n.Message, "\n")
		add("%s", line)
	} else {
		if !l.MAC.IsZero() {
			add("%s", l.MAC)
		}
		add("%s", l.Host.String())
		add("%s", l.Addr)
		add("generation %s", l.Generation)
		add("%s", l.Name)
		add("%s bytes", l.Bytes)
		add("%s", l.Err)
	}
	const clock = "2006-01-02 15:04:05.000"
	return fmt.Sprintf("%s  %-17s %s", l.At.Local().Format(clock), l.Kind, clean(strings.Join(parts, "  ")))
}
