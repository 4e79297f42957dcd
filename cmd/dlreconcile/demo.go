package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func (c *cli) demoCommand() *cobra.Command {
	var noVM, keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Boot a real machine from a commit, change the commit, boot again",
		Long: `demo makes a Git repo, serves it inside a network namespace of its own, boots a
diskless machine in QEMU from the first commit, commits a change, shows the plan,
applies it live, and boots again. It needs root and Debian's QEMU and iPXE packages;
nothing outside the namespace is touched.

With --no-vm it walks the same chain on high loopback ports with clients that are
built in, without root: it shows how things hang together, and proves nothing about
real firmware.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := os.MkdirTemp("", "dlreconcile-demo-")
			if err != nil {
				return err
			}
			if keep {
				fmt.Fprintf(c.err, "keeping %s\n", dir)
			} else {
				defer os.RemoveAll(dir)
			}
			d := &demo{cli: c, dir: dir}
			if noVM {
				return d.withoutMachines(cmd.Context())
			}
			return d.withMachines(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&noVM, "no-vm", false, "walk the chain with built-in clients on loopback, without root")
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the repo and the state directory")
	return cmd
}

// demo is one run of the demonstration.
type demo struct {
	*cli
	dir string
}

// step announces what comes next.
func (d *demo) step(format string, args ...any) {
	fmt.Fprintf(d.out, "\n== %s\n", fmt.Sprintf(format, args...))
}

// show prints a command as one would type it, and its output.
func (d *demo) show(command, output string) {
	fmt.Fprintf(d.out, "$ %s\n%s\n", command, strings.TrimRight(output, "\n"))
}

// invoke runs a command of this program in this process, against the demo's repo
// and state, and gives what it printed.
func (d *demo) invoke(ctx context.Context, args ...string) (string, error) {
	var out, errs strings.Builder
	all := append(args, "--repo", d.repo(), "--state", d.state(), "--config", os.DevNull)
	if code := run(ctx, streams{in: strings.NewReader(""), out: &out, err: &errs}, all); code != exitOK {
		return "", fmt.Errorf("dlreconcile %s: exit %d: %s", strings.Join(args, " "), code, errs.String())
	}
	return out.String(), nil
}

func (d *demo) repo() string  { return d.dir + "/site" }
func (d *demo) state() string { return d.dir + "/state" }
