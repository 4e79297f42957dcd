package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (c *cli) validateCommand() *cobra.Command {
	var rev string
	cmd := &cobra.Command{
		Use:   "validate",
		Short: "Check the configuration; touch nothing",
		Long: `validate reads the configuration and reports every mistake with its place, what is
wrong, why, and how to mend it. It needs neither a daemon nor, for a local repo, the
network.

Exit codes: 0 valid, 1 the repo cannot be read, 3 invalid.`,
		Example: "  dlreconcile validate\n  dlreconcile validate --repo ./site --rev HEAD~1 --json",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := c.load(cmd.Context(), rev)
			if err != nil {
				return err
			}
			defer l.Close()
			n := len(l.whole.Resources)
			if c.json {
				v := findings(l.warnings)
				v.Resources = &n
				return c.printJSON(v)
			}
			fmt.Fprintf(c.out, "Valid: %s.\n", count(n, "resource", "resources"))
			return nil
		},
	}
	cmd.Flags().StringVar(&rev, "rev", "", "`COMMIT`, branch or tag to check (default: the work tree)")
	return cmd
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
