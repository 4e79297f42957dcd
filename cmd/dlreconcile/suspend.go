package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine/api"
)

func (c *cli) suspendCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "suspend [HOST...]",
		Short: "Leave everything as it is, or the next boots of some hosts",
		Long: `suspend leaves what is served as it is: commits are seen, and wait. Nothing is applied
by hand either until ` + "`dlreconcile resume`" + `; going back, with rollback, is still possible.

With hosts (as ` + "`dlreconcile nodes`" + ` names them, or by hardware address) only their next
boots stay on the generation that is served now, whatever is applied meanwhile; plans,
status and nodes say so. What runs on them goes on as always.

Both survive a restart of the daemon.

Exit codes: 0 suspended, 1 failed, 5 no daemon.`,
		Example: "  dlreconcile suspend --reason 'the audit is today'\n  dlreconcile suspend render01 render02",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			text := "Suspended: commits wait until `dlreconcile resume`."
			if len(args) > 0 {
				text = "Suspended: the next boots of " + strings.Join(args, ", ") + " stay where they are until `dlreconcile resume " + strings.Join(args, " ") + "`."
			}
			return c.order(cmd.Context(), "/v1/suspend", api.SuspendRequest{Hosts: args, Reason: reason}, text)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` that status shows, and who is refused is told")
	return cmd
}

func (c *cli) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume [HOST...]",
		Short: "End what suspend began",
		Long: `resume has commits applied again; the newest is planned at once. With hosts, their next
boots are from what is served then; hosts that are suspended by name stay so until they
are named here.

Exit codes: 0 nothing, or nothing of those, is suspended any more, 1 failed, or nothing was suspended, 5 no daemon.`,
		Example: "  dlreconcile resume\n  dlreconcile resume render01",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			text := "Resumed: the newest commit is followed."
			if len(args) > 0 {
				text = "Resumed: " + strings.Join(args, ", ") + " boot what is served."
			}
			return c.order(cmd.Context(), "/v1/resume", api.ResumeRequest{Hosts: args}, text)
		},
	}
}
