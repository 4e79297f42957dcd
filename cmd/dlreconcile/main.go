// Command dlreconcile turns commits into machines that boot: it reads a desired
// state from a Git repo, plans the difference, and applies it to its own DHCP,
// TFTP, HTTP and NBD servers while they keep serving.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/schema"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the work in good order, the second one at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}, os.Args[1:])
	stop()
	os.Exit(code)
}

// run is main without the process: tests call it.
func run(ctx context.Context, std streams, args []string) int {
	c := &cli{streams: std, cache: &schema.Cache{}}
	root := c.rootCommand()
	root.SetArgs(doubleDashes(root, args))
	if len(args) > 0 && args[0] == cobra.ShellCompRequestCmd {
		unquoted(root)
	}
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	c.json = c.json || asksForJSON(args) // a usage error comes before flags are read
	return c.tell(ctx, cmd, err)
}
