package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// oneMachine is the argument of the commands about a machine's disk.
func oneMachine(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &coded{exitUsage, errors.New("name one machine, by hardware address, address or host: `dlreconcile nodes` lists them")}
	}
	return nil
}

func (c *cli) imageDiffCommand() *cobra.Command {
	var export string
	var files bool
	cmd := &cobra.Command{
		Use:   "diff HOST",
		Short: "Show what a machine changed on its disk",
		Long: `diff shows the overlays that are kept of a machine: how much of the image each changed,
since when, and whether the machine has it attached. With --json the ranges are listed.

With --files it shows which paths were added, changed and removed. The daemon copies the
disk for that, as after a power cut at one moment, and mounts the copy, so it must run as
root, and has to have the room; a disk in use that has changed much is refused. What
fails is said of the disk that it is about, and the others are shown.

Exit codes: 0 asked, 1 failed (of one disk, too) or nothing is kept of that machine, 5 no daemon, 6 denied.`,
		Example: "  dlreconcile image diff render01\n  dlreconcile image diff 52:54:00:00:00:01 --files\n  dlreconcile image diff render01 --export arch --json",
		Args:    oneMachine,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.needDaemon(cmd.Context())
			if err != nil {
				return err
			}
			q := url.Values{"machine": args, "export": {export}, "files": {fmt.Sprint(files)}}
			var list []provider.OverlayDiff
			if err := client.Get(cmd.Context(), "/v1/overlays/diff", q, &list); err != nil {
				return err
			}
			if c.json {
				return errors.Join(c.printJSON(list), failedDiffs(list))
			}
			for i, d := range list {
				if i > 0 {
					fmt.Fprintln(c.out)
				}
				printDiff(c.out, d)
			}
			return failedDiffs(list)
		},
	}
	cmd.Flags().BoolVar(&files, "files", false, "show which paths changed")
	exportFlag(cmd, &export)
	return cmd
}

func exportFlag(cmd *cobra.Command, export *string) {
	cmd.Flags().StringVar(export, "export", "", "only what was written over the export of that `NAME`")
}

// failedDiffs names the disks of which not all is known that was asked for.
func failedDiffs(list []provider.OverlayDiff) error {
	var names []string
	for _, d := range list {
		if d.Failed != "" {
			names = append(names, wireName(d.Overlay)+" of "+whose(d.Overlay))
		}
	}
	if names == nil {
		return nil
	}
	return fmt.Errorf("not all is known of %s: what failed is said with it", strings.Join(names, ", "))
}

// wireName spells an export as a client does: with the boot that a disk over it is of, which
// tells the disks of two boots apart.
func wireName(o provider.Overlay) string {
	if o.Boot == "" {
		return o.Export
	}
	return o.Export + "+" + o.Boot
}

func printDiff(w io.Writer, d provider.OverlayDiff) {
	printOverlay(w, d.Overlay)
	if d.Refused {
		return
	}
	if d.Unreadable != "" {
		fmt.Fprintf(w, "  holds     %s\n", amount(d.Bytes))
		return
	}
	changed := fmt.Sprintf("%s of %s in %d pieces, which take %s", amount(d.Blocks*4096), mib(d.Size), d.Pieces, amount(d.Bytes))
	if d.Limit > 0 {
		changed += " of the " + amount(d.Limit) + " that they may"
	}
	if d.Failed == "" || d.Blocks > 0 || d.Bytes > 0 {
		fmt.Fprintf(w, "  changed   %s\n", changed)
	}
	if d.Failed != "" {
		fmt.Fprintf(w, "  failed    %s\n", clean(d.Failed))
	}
	if d.Files == nil {
		return
	}
	fmt.Fprintf(w, "  files     %d\n", d.Files.All)
	for _, f := range d.Files.Changes {
		sign := map[string]string{"added": "+", "removed": "-"}[f.Action]
		if sign == "" {
			sign = "~"
		}
		kind := f.Kind
		if kind == "file" {
			kind = fmt.Sprintf("%d bytes", f.Size)
		}
		fmt.Fprintf(w, "    %s %s  (%s)\n", sign, clean(f.Path), kind)
	}
	if more := d.Files.All - len(d.Files.Changes); more > 0 {
		fmt.Fprintf(w, "    and %d more\n", more)
	}
}

