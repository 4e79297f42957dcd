package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine/graph"
)

// graphFormats are the forms in which a graph is printed.
var graphFormats = []string{"text", "dot", "json"}

// graphFlags are the flags of the graph command.
type graphFlags struct {
	rev, format, focus string
	all                bool
}

func (c *cli) graphCommand() *cobra.Command {
	var o graphFlags
	cmd := &cobra.Command{
		Use:   "graph",
		Short: "Show what stands on what",
		Long: `graph prints what each machine boots by: its subnet, boot loader, entry, export and
image, and the files of the repo that the image is made of. What stands under several
is shown under the first of them. More than 20 hosts that need the same are shown as
one; --all shows each.

--focus shows what one resource or file needs, and who needs it: whom a change of it
may concern. Which machines a change does concern, and how, is what plan says.

It reads the files of the work tree, committed or not; with --rev, or from a bare or
remote repo, those of a commit. With --server, only what is that server's.

Exit codes: 0 done, 1 failed, 3 invalid configuration.`,
		Example: `  dlreconcile graph
  dlreconcile graph --focus image.debian
  dlreconcile graph --focus 'host.ws["ws01"]' --json
  dlreconcile graph --format dot | dot -Tsvg > site.svg`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch given := cmd.Flags().Changed("format"); {
			case c.json && given && o.format != "json":
				return &coded{exitUsage, fmt.Errorf("--json and --format %s say different things", o.format)}
			case c.json:
				o.format = "json"
			case !slices.Contains(graphFormats, o.format):
				return &coded{exitUsage, fmt.Errorf("--format %q: want text, dot or json", o.format)}
			}
			return c.graph(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.rev, "rev", "", "`COMMIT`, branch or tag to show (default: the work tree)")
	f.StringVar(&o.format, "format", "text", "`FORM`: text, dot (graphviz) or json")
	f.StringVar(&o.focus, "focus", "", "only what this `ADDRESS` needs, and who needs it")
	f.BoolVar(&o.all, "all", false, "show every host by itself")
	return cmd
}

func (c *cli) graph(ctx context.Context, o graphFlags) error {
	g, err := c.loadGraph(ctx, o.rev)
	if err != nil {
		return err
	}
	if o.focus != "" {
		if g, err = g.Focus(o.focus); err != nil {
			return fmt.Errorf("--focus: %w", err)
		}
	}
	show := graph.Options{All: o.all}
	switch o.format {
	case "json":
		b, err := g.JSON()
		if err != nil {
			return err
		}
		_, err = c.out.Write(b)
		return err
	case "dot":
		return g.DOT(c.out, show)
	}
	return g.Text(c.out, show)
}

// loadGraph gives the graph of the configuration, or of one server's part.
func (c *cli) loadGraph(ctx context.Context, rev string) (*graph.Graph, error) {
	l, err := c.loadInto(ctx, &loaded{all: c.settings.Server == ""}, rev)
	if err != nil {
		return nil, err
	}
	d := l.own
	if l.all {
		d = l.whole
	}
	return graph.Of(d), l.Close()
}

// completeAddresses offers the addresses of a local configuration: those of blocks,
// and of their instances; where a file may be meant, its files too.
func (c *cli) completeAddresses(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var list []string
	if g := c.completionGraph(cmd); g != nil {
		list = g.Addresses(cmd.Name() == "graph")
	}
	return list, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completeServers offers the names of the server blocks of a local configuration.
func (c *cli) completeServers(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var list []string
	if g := c.completionGraph(cmd); g != nil {
		for _, a := range g.Addresses(false) {
			if name, ok := strings.CutPrefix(a, "server."); ok {
				list = append(list, name)
			}
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}

// completionGraph gives the graph of a local configuration, nil when there is none
// that is right: whoever completes a command line is not told what is wrong.
func (c *cli) completionGraph(cmd *cobra.Command) *graph.Graph {
	ctx, cancel, err := c.completing(cmd)
	defer cancel()
	if err != nil || c.settings.remote() {
		return nil
	}
	quiet := *c
	quiet.json, quiet.out, quiet.err = false, io.Discard, io.Discard
	quiet.settings.Server = "" // perhaps that is what is completed
	g, err := quiet.loadGraph(ctx, "")
	if err != nil {
		return nil
	}
	return g
}
