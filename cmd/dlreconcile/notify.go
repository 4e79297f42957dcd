package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/keyfile"
	"github.com/dlreconcile/dlreconcile/engine/metrics"
	"github.com/dlreconcile/dlreconcile/engine/notify"
)

// leastForgeToken is how many bytes the token of a forge has: those of all have more.
const leastForgeToken = 8

// config gives the settings of the block in the form of package notify. server is the
// name of this daemon's server block, "" while there is only one.
func (s *commitStatusBlock) config(server string) notify.CommitConfig {
	name := s.Context
	if name == "" {
		if name = "dlreconcile"; server != "" {
			name += "/" + server
		}
	}
	return notify.CommitConfig{Forge: notify.Forge(s.Forge), URL: s.URL, Project: s.Project, Context: name}
}

// checkNotify says what is wrong with who is told.
func (b *daemonBlocks) checkNotify() hcl.Diagnostics {
	var diags hcl.Diagnostics
	wrong := func(at hcl.Range, summary, detail string) {
		diags = append(diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: &at})
	}
	if s := b.CommitStatus; s != nil {
		if _, err := notify.NewCommitStatus(s.config("")); err != nil {
			wrong(s.At, "Invalid commit_status", sentence(err))
		}
	}
	seen := map[string]bool{}
	for _, n := range b.Notify {
		if seen[n.Name] {
			wrong(n.At, "Duplicate notify", fmt.Sprintf("There is another notify block %q already: the metrics could not tell the two apart.", n.Name))
		}
		seen[n.Name] = true
		if _, err := notify.NewHook(notify.HookConfig{URL: n.URL, Events: n.Events}); err != nil {
			wrong(n.At, "Invalid notify", sentence(err))
		}
	}
	return diags
}

// sentence makes one of an error.
func sentence(err error) string { return "The " + err.Error() + "." }

// tellers gives what tells others what the daemon does. state is the state directory.
func (b *daemonBlocks) tellers(h *house, state, server string) ([]func(context.Context) error, error) {
	var parts []func(context.Context) error
	counts := map[string]func() notify.Counts{}
	if s := b.CommitStatus; s != nil {
		token := keyfile.Secret(s.TokenFile, leastForgeToken).Told(unreadable(h.log, "commit_status"))
		_, _ = token.Get() // told now, not at the first commit
		cfg := s.config(server)
		cfg.Token, cfg.Log = token.Get, h.log.With("notify", "commit_status")
		cfg.File = filepath.Join(state, "commit-status.json")
		status, err := notify.NewCommitStatus(cfg)
		if err != nil {
			return nil, err
		}
		counts["commit_status"] = status.Counts
		parts = append(parts, func(ctx context.Context) error { return status.Run(ctx, h.engine) })
	}
	for _, n := range b.Notify {
		cfg := notify.HookConfig{URL: n.URL, Events: n.Events, Server: server, Log: h.log.With("notify", n.Name)}
		if n.SecretFile != "" {
			secret := keyfile.Secret(n.SecretFile, leastWebhookSecret).Told(unreadable(h.log, "notify "+n.Name))
			_, _ = secret.Get()
			cfg.Secret = secret.Get
		}
		hook, err := notify.NewHook(cfg)
		if err != nil {
			return nil, err
		}
		counts["notify."+n.Name] = hook.Counts
		parts = append(parts, func(ctx context.Context) error { return hook.Run(ctx, h.nodes) })
	}
	if len(counts) > 0 {
		readNotify(h.meter, counts)
	}
	return parts, nil
}

// readNotify shows what became of messages, by target.
func readNotify(m *metrics.Metrics, counts map[string]func() notify.Counts) {
	targets := slices.Sorted(maps.Keys(counts))
	m.Read(metrics.NotifyDeliveries, func() (list []metrics.Counter) {
		for _, t := range targets {
			c := counts[t]()
			list = append(list,
				metrics.Counter{Labels: []string{t, "delivered"}, Value: float64(c.Delivered)},
				metrics.Counter{Labels: []string{t, "failed"}, Value: float64(c.Failed)},
				metrics.Counter{Labels: []string{t, "dropped"}, Value: float64(c.Dropped)})
		}
		return list
	})
	m.Read(metrics.NotifyOutstanding, func() (list []metrics.Counter) {
		for _, t := range targets {
			list = append(list, metrics.Counter{Labels: []string{t}, Value: float64(counts[t]().Outstanding)})
		}
		return list
	})
}
