package main

import (
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine/node"
	"github.com/dlreconcile/dlreconcile/engine/provider"
)

func (c *cli) nodesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "nodes [MACHINE]",
		Short: "List the machines seen, what each runs, and how its boot went",
		Long: `nodes lists every machine that booted from here: its state, the generation and the
artifact it is pinned to, and, for a host that is suspended, the generation that its next
boots stay on, and how much of what it wrote is kept, and may be. With the MAC, name or address of one machine it also prints
the timeline of its boots, in seconds since the first DHCP packet. A machine whose
address is another DHCP server's is listed by that address. One that never booted from
here, and has a lease or a reservation, is listed once it used an export or was refused
one, until the daemon is restarted.

With --json it prints all of that, timelines included, for each machine.

Exit codes: 0 asked, 1 no such machine has been seen, 5 no daemon.`,
		Example: "  dlreconcile nodes\n  dlreconcile nodes 52:54:00:00:00:01\n  dlreconcile nodes render01 --json",
		Args:    atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.needDaemon(cmd.Context())
			if err != nil {
				return err
			}
			list := []node.Node{}
			if err := client.Get(cmd.Context(), "/v1/nodes", nil, &list); err != nil {
				return err
			}
			if len(args) == 1 {
				list = slices.DeleteFunc(list, func(n node.Node) bool { return !nodeIs(n, args[0]) })
				if len(list) == 0 {
					return fmt.Errorf("no machine %q has been seen: `dlreconcile nodes` lists those that have", args[0])
				}
			}
			if c.json {
				return c.printJSON(list)
			}
			var disks []provider.Overlay
			if err := client.Get(cmd.Context(), "/v1/overlays", nil, &disks); err != nil {
				return err
			}
			return c.printNodes(list, disks, len(args) == 1)
		},
	}
}

// printNodes prints a table, and below it how the boots went when they are asked for.
func (c *cli) printNodes(list []node.Node, disks []provider.Overlay, boots bool) error {
	if len(list) == 0 {
		fmt.Fprintln(c.out, "No machine has been seen.")
		return nil
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MAC\tHOST\tADDRESS\tSTATE\tGENERATION\tEXPORT\tDISK")
	for _, n := range list {
		address := ""
		if n.Address.IsValid() {
			address = n.Address.String()
		}
		generation := fmt.Sprint(n.Generation)
		if n.Stays != 0 {
			generation += fmt.Sprintf(" (stays on %d)", n.Stays)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", nodeKey(n), n.Host, address, n.State, generation, n.Export, diskOf(n, disks))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !boots {
		return nil
	}
	for _, n := range list {
		for _, t := range n.Boots {
			fmt.Fprintln(c.out)
			if err := t.Text(c.out); err != nil {
				return err
			}
		}
	}
	return nil
}

// diskOf says how much is kept of what a machine wrote over the root that it has.
func diskOf(n node.Node, disks []provider.Overlay) string {
	for _, o := range disks {
		if o.Machine != nodeKey(n) || o.Export != n.Export || o.Refused {
			continue
		}
		if o.Limit > 0 {
			return amount(o.Bytes) + " of " + amount(o.Limit)
		}
		return amount(o.Bytes)
	}
	return ""
}

// nodeKey is by what a machine is told apart: by its hardware address, or, where
// another DHCP server keeps that to itself, by its address.
func nodeKey(n node.Node) string {
	if a, ok := n.MAC.Address(); ok {
		return a.String()
	}
	return n.MAC.String()
}

func nodeIs(n node.Node, text string) bool {
	if mac, err := provider.ParseMAC(text); err == nil {
		return n.MAC == mac
	}
	return n.Address.String() == text || n.Host.String() == text || n.Host.Name == text || n.Host.Key == text
}
