package dhcp_test

import (
	"path/filepath"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/providers/dhcp"
	"github.com/dlreconcile/dlreconcile/schema"
)

func TestConformance(t *testing.T) {
	t.Run("server", func(t *testing.T) { conforms(t, schema.ModeServer) })
	t.Run("proxy", func(t *testing.T) { conforms(t, schema.ModeProxy) })
}

func conforms(t *testing.T, mode schema.SubnetMode) {
	providertest.Run(t, providertest.Harness{
		Inputs: func(t *testing.T, _ string) providertest.Inputs { return conformanceInputs(t, mode) },
		Open: func(t *testing.T, state string) provider.Provider {
			nodes := &machines{pinned: map[provider.MAC]uint64{}}
			p, err := dhcp.New(dhcp.Config{DB: openDB(t, filepath.Join(state, "state.db")), Sessions: nodes, Sink: nodes})
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		Lose: func(_ *testing.T, p provider.Provider) []string { return p.(*dhcp.Provider).LoseSockets() },
	})
}

func conformanceInputs(t *testing.T, mode schema.SubnetMode) providertest.Inputs {
	t.Helper()
	listen := onLoopback(t, desired()).Servers[0].DHCP.Listen
	moved := onLoopback(t, desired())
	moved.Subnets[0].Mode = mode
	site := func(edit func(*schema.Desired)) *schema.Desired {
		d := desired()
		d.Servers[0].Interface, d.Servers[0].DHCP.Listen = "", listen
		d.Subnets[0].Mode = mode
		if edit != nil {
			edit(d)
		}
		return d
	}
	return providertest.Inputs{
		One: input(0, site(nil), built("own1", "any1")),
		Two: input(0, site(func(d *schema.Desired) {
			d.Hosts[0].Address = ip("10.0.0.22")
			d.Subnets[0].Pools[0].From = ip("10.0.0.251")
		}), built("own2", "any2")),
		Moved: input(0, moved, built("own1", "any1")),
		Queries: []provider.Query{
			{Host: ws01},
			{MAC: mac1, Vendor: "PXEClient", Arch: 7},
			{MAC: mac1, Vendor: "PXEClient", Class: "iPXE"},
			{MAC: mac2, Subnet: lan, Vendor: "HTTPClient", Arch: 16},
		},
		Bad: map[string]provider.Input{
			"no such interface": input(0, site(func(d *schema.Desired) { d.Servers[0].Interface = "nosuch0" }), built()),
			"no such server":    input(0, site(func(d *schema.Desired) { d.Subnets[0].Server = schema.Addr{Kind: "server", Name: "other"} }), built()),
			"no hardware address": input(0, site(func(d *schema.Desired) {
				d.Hosts[0].MAC = "nonsense"
			}), built()),
		},
	}
}
