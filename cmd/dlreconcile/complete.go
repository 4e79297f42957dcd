package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/explain"
	"github.com/dlreconcile/dlreconcile/engine/node"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// completions says what a shell may offer behind each command and flag: folders
// where folders are wanted, and what the daemon knows where its things are named.
func (c *cli) completions(root *cobra.Command) {
	nothing := cobra.NoFileCompletions
	fixed := func(list ...cobra.Completion) cobra.CompletionFunc {
		return cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)
	}
	folders := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	byFlag := map[string]cobra.CompletionFunc{
		"repo": folders, "path": folders, "state": folders,
		"reason": nothing, "try": fixed("60s", "5m", "30m"), "ref": nothing, "server": c.completeServers, "poll": nothing, "var": nothing, "rev": nothing, "file": nothing,
		"env":   c.completeEnv,
		"api":   nothing,
		"arch":  fixed(archCompletions()...),
		"focus": c.completeAddresses, "target": c.completeAddresses, "format": fixed("text\ttrees, for people", "dot\tfor graphviz", "json\tfor programs"),
		"override": fixed("max_delete\tdelete or replace more than the policy lets through", "allow_empty\tleave nothing",
			"window\tdo it outside of the policy's windows"),
		"wait": fixed(waitable[:]...), "timeout": nothing, "within": nothing, "since": nothing, "key": nothing, "kind": nothing, "export": nothing, "unreadable": c.completeUnreadable,
		"class": fixed("iPXE\ta machine whose own ROM is iPXE"),
		"bytes": fixed("64MiB", "1GiB"), "request": fixed("4KiB", "64KiB", "256KiB", "1MiB"),
		"connections": nothing, "depth": nothing, "digest": nothing, "tls-server-name": nothing,
	}
	byCommand := map[string]cobra.CompletionFunc{
		"explain": c.completeMachines, "nodes": c.completeMachines, "rollback": c.completeGenerations,
		"diff": c.completeMachines, "reset": c.completeMachines, "promote": c.completeMachines,
		"suspend": c.completeMachines, "resume": c.completeSuspended, "release": c.completeQuarantined,
		"apply": cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault), // a file
		"nbd":   cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault), // a socket
		"fmt":   cobra.FixedCompletions([]cobra.Completion{"hcl"}, cobra.ShellCompDirectiveFilterFileExt),
	}
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		for name, f := range byFlag {
			if cmd.Flags().Lookup(name) != nil || cmd.PersistentFlags().Lookup(name) != nil {
				// It fails only for a flag that is not there, or has one already.
				_ = cmd.RegisterFlagCompletionFunc(name, f)
			}
		}
		if cmd.ValidArgsFunction == nil && !cmd.HasSubCommands() {
			cmd.ValidArgsFunction = nothing
			if f := byCommand[cmd.Name()]; f != nil {
				cmd.ValidArgsFunction = f
			}
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root)
}

// archCompletions are the client architectures that explain knows by name.
func archCompletions() []cobra.Completion {
	var list []cobra.Completion
	for _, a := range explain.ArchNames() {
		list = append(list, a.Name+"\t"+schema.ClientArchOf(a.Arch).Name)
	}
	return list
}

// unquoted takes the quotes out of the usage of every flag. Help makes the name of
// a value of them, but cobra offers them to shells as they are.
func unquoted(root *cobra.Command) {
	plain := func(f *pflag.Flag) { f.Usage = strings.ReplaceAll(f.Usage, "`", "") }
	root.PersistentFlags().VisitAll(plain)
	for _, cmd := range root.Commands() {
		cmd.Flags().VisitAll(plain)
		for _, sub := range cmd.Commands() {
			sub.Flags().VisitAll(plain)
		}
	}
}

// completionLimit is how long somebody who pressed a key is kept waiting.
const completionLimit = 2 * time.Second

// ask gives what the daemon answers, or nothing: whoever completes a command line
// is not told why.
func (c *cli) ask(ctx context.Context, path string, v any) bool {
	client, err := c.findDaemon(ctx)
	return err == nil && client != nil && client.Get(ctx, path, nil, v) == nil
}

