package dhcp_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
	"github.com/dlreconcile/dlreconcile/schema"
)

// proxying is desired with its subnet in proxy mode: no pool, no reservation.
func proxying() *schema.Desired {
	d := desired()
	d.Subnets[0].Mode, d.Subnets[0].Pools = schema.ModeProxy, nil
	d.Hosts[0].Address, d.Hosts[0].Subnet = netip.Addr{}, schema.Addr{}
	return d
}

func TestProxyAnswer(t *testing.T) {
	d := newDaemon(t, "")
	w := proxying()
	d.offline(1, w, built())
	offer := func(class, file string, more ...string) map[string]string {
		m := map[string]string{"yiaddr": "0.0.0.0", "siaddr": "10.0.0.1", "file": file, "sname": "", "option 54 server-identifier": "10.0.0.1",
			"option 60 vendor-class": class, "option 67 boot-file-name": file}
		if !strings.Contains(file, "://") {
			m["option 66 tftp-server-name"] = "10.0.0.1"
		}
		return m
	}
	const other = "addresses on subnet.lan come from another DHCP server"
	own, any := schema.Range{File: "site.hcl", Line: 30, Column: 1}, schema.Range{File: "site.hcl", Line: 10, Column: 1}
	for name, c := range map[string]struct {
		q    provider.Query
		want provider.Answer
	}{
		"UEFI":      {provider.Query{MAC: mac1, Vendor: "PXEClient", Arch: 7}, provider.Answer{Name: "b/own/snponly.efi", Server: "10.0.0.1:67", Range: own, Fields: offer("PXEClient", "b/own/snponly.efi")}},
		"HTTP boot": {provider.Query{MAC: mac2, Vendor: "HTTPClient", Arch: 16}, provider.Answer{Name: "http://10.0.0.1/b/any/snponly.efi", Server: "10.0.0.1:67", Range: any, Fields: offer("HTTPClient", "http://10.0.0.1/b/any/snponly.efi")}},
		"iPXE, with an address": {provider.Query{MAC: mac1, Vendor: "PXEClient", Class: "iPXE", Address: ip("10.0.0.77")},
			provider.Answer{Name: "http://10.0.0.1/b/own/boot.ipxe", Server: "10.0.0.1:67", Range: own, Fields: offer("PXEClient", "http://10.0.0.1/b/own/boot.ipxe")}},
		"the initramfs": {provider.Query{MAC: mac1}, provider.Answer{Range: own, Text: other, Fields: map[string]string{}}},
		"no boot file": {provider.Query{MAC: mac1, Vendor: "PXEClient", Arch: 11},
			provider.Answer{Range: own, Text: other, Fields: map[string]string{}, Fail: "no boot file for client architecture 11 (UEFI ARM, 64 bits; TFTP)"}},
	} {
		c.q.Generation = 1
		c.want.Kind, c.want.Provider, c.want.Protocol = provider.AnswerDHCP, "dhcp", "dhcp"
		if diff := cmp.Diff(c.want, fields(t, d.Answer(c.q))); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
	w = proxying()
	w.Subnets[0].Boot = nil
	d.offline(2, w, built())
	if a := fields(t, d.Answer(provider.Query{Generation: 2, MAC: mac1, Vendor: "PXEClient"})); a.Fail != "" || a.Text != other {
		t.Errorf("nothing to boot: %+v", a)
	}
}

// boot_file_name by hand may name an alias: a path that the boot loader's provider
// resolves, at the server that the answer names.
func TestAliasByHand(t *testing.T) {
	for _, w := range []*schema.Desired{desired(), proxying()} {
		d := newDaemon(t, "")
		w.Subnets[0].BootFileName = map[uint16]string{0: "pxelinux.0", 7: "grub/x86_64-efi/core.efi"}
		d.offline(1, w, built())
		a := fields(t, d.Answer(provider.Query{Generation: 1, MAC: mac2, Vendor: "PXEClient", Arch: 7, Address: ip("10.0.0.250")}))
		if a.Name != "grub/x86_64-efi/core.efi" || a.Fields["file"] != a.Name || a.Fields["siaddr"] != "10.0.0.1" || a.Fields["option 66 tftp-server-name"] != "10.0.0.1" {
			t.Errorf("mode %q: %+v", w.Subnets[0].Mode, a)
		}
	}
}

// A lease that ran out says nothing where another server gives out the address since.
func TestLookupOnAProxiedSubnet(t *testing.T) {
	d := newDaemon(t, "")
	store, err := lease.Open(d.db, d.clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Bind(lease.Want{MAC: lease.MAC(mac2), Network: "subnet.lan", Reserved: ip("10.0.0.21")}, ip("10.0.0.21"), time.Minute); err != nil {
		t.Fatal(err)
	}
	d2 := newDaemon(t, copyDB(t, d.db))
	x, err := d2.Prepare(t.Context(), input(1, onLoopback(t, proxying()), built()))
	if err != nil {
		t.Fatal(err)
	}
	x.Commit()
	if err := stopped(d2); err != nil {
		t.Error(err)
	}
	if c, ok := d2.Lookup(ip("10.0.0.21")); !ok || c.MAC != mac2 {
		t.Errorf("leased: %+v", c)
	}
	d2.clock.Add(time.Hour)
	if c, ok := d2.Lookup(ip("10.0.0.21")); ok {
		t.Errorf("its lease ran out: %+v", c)
	}
}
