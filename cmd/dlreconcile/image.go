package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

func (c *cli) imageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Work with images, and with what machines wrote over them",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.json {
				return &coded{exitUsage, errors.New("name a command of image: build, list, diff, reset, promote")}
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(c.imageBuildCommand(), c.imageListCommand(), c.imageDiffCommand(), c.imageResetCommand(), c.imagePromoteCommand())
	return cmd
}

func (c *cli) imageBuildCommand() *cobra.Command {
	var rev string
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build what a revision needs, ahead of applying it",
		Long: `build makes every image of a revision and seals it in the state directory, so that
applying the revision later needs neither a build nor the network. What has been built
before is not built again. It needs root, and the state directory to itself: a daemon
that runs builds by itself.

Exit codes: 0 built, 1 failed, 3 invalid configuration, 5 the state directory is locked.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.settings.enclose()
			h, err := c.wire(wireRepo)
			if err != nil {
				return err
			}
			defer h.Close()
			built, err := h.engine.Build(cmd.Context(), rev, c.progressLine())
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(built)
			}
			addrs := make([]schema.Addr, 0, len(built))
			for a := range built {
				addrs = append(addrs, a)
			}
			slices.SortFunc(addrs, schema.Addr.Compare)
			for _, a := range addrs {
				fmt.Fprintf(c.out, "%s  %s %s, Linux %s, %d MiB  %s\n", a, built[a].Filesystem,
					provider.ShortDigest(built[a].Root.Digest), built[a].KernelVersion, built[a].Root.Size>>20, built[a].Recipe)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&rev, "rev", "", "`COMMIT`, branch or tag (default: the tip of the tracked ref)")
	return cmd
}
