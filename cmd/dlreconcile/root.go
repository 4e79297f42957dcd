package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/handover"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// streams are the three standard streams, so that tests can give their own.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// cli is what every command shares: where to write, and the settings.
type cli struct {
	streams
	settings settings
	json     bool
	noColor  bool
	// around and limits, when not nil, are a test's: what stands in for a provider, and
	// what the engine waits for.
	around  func(provider.Provider) provider.Provider
	limits  func(*engine.Config)
	kept    *handover.Store // of the daemon: what the process before left; nil: nothing is kept
	daemon  bool            // this process is the daemon: it logs what it does
	notices []string        // told beside what came of the command
	cache   *schema.Cache   // what was loaded last: the state that is served is much like the one that is wanted
}

// textOnly marks commands that have no JSON form.
const textOnly = "text-only"

// bare marks commands that need no settings: a broken daemon.hcl must not keep
// anybody from the help, or from completing a command line.
const bare = "bare"

func (c *cli) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "dlreconcile",
		Short: "Commit to Git, and machines without disks boot it",
		Long: `dlreconcile reads a desired state (HCL) from a Git repo, plans the difference over
images, exports, bootloaders and DHCP, and applies it to its own DHCP, TFTP, HTTP
and NBD servers while they keep serving.

Everyday use:
  dlreconcile validate            is the configuration right?
  dlreconcile fmt                 write it in its canonical form
  dlreconcile graph               what stands on what?
  dlreconcile plan                what would change, and for which machines?
  dlreconcile serve --repo URL    follow the repo and serve it
  dlreconcile status              what is served, and if not the newest commit, why
  dlreconcile explain MAC         every answer one machine would get, and why
  dlreconcile apply --try 60s     serve it on trial, and go back unless it is confirmed
  dlreconcile suspend             leave everything as it is, or some hosts; resume ends it

Every setting has a flag, an environment variable (--repo is DLRECONCILE_REPO, a
--var x=… is DLRECONCILE_VAR_x) and a line in daemon.hcl; the first of these counts.

Exit codes: 0 done, 1 failed, 2 changes pending, or drift (with
--detailed-exitcode),
3 invalid configuration, 4 stale plan, 5 locked, or no daemon, 6 denied by policy
or not trusted, 7 applied on trial and then reverted, 64 wrong usage.`,
		Version:       buildVersion().String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if c.json && marked(cmd, textOnly) {
				return &coded{exitUsage, fmt.Errorf("%s has no JSON form", verb(cmd))}
			}
			if marked(cmd, bare) {
				return nil
			}
			return c.settings.resolve(cmd.Flags(), os.Environ())
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.json {
				return &coded{exitUsage, errors.New("name a command")}
			}
			return cmd.Help()
		},
		Annotations: map[string]string{bare: ""},
	}
	root.SetVersionTemplate("dlreconcile {{.Version}}\n")
	root.SetIn(c.in)
	root.SetOut(c.out)
	root.SetErr(c.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &coded{exitUsage, err} })
	f := root.PersistentFlags()
	f.BoolVar(&c.json, "json", false, "print JSON: one document on stdout, whatever comes of it")
	f.BoolVar(&c.noColor, "no-color", false, "print without colours (also: NO_COLOR)")
	c.settings.flags(f)
	root.AddCommand(
		c.applyCommand(), c.auditCommand(), c.confirmCommand(), c.demoCommand(), c.driftCommand(), c.eventsCommand(), c.explainCommand(), c.fmtCommand(), c.graphCommand(), c.historyCommand(),
		c.imageCommand(), c.nodesCommand(), c.planCommand(), c.probeCommand(), c.releaseCommand(), c.resumeCommand(),
		c.rollbackCommand(), c.serveCommand(), c.statusCommand(), c.suspendCommand(), c.validateCommand(),
		c.versionCommand(),
	)
	// These two are made when they are first needed; here they get their marks.
	root.SetHelpCommand(helpCommand())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help", "completion":
			mark(cmd, textOnly, bare)
		case "demo":
			mark(cmd, textOnly)
		case "version", "image", "fmt", "audit", "probe":
			mark(cmd, bare)
		}
	}
	usageErrors(root)
	c.completions(root)
	return root
}

// helpCommand is cobra's, with the exit code for wrong usage.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Print the help of a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = knownCommand(about, rest)
			}
			if err != nil {
				return &coded{exitUsage, err}
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if about, _, err := cmd.Root().Find(args); err == nil {
				for _, sub := range about.Commands() {
					if sub.IsAvailableCommand() {
						names = append(names, sub.Name()+"\t"+sub.Short)
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func mark(cmd *cobra.Command, marks ...string) {
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	for _, m := range marks {
		cmd.Annotations[m] = ""
	}
	for _, sub := range cmd.Commands() {
		if cmd.Name() == "completion" {
			mark(sub, marks...)
		}
	}
}

// marked reports whether cmd has a mark. The commands that a shell's completion
// calls are made by cobra, later, and need no settings either.
func marked(cmd *cobra.Command, m string) bool {
	if m == bare && (cmd.Name() == cobra.ShellCompRequestCmd || cmd.Name() == cobra.ShellCompNoDescRequestCmd) {
		return true
	}
	_, ok := cmd.Annotations[m]
	return ok
}
