package main

import (
	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine/explain"
)

func (c *cli) explainCommand() *cobra.Command {
	var arch, class string
	cmd := &cobra.Command{
		Use:   "explain MAC|HOST|ADDRESS",
		Short: "Show every answer that one machine would get, and the line that causes it",
		Long: `explain walks one boot of one machine through the tables that answer packets: the
DHCP answers, each file in the order it is asked for, the kernel line, and the export
that holds the root, each with the place in the configuration that caused it, and what
would fail. Nothing is sent, and no address is given away. It asks the daemon, whose
tables and leases the answers come from.

Exit codes: 0 it would boot, or get its address, 1 it would not, 5 no daemon.`,
		Example: `  dlreconcile explain 52:54:00:00:00:01
  dlreconcile explain render01 --arch 7
  dlreconcile explain 10.0.0.21 --class iPXE --json`,
		Args: exactlyOne("a machine: its MAC, a host's name, or an address"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.needDaemon(cmd.Context())
			if err != nil {
				return err
			}
			q := query("machine", args[0])
			if arch != "" {
				q.Set("arch", arch)
			}
			if class != "" {
				q.Set("class", class)
			}
			var res explain.Result
			if err := client.Get(cmd.Context(), "/v1/explain", q, &res); err != nil {
				return err
			}
			if c.json {
				if err := c.printJSON(res); err != nil {
					return err
				}
			} else if err := res.Text(c.out); err != nil {
				return err
			}
			if len(res.Fails) > 0 {
				return &silent{exitError}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&arch, "arch", "", "client architecture `NUMBER`, option 93: 0 BIOS (default), 7 UEFI x86-64, 16 UEFI HTTP")
	f.StringVar(&class, "class", "", "user `CLASS`, option 77: iPXE for a machine whose own ROM is iPXE")
	return cmd
}
