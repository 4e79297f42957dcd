package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// imageList is what image list shows, with --json too.
type imageList struct {
	Artifacts []api.ArtifactEntry `json:"artifacts"`
	Disks     []provider.Overlay  `json:"disks"`
}

func (c *cli) imageListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the artifacts in the store, and the disks that are kept of machines",
		Long: `list shows the artifacts in the daemon's store, newest first: what each takes there
beside the size that machines see, which image it is, and who needs it: generations that
are kept, and machines that have it attached, or a disk over it. One that nobody needs is
collected by and by; one that was promoted is kept for a week.

Below it shows the disks that are kept of what machines wrote: the export, with the name
of the boot after a +, where that named itself, how much each holds, since when, over
which artifact, and whether the machine has it attached. Those whose record
cannot be read come last: why, and all else that is known of them.

Exit codes: 0 asked, 1 failed, 5 no daemon, 6 denied.`,
		Example: "  dlreconcile image list\n  dlreconcile image list --json",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.needDaemon(cmd.Context())
			if err != nil {
				return err
			}
			var l imageList
			if err := client.Get(cmd.Context(), "/v1/artifacts", nil, &l.Artifacts); err != nil {
				return err
			}
			if err := client.Get(cmd.Context(), "/v1/overlays", nil, &l.Disks); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(l)
			}
			return l.print(c.out)
		},
	}
}

func (l imageList) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(l.Artifacts) == 0 {
		fmt.Fprintln(w, "No artifact is in the store.")
	} else {
		fmt.Fprintln(w, "ARTIFACT\tIMAGE\tFILESYSTEM\tSIZE\tTAKES\tBUILT\tUSED BY")
	}
	for _, a := range l.Artifacts {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", provider.ShortDigest(a.Artifact), spelled(a.Images), a.Filesystem,
			mib(a.Size), mib(a.Bytes), a.Built.Local().Format(time.DateTime), usedBy(a))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	if len(l.Disks) == 0 {
		fmt.Fprintln(out, "Nothing is kept that machines wrote.")
		return nil
	}
	disks := slices.DeleteFunc(slices.Clone(l.Disks), func(o provider.Overlay) bool { return o.Unreadable != "" })
	if len(disks) > 0 {
		if err := printDisks(w, disks); err != nil || len(disks) == len(l.Disks) {
			return err
		}
		fmt.Fprintln(out)
	}
	return printUnreadable(w, l.Disks)
}

// family names the export of a disk without its digest, and the boot that has the disk,
// where that named itself: a machine may have the disks of two for a while.
func family(o provider.Overlay) string {
	o.Export = o.Family()
	return wireName(o)
}

func printDisks(w *tabwriter.Writer, disks []provider.Overlay) error {
	fmt.Fprintln(w, "MACHINE\tHOST\tEXPORT\tKEEP\tHOLDS\tMAY HOLD\tSINCE\tOVER\tSTATE")
	for _, o := range disks {
		limit, state, holds := "", "attached", "-"
		if o.Bytes > 0 {
			holds = amount(o.Bytes)
		}
		if o.Limit > 0 {
			limit = amount(o.Limit)
		}
		switch {
		case o.Refused:
			state = "discarded; refused until it boots, or is reset"
		case len(o.Attached) == 0 && o.Seen.IsZero():
			state = "not attached"
		case len(o.Attached) == 0:
			state = "not attached since " + o.Seen.Local().Format(time.DateTime)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", o.Machine, o.Host, family(o), o.Keep, holds, limit,
			o.Created.Local().Format(time.DateTime), provider.ShortDigest(o.Artifact), state)
	}
	return w.Flush()
}

// printUnreadable prints those of disks that cannot be read.
func printUnreadable(w *tabwriter.Writer, disks []provider.Overlay) error {
	fmt.Fprintln(w, "UNREADABLE DISK\tMACHINE\tHOST\tEXPORT\tKEEP\tHOLDS\tWHY")
	for _, o := range disks {
		if o.Unreadable == "" {
			continue
		}
		holds := "-"
		if o.Bytes > 0 {
			holds = amount(o.Bytes)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", o.ID, o.Machine, o.Host, o.Export, o.Keep, holds, clean(o.Unreadable))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "Machines that may have one are refused until it is discarded: `dlreconcile image reset --unreadable DISK`.")
	return errors.Join(err, w.Flush())
}

func spelled(images []schema.Addr) string {
	var list []string
	for _, a := range images {
		list = append(list, a.String())
	}
	return strings.Join(list, ", ")
}

// usedBy says who needs an artifact, in a few words.
func usedBy(a api.ArtifactEntry) string {
	var list []string
	if len(a.Generations) > 0 {
		text := "generation "
		if len(a.Generations) > 1 {
			text = "generations "
		}
		for i, n := range a.Generations {
			if i > 0 {
				text += ", "
			}
			text += strconv.FormatUint(n, 10)
		}
		if a.Current {
			text += " (current)"
		}
		list = append(list, text)
	}
	var machines []string // each once, however many exports it has of it
	for _, m := range a.Machines {
		if who := cmp.Or(m.Host.String(), m.Machine); !slices.Contains(machines, who) {
			machines = append(machines, who)
		}
	}
	const shown = 3
	switch more := len(machines) - shown; {
	case more == 1:
		list = append(append(list, machines[:shown]...), "1 more machine")
	case more > 1:
		list = append(append(list, machines[:shown]...), fmt.Sprintf("%d more machines", more))
	default:
		list = append(list, machines...)
	}
	if !a.Until.IsZero() {
		list = append(list, "kept until "+a.Until.Local().Format(time.DateTime))
	}
	return cmp.Or(strings.Join(list, "; "), "nobody")
}
