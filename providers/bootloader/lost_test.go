package bootloader

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/providers/internal/faultnet"
)

// TestServerInItsOwnNamespace is the server of TestListenersGoAndCome. It prints its
// drift.
func TestServerInItsOwnNamespace(t *testing.T) {
	if !faultnet.InChild() {
		return // another test starts it
	}
	b := newBench(t)
	d := site()
	s := d.Servers[0]
	s.Address = netip.MustParseAddr("10.0.0.1")
	s.TFTP.Listen, s.HTTP.Listen = netip.AddrPortFrom(s.Address, 69), netip.AddrPortFrom(s.Address, 80)
	b.prepare(d).Commit()
	b.run()
	faultnet.Report(func() string {
		list, err := json.Marshal(append([]provider.Drift{}, b.Drift()...))
		if err != nil {
			t.Error(err)
		}
		return "drift " + string(list)
	})
}

// The server's address goes: both listeners are named with the server that declares
// them, and serve again when the address is back.
func TestListenersGoAndCome(t *testing.T) {
	providertest.Need(t, "curl")
	n := faultnet.New(t)
	server, client := n.Space("server", "10.0.0.1/24"), n.Space("client", "10.0.0.2/24")
	answers := func() {
		t.Helper()
		// It answers: there is no such file.
		client.Run("sh", "-c", "curl --silent --max-time 20 --output /dev/null --write-out '%{http_code}' http://10.0.0.1/none | grep -q 404")
		client.Run("sh", "-c", "curl --silent --max-time 20 --output /dev/null tftp://10.0.0.1/none; test $? = 68")
	}
	said := server.Child("TestServerInItsOwnNamespace")
	said.Await("drift []")
	answers()
	server.Run("ip", "addr", "del", "10.0.0.1/24", "dev", faultnet.Interface)
	said.Await(`"what":"tftp 10.0.0.1:69"`)
	if line := said.Last(); !strings.Contains(line, `"address":"server.main"`) || !strings.Contains(line, `"what":"http 10.0.0.1:80"`) {
		t.Error(line)
	}
	server.Run("ip", "addr", "add", "10.0.0.1/24", "dev", faultnet.Interface)
	said.Await("drift []")
	answers()
}
