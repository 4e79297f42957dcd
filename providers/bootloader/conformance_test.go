package bootloader

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// programsDir is where conformanceInputs puts boot programs, below the state
// directory.
const programsDir = "ipxe"

func TestConformance(t *testing.T) {
	providertest.Run(t, providertest.Harness{
		Inputs: conformanceInputs,
		Open: func(t *testing.T, state string) provider.Provider {
			content, err := store.OpenContent(state)
			if err != nil {
				t.Fatal(err)
			}
			p, err := New(Config{Content: content, LoaderDirs: []string{filepath.Join(state, programsDir)}})
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		Lose: func(_ *testing.T, p provider.Provider) (lost []string) {
			p.(*Provider).tftp.Each(func(at netip.AddrPort, c *net.UDPConn) {
				c.Close()
				lost = append(lost, "tftp "+at.String())
			})
			p.(*Provider).http.Each(func(at netip.AddrPort, l *net.TCPListener) {
				l.Close()
				lost = append(lost, "http "+at.String())
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
	b := &bench{t: t, content: content, files: map[string][]byte{}}
	dir := filepath.Join(state, programsDir)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{fullEFI, snponly, undionly} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat(name, 1000)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	one, two := b.artifact("one"), b.artifact("two")
	two.Settles = true
	where := loopback(t, site()).Servers[0]
	input := func(art provider.Artifact, edit func(*schema.Desired)) provider.Input {
		b.art = art
		d := site()
		d.Servers[0].Address, d.Servers[0].TFTP.Listen, d.Servers[0].HTTP.Listen = where.Address, where.TFTP.Listen, where.HTTP.Listen
		if edit != nil {
			edit(d)
		}
		return b.input(d)
	}
	in := providertest.Inputs{
		One: input(one, nil),
		Two: input(two, func(d *schema.Desired) { d.Hosts[1].Args = []string{"debug"} }),
		Moved: input(one, func(d *schema.Desired) {
			d.Servers[0].TFTP.Listen = netip.AddrPortFrom(where.Address, freePort(t))
			d.Servers[0].HTTP.Listen = netip.AddrPortFrom(where.Address, freePort(t))
		}),
	}
	for _, class := range []string{"", classIPXE} {
		in.Queries = append(in.Queries,
			provider.Query{Host: ws01, Class: class},
			provider.Query{Host: ws02, Subnet: lan, Arch: 7, Class: class, MAC: provider.MAC{0x52, 0x54, 0, 0, 0, 2}},
			provider.Query{Host: ws01, Class: class, File: undionly},
			provider.Query{Host: ws01, Class: class, File: scriptName},
			provider.Query{Subnet: lan, Arch: 16, Vendor: vendorHTTP, Class: class, MAC: provider.MAC{2}},
		)
	}

	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close() })
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close() })

	in.Taken = input(one, func(d *schema.Desired) {
		d.Servers[0].TFTP.Listen = netip.AddrPortFrom(where.Address, freePort(t))
		d.Servers[0].HTTP.Listen = tcp.Addr().(*net.TCPAddr).AddrPort()
	})
	missing := input(one, nil)
	missing.Built[archImage].Artifact.Kernel = provider.Blob{Digest: "sha256:" + strings.Repeat("00", 32), Size: 1}
	in.Bad = map[string]provider.Input{
		"TFTP port in use": input(two, func(d *schema.Desired) {
			d.Servers[0].TFTP.Listen = udp.LocalAddr().(*net.UDPAddr).AddrPort()
			d.Servers[0].HTTP.Listen = netip.AddrPortFrom(where.Address, freePort(t))
		}),
		"blob is missing": missing,
		"nothing to fetch from": input(two, func(d *schema.Desired) {
			d.Servers[0].TFTP.Disabled, d.Servers[0].HTTP.Disabled = true, true
		}),
		"kernel line is too long": input(two, func(d *schema.Desired) {
			d.Hosts[0].Args = []string{strings.Repeat("a.b=c", 1000)}
		}),
	}
	return in
}