// printOverlay prints whose an overlay is.
func printOverlay(w io.Writer, o provider.Overlay) {
	fmt.Fprintf(w, "%s  %s  keep = %q\n", whose(o), wireName(o), o.Keep)
	if o.Unreadable != "" {
		fmt.Fprintf(w, "  state     it cannot be read: %s\n  disk      %s\n", clean(o.Unreadable), o.ID)
		return
	}
	state := "attached from " + strings.Join(o.Attached, ", ")
	if len(o.Attached) == 0 {
		state = "not attached"
		if !o.Seen.IsZero() {
			state += " since " + o.Seen.Local().Format(time.DateTime)
		}
	}
	if o.Refused {
		state = "discarded. " + untilItBoots
	}
	fmt.Fprintf(w, "  state     %s\n", state)
	if o.ID != "" { // only since when is known
		fmt.Fprintf(w, "  since     %s\n  disk      %s\n", o.Created.Local().Format(time.DateTime), o.ID)
		return
	}
	fmt.Fprintf(w, "  since     %s, generation %d\n", o.Created.Local().Format(time.DateTime), o.Generation)
	fmt.Fprintf(w, "  over      %s %s\n", o.Image, o.Artifact)
}

// whose says which machine an overlay is of, as far as that is known.
func whose(o provider.Overlay) string {
	who := o.Machine
	if !o.Host.IsZero() {
		who = strings.TrimSpace(o.Host.String() + " " + who)
	}
	return cmp.Or(who, "nobody knows whose")
}

// untilItBoots says what becomes of a machine whose disk is gone from under it.
const untilItBoots = "It is refused until it boots from here; where that cannot be seen, switch it off and give `dlreconcile image reset`."

