package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/handover"
)

func (c *cli) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Follow the repo and serve what it describes",
		Long: `serve is the daemon. It first serves the generation recorded in the state directory,
without touching the network, and then follows the repo: every new commit is planned,
prepared, checked and published, or refused with the reason in ` + "`dlreconcile status`" + `.

It needs the right to bind its ports (67, 69, 80 and 10809 unless the configuration
says otherwise) and, to build images, root. It logs to stderr, as text on a terminal
and as JSON elsewhere. SIGINT and SIGTERM end it in good order; machines that run keep
their roots, and go on when it is back. SIGHUP makes it look at the repo at once, and say
which lines of daemon.hcl have changed and count only from its next start.

Exit codes: 0 ended by a signal, 1 failed, 5 another process holds the state directory.`,
		Example: "  dlreconcile serve --repo https://git.example/site.git --ref main",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.serve(cmd.Context())
		},
	}
}

func (c *cli) serve(ctx context.Context) (err error) {
	c.daemon = true
	c.kept = handover.FromEnvironment(c.logger())
	if os.Getenv("GOGC") == "" {
		// Each commit to a large site is a burst of garbage beside tables that stay:
		// memory is worth more here than the little time.
		debug.SetGCPercent(30)
	}
	if err := c.checkSocket(); err != nil {
		return err
	}
	files, err := mayOpen()
	if err != nil {
		return err
	}
	if diags := c.settings.blocks.NBD.checkFiles(files, c.logger()); diags.HasErrors() {
		return diags
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // which would end it, from here on
	defer signal.Stop(hup)
	h, err := c.wire(wireServe)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	l, err := api.Listen(ctx, c.kept, c.settings.Socket)
	if err != nil {
		return err
	}
	return c.serveOn(ctx, h, l, hup)
}

// serveOn serves until ctx ends. A nil hup never comes.
func (c *cli) serveOn(ctx context.Context, h *house, l net.Listener, hup <-chan os.Signal) error {
	srv := &api.Server{Engine: h.engine, Nodes: h.nodes, Store: h.store, Log: h.log, Metrics: h.meter.Handler(), Overlays: h.overlays, Principals: c.settings.blocks.principals(h.log)}
	tellers, err := c.settings.blocks.tellers(h, c.settings.State, c.settings.Server)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return srv.Serve(ctx, l) })
	for _, part := range append(c.settings.blocks.network(h, srv), tellers...) {
		g.Go(func() error { return part(ctx) })
	}
	g.Go(func() error { return c.hangups(ctx, hup, h) })
	g.Go(func() error { return h.nodes.Run(ctx) })
	g.Go(func() error { return h.clock.Run(ctx) })
	ready := make(chan struct{})
	g.Go(func() error { return c.letGo(ctx, ready) })
	g.Go(func() error {
		return h.engine.Run(ctx, func() {
			close(ready)
			h.log.Info("ready", "repo", c.settings.Repo, "state", c.settings.State, "socket", c.settings.Socket)
			// Not under systemd: there is nobody to tell, which is no error.
			_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
		})
	})
	if err := g.Wait(); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// letGoAfter is how long after the recorded generations are served what nobody has taken
// of the process before is closed: listeners of older generations are bound a little later.
const letGoAfter = 2 * time.Second

func (c *cli) letGo(ctx context.Context, ready <-chan struct{}) error {
	select {
	case <-ready:
	case <-ctx.Done():
		return nil
	}
	after := time.NewTimer(letGoAfter)
	defer after.Stop()
	select {
	case <-after.C:
		c.kept.Rest()
	case <-ctx.Done():
	}
	return nil
}

// logger logs text to a terminal and JSON elsewhere. Commands that end by
// themselves print what they have to say, and log only what goes wrong.
func (c *cli) logger() *slog.Logger {
	o := &slog.HandlerOptions{Level: slog.LevelWarn}
	if c.daemon {
		o.Level = slog.LevelInfo
	}
	if isTerminal(c.err) && !c.json {
		return slog.New(slog.NewTextHandler(c.err, o))
	}
	return slog.New(slog.NewJSONHandler(c.err, o))
}
