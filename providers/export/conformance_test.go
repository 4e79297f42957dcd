package export

import (
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

func TestConformance(t *testing.T) {
	providertest.Run(t, providertest.Harness{
		Inputs: conformanceInputs,
		Open: func(t *testing.T, state string) provider.Provider {
			content, err := store.OpenContent(state)
			if err != nil {
				t.Fatal(err)
			}
			p, err := New(Config{Content: content, Dir: filepath.Join(state, "overlays"), Clients: &who{}})
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		Lose: func(_ *testing.T, p provider.Provider) (lost []string) {
			p.(*Provider).socks.Each(func(at netip.AddrPort, l net.Listener) {
				l.Close()
				lost = append(lost, "nbd "+at.String())
			})
			return lost
		},
	})
}

func conformanceInputs(t *testing.T, state string) providertest.Inputs {
	t.Helper()
	content, err := store.OpenContent(state)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, content: content, addr: freePort(t)}
	one, _ := r.artifact(1, 64<<10)
	two, _ := r.artifact(2, 128<<10)
	in := providertest.Inputs{
		One: r.input(0, one), Two: r.input(0, two), Moved: r.input(0, one),
		Queries: []provider.Query{
			{MAC: testMAC, Host: hostWS01},
			{MAC: provider.MAC{2}, Subnet: subnetLAN},
			{MAC: provider.MAC{3}, Address: loopback},
		},
	}
	listen := func(in provider.Input, at netip.AddrPort) {
		in.Want.Servers[0].NBD.Listen = at
	}
	listen(in.Moved, freePort(t))

	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	in.Taken = r.input(0, one)
	listen(in.Taken, taken.Addr().(*net.TCPAddr).AddrPort())

	// The second of two exports is the one that cannot be served.
	missing := r.input(0, two)
	gone := schema.Addr{Kind: "image", Name: "gone"}
	missing.Want.Exports[1].Image = gone
	missing.Built[gone] = provider.Output{Artifact: &provider.Artifact{Root: provider.Blob{Digest: "sha256:" + strings.Repeat("00", 32), Size: 1}}}

	unbuilt := r.input(0, two)
	unbuilt.Want.Exports[1].Image = schema.Addr{Kind: "image", Name: "unbuilt"}

	off := r.input(0, two)
	off.Want.Servers[0].NBD.Disabled = true

	in.Bad = map[string]provider.Input{"blob is missing": missing, "nothing was built": unbuilt, "NBD is off": off}
	return in
}