// mib spells a number of bytes as people compare it.
func mib(n int64) string {
	switch {
	case n == 0:
		return "0 MiB"
	case n < 1<<20:
		return fmt.Sprintf("%d KiB", (n+1023)>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// amount spells what a disk holds, which is held against another: a few MiB to the KiB.
func amount(n int64) string {
	switch {
	case n == 0:
		return "nothing"
	case n < 10<<20 && n%(1<<20) != 0:
		return fmt.Sprintf("%d KiB", (n+1023)>>10)
	}
	return mib(n)
}

func (c *cli) imageResetCommand() *cobra.Command {
	var req api.ResetRequest
	var approve bool
	cmd := &cobra.Command{
		Use:   "reset HOST | --unreadable DISK",
		Short: "Discard what a machine wrote to its disk",
		Long: `reset discards the overlays that are kept of a machine, for good: its next boot begins
with the image as it was built. It takes the role admin.

One that the machine has attached is refused, unless --force is given: then its
connections are dropped, and the machine, whose disk is gone from under it, is refused
until it boots again. A client that names no boot, and that no boot session is known of
(a foreign nbd-client, say), cannot be seen booting: switch it off, and reset it once
more, without --force. A client that names no boot is refused like that too when it was
attached less than 10 minutes ago, or the daemon has not been up for as long: it may have
lost its connection, and come back with its file system still mounted.

A disk whose record cannot be read is discarded with those of its machine, or alone by
--unreadable and its name in ` + "`dlreconcile image list`" + `. Nobody knows which boot had it, unless
the name says so: every client of the machine is refused after that until a boot session
of it begins, or until it is reset once more. When it was asked for less than 10 minutes
ago, its machine is taken to have it attached. A copy that somebody made of a disk, and
what stands where no export puts one, goes by --unreadable only.

On a terminal it shows what there is and asks first, unless --auto-approve is given.

Exit codes: 0 discarded, 1 failed or nothing is kept of that machine, 5 no daemon, 6 denied.`,
		Example: "  dlreconcile image reset render01\n  dlreconcile image reset render01 --export arch --force --auto-approve\n  dlreconcile image reset --unreadable 52-54-00-00-00-01/static/arch",
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case req.Unreadable == "":
				return oneMachine(cmd, args)
			case len(args) > 0 || req.Export != "":
				return &coded{exitUsage, errors.New("--unreadable names one disk: leave the machine, and --export, out")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.needDaemon(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) > 0 {
				req.Machine = args[0]
			}
			if !approve && isTerminal(c.in) {
				if err := c.confirmReset(cmd.Context(), client, req); err != nil {
					return err
				}
			}
			var list []provider.Overlay
			if err := client.Order(cmd.Context(), "/v1/overlays/reset", req, &list); err != nil {
				return interrupted(cmd.Context(), err, "unless it refuses that, the daemon discards it all the same; see `dlreconcile image list`")
			}
			if c.json {
				return c.printJSON(list)
			}
			for _, o := range list {
				printDiscarded(c.out, o)
				if o.Refused {
					fmt.Fprintf(c.out, "  %s\n", untilItBoots)
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&req.Force, "force", false, "drop the machine's connections first")
	cmd.Flags().BoolVar(&approve, "auto-approve", false, "do not ask")
	cmd.Flags().StringVar(&req.Unreadable, "unreadable", "", "the `DISK` that cannot be read, as image list names it")
	exportFlag(cmd, &req.Export)
	return cmd
}

func printDiscarded(w io.Writer, o provider.Overlay) {
	if o.ID != "" {
		fmt.Fprintf(w, "Discarded: %s, which could not be read (%s).\n", o.ID, amount(o.Bytes))
		return
	}
	fmt.Fprintf(w, "Discarded: %s of %s, since %s (%s).\n", wireName(o), o.Machine, o.Created.Local().Format(time.DateTime), amount(o.Bytes))
}

// confirmReset shows what would be discarded, and asks.
func (c *cli) confirmReset(ctx context.Context, client *api.Client, req api.ResetRequest) error {
	var list []provider.OverlayDiff
	q := url.Values{"machine": {req.Machine}, "export": {req.Export}, "unreadable": {req.Unreadable}}
	if err := client.Get(ctx, "/v1/overlays/diff", q, &list); err != nil {
		return err
	}
	for _, d := range list {
		printDiff(c.err, d)
	}
	if req.Force && slices.ContainsFunc(list, func(d provider.OverlayDiff) bool { return len(d.Attached) > 0 }) {
		fmt.Fprintln(c.err, "It is taken away from under the machine, which is refused until it boots again.")
	}
	if why := refusedAfter(list, req.Force); why != "" {
		fmt.Fprintf(c.err, "%s is refused then until it is seen booting from here, or is reset once more.\n", why)
	}
	return c.confirm(ctx, "Discard this?")
}

// refusedAfter says who is refused after a reset, as its boots cannot be told apart; "" when
// nobody is. One that is attached is reset by force only.
func refusedAfter(list []provider.OverlayDiff, force bool) string {
	unnamed, unread := false, false
	for _, d := range list {
		if d.RefusedAfter && (force || len(d.Attached) == 0) {
			unnamed, unread = unnamed || d.Unreadable == "", unread || d.Unreadable != ""
		}
	}
	switch {
	case unnamed && unread:
		return "Its client that names no boot, and whoever may have had what cannot be read,"
	case unnamed:
		return "Its client, which names no boot,"
	case unread:
		return "Nobody knows which boot had it: its machine"
	}
	return ""
}

func (c *cli) imagePromoteCommand() *cobra.Command {
	var req api.PromoteRequest
	cmd := &cobra.Command{
		Use:   "promote HOST",
		Short: "Make an image of what a machine's disk is now",
		Long: `promote seals what a machine's disk reads like, the image with all that the machine
wrote over it, as an artifact in the daemon's store, and prints the image block that
names it. Kernel and initial RAM disk are those of the image below.

Nothing is served differently by it: write the block into the repo, and commit. Until
then it is kept for a week; nothing can build it again.

A disk that is attached is refused, unless --live is given: then it is as after a power
cut at one moment, with all that the machine was told is written. What the journal of its
file system holds is played back before it is sealed, by e2fsck; a btrfs that has a log
is refused until the machine was told to sync. An ext4 with errors is refused, as e2fsck
sees them, and a btrfs whose superblock is damaged.

Interrupted, it is given up, and what was copied is removed.

All that is on the disk goes into the image: host keys, machine ids, logs, secrets.

Exit codes: 0 made, 1 failed or nothing is kept of that machine, 5 no daemon, 6 denied.`,
		Example: "  dlreconcile image promote golden\n  dlreconcile image promote render01 --export arch --live --json",
		Args:    oneMachine,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.needDaemon(cmd.Context())
			if err != nil {
				return err
			}
			req.Machine = args[0]
			var made provider.Promoted
			if err := client.Order(cmd.Context(), "/v1/overlays/promote", req, &made); err != nil {
				return interrupted(cmd.Context(), err, "the daemon gives it up and removes what it copied; nothing has changed, unless it had just been done: `dlreconcile image list` shows that")
			}
			if c.json {
				return c.printJSON(made)
			}
			fmt.Fprintf(c.out, `%s, %s, Linux %s, %s; kept until %s, or for as long as a generation names it:

image %q {
  sealed {
    digest     = %q
    filesystem = %q
  }
}
`, made.Sealed.Root.Digest, made.Sealed.Filesystem, made.Sealed.KernelVersion, mib(made.Sealed.Root.Size), made.Until.Local().Format(time.DateTime),
				made.Image.Name, made.Sealed.Root.Digest, made.Sealed.Filesystem)
			return nil
		},
	}
	cmd.Flags().BoolVar(&req.Live, "live", false, "of a disk that is in use, as it is at one moment")
	exportFlag(cmd, &req.Export)
	return cmd
}
