package main

import (
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/identity"
	"github.com/dlreconcile/dlreconcile/engine/metrics"
	"github.com/dlreconcile/dlreconcile/engine/node"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/providers/bootloader"
	"github.com/dlreconcile/dlreconcile/providers/dhcp"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
	"github.com/dlreconcile/dlreconcile/providers/export"
	"github.com/dlreconcile/dlreconcile/providers/image"
)

// buildLinger is how long a build that a newer commit cancelled goes on: that
// commit usually wants the same image.
const buildLinger = time.Minute

// wireMode says what a command needs besides the state directory.
type wireMode int

const (
	wireRecords wireMode = iota // nothing: only what is recorded
	wireRepo                    // the repo
	wireServe                   // the repo; but without it what is recorded is served
)

// house is everything that serves, wired.
type house struct {
	store  *store.Store
	source engine.Source // nil: none is followed
	clock  *store.Clock
	nodes  *node.Tracker
	meter  *metrics.Metrics
	engine *engine.Engine
	log    *slog.Logger

	overlays provider.Overlays
}

func (h *house) Close() error { return h.store.Close() }

// wire opens the state directory and puts the parts together. The order of the
// providers is the order of Prepare and Commit.
func (c *cli) wire(mode wireMode) (*house, error) {
	if mode != wireServe {
		if err := c.here(); err != nil {
			return nil, err
		}
	}
	log := c.logger()
	o := store.Options{Log: log, Records: map[string]store.Records{
		lease.Bucket: {Whole: lease.Whole, Stray: lease.Stray, Younger: lease.Younger},
		node.Bucket:  {Whole: node.Whole},
	}}
	hurryStore(&o)
	st, err := store.Open(c.settings.State, o)
	if err != nil {
		return nil, err
	}
	h := &house{store: st, log: log}
	if err := c.wireParts(h, mode); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func (c *cli) wireParts(h *house, mode wireMode) error {
	if err := c.wireSource(h, mode); err != nil {
		return err
	}
	// The node record asks the DHCP provider who holds an address, and the DHCP
	// provider asks the node record which generation a machine is pinned to.
	var leases *dhcp.Provider
	var err error
	if h.clock, err = h.store.Clock(store.Ticks{}); err != nil {
		return err
	}
	now := h.clock.Now
	h.meter = metrics.New(buildVersion().String())
	nodes := node.Config{
		DB:         h.store.DB(),
		Log:        h.log,
		Now:        now,
		Wall:       h.clock.Wall,
		FirstEvent: uint64(max(0, now().UnixMicro())), // rises from process to process
		Lookup: func(a netip.Addr) (provider.Client, bool) {
			return leases.Lookup(a)
		},
		Current: func() uint64 { return h.engine.Generation() },
		Pinned:  func(mac provider.MAC) uint64 { return h.engine.Pinned(mac) },
	}
	hurryNodes(&nodes)
	if h.nodes, err = node.New(nodes); err != nil {
		return err
	}
	h.store.DB().Keep(node.Bucket, h.nodes.Fill)
	sink := h.meter.Tap(h.nodes)
	// Leases show how far the clock had come; only then it can say when some were lost.
	lost := func(newest time.Time) time.Time {
		h.clock.Reached(newest)
		return h.clock.Lost()
	}
	leases, err = dhcp.New(dhcp.Config{DB: h.store.DB(), Sessions: h.nodes, Sink: sink, Probe: c.settings.blocks.Drift.probeEvery(), Now: now, Lost: lost, Log: h.log, Kept: c.kept})
	if err != nil {
		return err
	}
	h.store.DB().Keep(lease.Bucket, leases.Fill)
	images, err := image.New(image.Config{Content: h.store.Content(), Log: h.log, Linger: buildLinger})
	if err != nil {
		return err
	}
	exports, err := export.New(export.Config{
		Content: h.store.Content(), Dir: filepath.Join(c.settings.State, "overlays"),
		Clients: h.nodes, Sink: sink, Now: now, Log: h.log,
		Limits: c.settings.blocks.NBD.limits(),
		TLS:    c.settings.blocks.NBD.tls(h.log), Socket: c.settings.nbdSocket(), Kept: c.kept,
	})
	if err != nil {
		return err
	}
	loaders, err := bootloader.New(bootloader.Config{Content: h.store.Content(), Clients: h.nodes, Sessions: h.nodes, Sink: sink, Now: now, Log: h.log, Kept: c.kept})
	if err != nil {
		return err
	}
	readDHCP(h.meter, leases)
	readTransfers(h.meter, loaders)
	readExports(h.meter, exports)
	h.overlays = exports
	readDisk(h.meter, c.settings.State, h.log)
	cfg := engine.Config{
		Store:     h.store,
		Source:    h.source,
		Providers: []provider.Provider{images, exports, loaders, leases},
		Nodes:     h.nodes,
		Notes:     h.nodes,
		Meter:     h.meter,
		Server:    c.settings.Server,
		Vars:      c.settings.Vars,
		Env:       c.settings.Env,
		Open:      identity.File{Path: c.settings.AgeIdentity}.Open,
		Settings:  c.settings.judging,
		Drift:     c.settings.blocks.Drift.driftTimes(),
		Unwatched: c.settings.blocks.Drift.unwatched(),
		Log:       h.log,
	}
	if c.around != nil {
		for i, p := range cfg.Providers {
			cfg.Providers[i] = c.around(p)
		}
	}
	if c.limits != nil {
		c.limits(&cfg)
	}
	hurryEngine(&cfg)
	h.engine = engine.New(cfg)
	h.meter.Watch(h.engine)
	return nil
}

// wireSource opens the repo. A daemon that has something to serve waits for a repo
// that is not there: its machines do not need it.
func (c *cli) wireSource(h *house, mode wireMode) error {
	if mode == wireRecords {
		return nil
	}
	open := func() (*source.Source, error) { return c.openSource(filepath.Join(c.settings.State, "mirror")) }
	src, err := open()
	if err == nil {
		h.source = src
		return nil
	}
	err = c.ofRepo(err)
	if mode != wireServe {
		return err
	}
	switch _, recorded, broken := h.store.Current(); {
	case broken != nil:
		return errors.Join(err, broken)
	case !recorded:
		return err
	}
	h.log.Warn("the repo cannot be opened; serving what is recorded, and trying again", "error", err)
	h.source = &patientSource{open: open, every: c.settings.Poll}
	return nil
}

// openSource opens the repo. mirror is where a remote one is kept.
func (c *cli) openSource(mirror string) (*source.Source, error) {
	return source.Open(source.Config{
		Repo: c.settings.Repo, Ref: c.settings.Ref, Path: c.settings.Path, TokenFile: c.settings.TokenFile,
		Mirror: mirror, Poll: c.settings.Poll, Trust: c.settings.blocks.Trust.trust(), Limits: c.settings.blocks.Limits.sourceLimits(), Log: c.logger(),
	})
}