// completing prepares for a question to the daemon: the settings are not resolved
// yet when a shell asks.
func (c *cli) completing(cmd *cobra.Command) (context.Context, context.CancelFunc, error) {
	ctx := cmd.Context()
	if ctx == nil { // cobra gives none to what it completes
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionLimit)
	return ctx, cancel, c.settings.resolve(cmd.Flags(), os.Environ())
}

// completeMachines offers the hosts of the configuration that is served, and the
// machines that were seen.
func (c *cli) completeMachines(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel, err := c.completing(cmd)
	defer cancel()
	if len(args) > 0 && cmd.Name() != "suspend" || err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var list []string
	var seen []node.Node
	if c.ask(ctx, "/v1/nodes", &seen) {
		for _, n := range seen {
			list = append(list, nodeKey(n)+"\t"+n.Host.String()+" "+n.State)
		}
	}
	var o engine.Observed
	if (cmd.Name() == "explain" || cmd.Name() == "suspend") && c.ask(ctx, "/v1/observed", &o) && o.Record != nil {
		if d, err := c.recorded(&o); err == nil {
			for _, h := range d.Hosts {
				list = append(list, hostName(h)+"\t"+h.MAC)
			}
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}

// completeUnreadable offers the disks that cannot be read.
func (c *cli) completeUnreadable(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel, err := c.completing(cmd)
	defer cancel()
	var disks []provider.Overlay
	if err != nil || !c.ask(ctx, "/v1/overlays", &disks) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var list []string
	for _, o := range disks {
		switch {
		case o.Unreadable != "":
			list = append(list, o.ID+"\t"+clean(o.Unreadable))
		case o.ID != "":
			list = append(list, o.ID+"\tdiscarded; refused until it boots, or is reset")
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}

// completeEnv offers the env files of a repo that lies here.
func (c *cli) completeEnv(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	_, cancel, err := c.completing(cmd)
	defer cancel()
	if err != nil || c.settings.remote() {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c.settings.enclose()
	entries, err := os.ReadDir(filepath.Join(c.settings.Repo, filepath.FromSlash(c.settings.Path), "env"))
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var list []string
	for _, e := range entries {
		name, plain := strings.CutSuffix(e.Name(), ".hcl")
		if !plain {
			name, plain = strings.CutSuffix(e.Name(), ".hcl.json")
		}
		if plain {
			list = append(list, name)
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}

// hostName is the name by which explain finds a host.
func hostName(h *schema.Host) string {
	if h.Addr.Module != "" { // others may have the same name in theirs
		return h.Addr.String()
	}
	if h.Addr.Key != "" {
		return h.Addr.Key
	}
	return h.Addr.Name
}

// completeGenerations offers the generations that are kept.
func (c *cli) completeGenerations(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel, err := c.completing(cmd)
	defer cancel()
	if len(args) > 0 || err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	history, err := c.history(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var list []string
	for i := len(history) - 1; i >= 0; i-- {
		h := history[i]
		if !h.Current {
			list = append(list, strconv.FormatUint(h.Generation, 10)+"\t"+short(h.Revision)+" "+h.Subject)
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completeSuspended offers the hosts that are suspended.
func (c *cli) completeSuspended(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel, err := c.completing(cmd)
	defer cancel()
	var s engine.Status
	if err != nil || !c.ask(ctx, "/v1/status", &s) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var list []string
	for _, host := range slices.Sorted(maps.Keys(s.SuspendedHosts)) {
		list = append(list, fmt.Sprintf("%s\tstays on generation %d", host, s.SuspendedHosts[host].Generation))
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}

// completeQuarantined offers the revisions that are not tried by themselves.
func (c *cli) completeQuarantined(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel, err := c.completing(cmd)
	defer cancel()
	var s engine.Status
	if len(args) > 0 || err != nil || !c.ask(ctx, "/v1/status", &s) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var list []string
	for _, q := range slices.Backward(s.Quarantined) {
		list = append(list, short(q.Revision)+"\t"+q.Reason)
	}
	return list, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}
