package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// problem is what a command that failed prints with --json, unless its ordinary
// document says what went wrong.
type problem struct {
	Error    string `json:"error"`
	ExitCode int    `json:"exit_code"`
}

// tell reports why cmd failed, and gives the exit code: what is wrong, and then
// what to do. With --json stdout gets one document, and people still get the text
// on stderr.
func (c *cli) tell(ctx context.Context, cmd *cobra.Command, err error) int {
	code := exitCode(err)
	var quiet *silent
	if errors.As(err, &quiet) {
		return code
	}
	var diags hcl.Diagnostics
	if errors.As(err, &diags) {
		if err := c.diagnostics(nil, diags); err != nil {
			fmt.Fprintln(c.err, "dlreconcile:", err)
		}
		return code
	}
	text := err.Error()
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		text = "interrupted"
	}
	if c.json {
		if err := c.printJSON(problem{text, code}); err != nil {
			fmt.Fprintln(c.err, "dlreconcile:", err)
		}
	}
	fmt.Fprintln(c.err, "dlreconcile:", text)
	switch hint := c.advice(err); {
	case code == exitUsage:
		if cmd.Name() == "help" {
			cmd = cmd.Root()
		}
		fmt.Fprintf(c.err, "Run `%s --help` for how it is used.\n", cmd.CommandPath())
	case hint != "":
		fmt.Fprintln(c.err, hint)
	}
	return code
}

// advice says what an operator can do about an error that does not say so itself.
func (c *cli) advice(err error) string {
	var locked *store.LockedError
	var path *fs.PathError
	switch {
	case errors.As(err, &locked) && strings.HasSuffix(locked.Command, " serve"):
		return "One daemon serves a state directory: ask the one that runs through its socket, or stop it first. Its socket is api.sock in the state directory, unless it was started with --socket."
	case errors.As(err, &locked):
		return "Wait until it has ended, or name another directory with --state."
	case errors.As(err, &path) && errors.Is(err, fs.ErrPermission) && strings.HasPrefix(path.Path, c.settings.State):
		return "Run it as the user that owns the state directory, or name another one with --state."
	case errors.Is(err, source.ErrNoCommit):
		return "Commit the configuration first: only commits are applied."
	case errors.Is(err, source.ErrNoPath):
		return "Name a folder that is in the commit with --path."
	}
	return ""
}
