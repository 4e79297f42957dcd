package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/keyfile"
	"github.com/dlreconcile/dlreconcile/engine/webhook"
)

// listenAgain is how long after a listener failed it is tried again.
const listenAgain = 5 * time.Second

// network gives what serves the listeners that daemon.hcl has for people and forges.
// Machines boot without them, so what fails there is told in the log and tried again.
func (b *daemonBlocks) network(h *house, srv *api.Server) []func(context.Context) error {
	var parts []func(context.Context) error
	part := func(what, address string, serve func(context.Context, net.Listener) error) {
		parts = append(parts, func(ctx context.Context) error {
			return keepListening(ctx, h.log.With("listener", what), address, hurryListen(listenAgain), serve)
		})
	}
	if a := b.API; a != nil {
		conf := api.TCP{Certificate: keyfile.Pair(a.TLSCert, a.TLSKey).Told(unreadable(h.log, "api"))}
		if a.ClientCA != "" {
			conf.ClientCA = keyfile.Authorities(a.ClientCA).Told(unreadable(h.log, "api"))
			_, _ = conf.ClientCA.Get()
		}
		_, _ = conf.Certificate.Get() // told now, not when somebody connects
		part("api", a.Listen, func(ctx context.Context, l net.Listener) error { return srv.ServeTCP(ctx, l, conf) })
	}
	if w := b.Webhook; w != nil {
		secret := keyfile.Secret(w.SecretFile, leastWebhookSecret).Told(unreadable(h.log, "webhook"))
		_, _ = secret.Get()
		conf := webhook.Config{Secret: secret.Get, Poke: h.engine.Poke, Log: h.log}
		if w.TLSCert != "" {
			pair := keyfile.Pair(w.TLSCert, w.TLSKey).Told(unreadable(h.log, "webhook"))
			_, _ = pair.Get()
			conf.Certificate = func() (*tls.Certificate, error) {
				if c, err := pair.Get(); c == nil {
					return nil, err
				} else {
					return c, nil // the last good one
				}
			}
		}
		hook := webhook.New(conf)
		readWebhook(h.meter, hook)
		part("webhook", w.Listen, hook.Serve)
	}
	if m := b.Metrics; m != nil {
		part("metrics", m.Listen, func(ctx context.Context, l net.Listener) error { return h.meter.Serve(ctx, l, h.log) })
	}
	return parts
}

// unreadable tells of a file of keys that cannot be used.
func unreadable(log *slog.Logger, what string) func(error) {
	return func(err error) { log.Error("a file of keys cannot be used", "listener", what, "error", err) }
}

// keepListening serves on a listener of its own until ctx ends. When it cannot be had, or
// fails, it is tried again after a while.
func keepListening(ctx context.Context, log *slog.Logger, address string, after time.Duration, serve func(context.Context, net.Listener) error) error {
	told := ""
	for {
		l, err := bind(ctx, address)
		if err == nil {
			log.Info("listening", "address", l.Addr().String())
			told = ""
			err = serve(ctx, l)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = errors.New("it ended for no reason given")
		}
		if err.Error() != told {
			told = err.Error()
			log.Error("a listener fails, and is tried again", "address", address, "error", err)
		}
		again := time.NewTimer(after)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return nil
		}
	}
}

func bind(ctx context.Context, address string) (net.Listener, error) {
	if err := failpoint.Hit("network.bind.begin"); err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if err := failpoint.Hit("network.bind.end"); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}
