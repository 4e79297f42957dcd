package api

import (
	"encoding/json"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/explain"
	"github.com/dlreconcile/dlreconcile/engine/provider"
)

func TestExplain(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	d.repo.commit(site("two"))
	if err := d.poll(); err != nil {
		t.Fatal(err)
	}
	d.served(2)
	for machine, want := range map[string]string{
		"52:54:00:00:00:01": "host.ws01", "52-54-00-00-00-01": "host.ws01", "host.ws01": "host.ws01", "ws01": "host.ws01", "10.0.0.21": "host.ws01",
		"10.0.0.200": "02:00:00:00:00:00", "52:54:00:00:00:99": "52:54:00:00:00:99",
	} {
		var r explain.Result
		if err := d.Get(t.Context(), "/v1/explain", url.Values{"machine": {machine}, "arch": {"0x7"}, "class": {"iPXE"}}, &r); err != nil {
			t.Errorf("%s: %v", machine, err)
			continue
		}
		if r.Machine != want || r.Arch != 7 || r.Class != "iPXE" || len(r.Steps) != 1 || r.Steps[0].Fields["domain name"] != "two" {
			t.Errorf("%s: %+v", machine, r)
		}
	}
	var r explain.Result
	if err := d.Get(t.Context(), "/v1/explain", url.Values{"machine": {"ws01"}, "generation": {"1"}}, &r); err != nil || r.Steps[0].Fields["domain name"] != "one" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, q := range []url.Values{
		{}, {"machine": {"nobody"}}, {"machine": {"10.0.0.77"}}, {"machine": {"10.9.0.1"}, "file": {"x"}}, {"machine": {"ws01"}, "arch": {"x86"}}, {"machine": {"ws01"}, "arch": {"65536"}},
		{"machine": {"ws01"}, "generation": {"-1"}}, {"machine": {"ws01"}, "file": {""}}, {"machine": {"ws01"}, "all": {"1"}}, {"all": {"1"}, "generation": {"1"}},
	} {
		if err := d.Get(t.Context(), "/v1/explain", q, &r); err == nil {
			t.Errorf("%v: no error", q)
		}
	}
}

// more is a second host, a pool that takes machines without a host block, and a subnet
// whose addresses somebody else gives out.
const more = `
subnet "guests" {
  cidr = "10.1.0.0/24"
  pool {
    range = "10.1.0.100-10.1.0.200"
  }
}

subnet "office" {
  cidr = "10.2.0.0/24"
  mode = "proxy"
}

host "ws02" {
  mac     = "52:54:00:00:00:02"
  address = "10.0.0.22"
}
`

// explainAll gives what the daemon says of every machine, a line each.
func (d *daemon) explainAll(q url.Values) []string {
	d.t.Helper()
	var lines []string
	if err := d.Lines(d.t.Context(), "/v1/explain", q, func(raw json.RawMessage) error {
		lines = append(lines, string(raw))
		return nil
	}); err != nil {
		d.t.Fatal(err)
	}
	return lines
}

func TestExplainAll(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	d.repo.commit(site("two") + more)
	if err := d.poll(); err != nil {
		t.Fatal(err)
	}
	d.served(2)
	d.saw(provider.MAC{0x52, 0x54, 0, 0, 0, 2}, 7)
	for _, tc := range []struct {
		q     url.Values
		archs string
	}{
		{url.Values{"all": {"1"}}, "0700"},
		{url.Values{"all": {"1"}, "arch": {"uefi-http"}, "class": {"iPXE"}}, "gggg"},
	} {
		var who, archs strings.Builder
		for _, l := range d.explainAll(tc.q) {
			var r explain.Result
			if err := json.Unmarshal([]byte(l), &r); err != nil {
				t.Fatal(err)
			}
			who.WriteString(r.Machine + " " + r.Subnet.String() + "\n")
			archs.WriteByte("0123456789abcdefg"[r.Arch])
			if len(r.Steps) != 1 || r.Class != tc.q.Get("class") {
				t.Errorf("%s", l)
			}
		}
		if want := "host.ws01 subnet.lan\nhost.ws02 subnet.lan\n02:00:00:00:00:00 subnet.guests\n02:00:00:00:00:00 subnet.office\n"; who.String() != want {
			t.Errorf("machines\n%swant\n%s", who.String(), want)
		}
		if archs.String() != tc.archs {
			t.Errorf("client architectures %s, want %s", archs.String(), tc.archs)
		}
	}
	// The same for one machine: what it was seen with, unless somebody says otherwise.
	for arch, want := range map[string]uint16{"": 7, "0": 0} {
		var r explain.Result
		if err := d.Get(t.Context(), "/v1/explain", url.Values{"machine": {"ws02"}, "arch": {arch}}, &r); err != nil || r.Arch != want {
			t.Errorf("arch %q: %+v, %v", arch, r, err)
		}
	}
}

// saw has the daemon hear a DHCP packet of a machine's firmware.
func (d *daemon) saw(mac provider.MAC, arch uint16) {
	d.t.Helper()
	if _, err := d.nodes.Boot(provider.Contact{MAC: mac, Discover: true, Vendor: "PXEClient"}); err != nil {
		d.t.Fatal(err)
	}
	d.nodes.Event(provider.Event{Kind: provider.EventDiscover, MAC: mac, Vendor: "PXEClient", Arch: arch, HasArch: true, Protocol: "dhcp"})
	d.nodes.Event(provider.Event{Kind: provider.EventAck, MAC: mac, Addr: netip.MustParseAddr("10.0.0.22"), Vendor: "PXEClient", Arch: arch, HasArch: true, Protocol: "dhcp"})
}

// A machine whose address somebody else gave out is known by that.
func TestExplainAddressOfAnotherServer(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	d.repo.commit(site("two") + more)
	if err := d.poll(); err != nil {
		t.Fatal(err)
	}
	d.served(2)
	for _, q := range []url.Values{
		{"machine": {"10.2.0.77"}},
		{"machine": {provider.AddressMAC(netip.MustParseAddr("10.2.0.77")).String()}},
		{"machine": {"10.2.0.77"}, "file": {"grub/core.0"}},
	} {
		var r explain.Result
		if err := d.Get(t.Context(), "/v1/explain", q, &r); err != nil || r.Machine != "10.2.0.77" || r.Subnet.Name != "office" {
			t.Errorf("%v: %+v, %v", q, r, err)
		}
		if asked := len(r.Steps) == 1; asked == q.Has("file") {
			t.Errorf("%v: %+v", q, r.Steps)
		}
	}
	// Anywhere, when somebody says what another server names.
	var r explain.Result
	if err := d.Get(t.Context(), "/v1/explain", url.Values{"machine": {"10.1.0.77"}, "file": {"grub/core.0"}}, &r); err != nil || r.Subnet.Name != "guests" {
		t.Errorf("%+v, %v", r, err)
	}
	if err := d.Get(t.Context(), "/v1/explain", url.Values{"machine": {"10.1.0.77"}}, &r); err == nil {
		t.Error("an address that nobody has is explained")
	}
}

func TestMachineMistakes(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	for _, text := range []string{"", "10.0.0.200"} { // without anybody to ask about leases
		if _, err := Machine(d.engine.Desired(), text, provider.Query{}, nil, false); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}
