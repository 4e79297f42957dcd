package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// doubleDashes lets long flags be written with one dash, as Terraform has them:
// -out=FILE is --out=FILE. Only names of flags that exist are touched, and nothing
// behind "--".
func doubleDashes(root *cobra.Command, args []string) []string {
	known := map[string]bool{}
	add := func(f *pflag.Flag) { known[f.Name] = true }
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(add)
		cmd.PersistentFlags().VisitAll(add)
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root)
	out := slices.Clone(args)
	for i, a := range out {
		if a == "--" {
			break
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(a, "-"), "=")
		if len(name) > 1 && a[0] == '-' && known[name] {
			out[i] = "-" + a
		}
	}
	return out
}

// asksForJSON reports whether --json is among arguments that could not be parsed.
func asksForJSON(args []string) bool {
	for _, a := range args {
		switch a {
		case "--":
			return false
		case "--json", "-json", "--json=true", "-json=true":
			return true
		}
	}
	return false
}

// usageErrors gives wrong arguments the exit code for wrong usage, in cmd and all
// commands below it.
func usageErrors(cmd *cobra.Command) {
	if cmd.HasSubCommands() {
		cmd.Args = knownCommand
		if cmd.RunE == nil { // one that cannot run would print its help instead
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return &coded{exitUsage, err}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		usageErrors(sub)
	}
}

// knownCommand refuses what is not one of cmd's commands, and says what may have
// been meant.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = ": did you mean " + strings.Join(near, " or ") + "?"
	}
	if cmd.HasParent() {
		return fmt.Errorf("%q is no command of %s%s", args[0], verb(cmd), hint)
	}
	return fmt.Errorf("%q is no command%s", args[0], hint)
}

// verb is what follows the program's name on the command line.
func verb(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}

// exactlyOne takes one argument, and says what it is when it is not given.
func exactlyOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return fmt.Errorf("%s wants %s", verb(cmd), what)
		case 1:
			return nil
		}
		return surplus(cmd, args[1:])
	}
}

// atMostOne takes one argument or none.
func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return surplus(cmd, args[1:])
	}
	return nil
}

// noArguments takes none.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return surplus(cmd, args)
	}
	return nil
}

func surplus(cmd *cobra.Command, args []string) error {
	return fmt.Errorf("%s does not take the argument %q", verb(cmd), args[0])
}
