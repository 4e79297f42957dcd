package export

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/internal/faultnet"
)

// TestServerInItsOwnNamespace is the server of TestListenerGoesAndComes. It prints its
// drift.
func TestServerInItsOwnNamespace(t *testing.T) {
	if !faultnet.InChild() {
		return // another test starts it
	}
	r := newRig(t)
	r.addr = netip.MustParseAddrPort("10.0.0.1:10809")
	a, _ := r.artifact(1, 1<<16)
	r.commit(r.input(1, a))
	faultnet.Report(func() string {
		b, err := json.Marshal(append([]provider.Drift{}, r.Drift()...))
		if err != nil {
			t.Error(err)
		}
		return "drift " + string(b)
	})
}

// The server's address goes: its listener is named with the server that declares it, and
// serves again when the address is back.
func TestListenerGoesAndComes(t *testing.T) {
	n := faultnet.New(t)
	server, client := n.Space("server", "10.0.0.1/24"), n.Space("client", "10.0.0.2/24")
	said := server.Child("TestServerInItsOwnNamespace")
	said.Await("drift []")
	client.Run("bash", "-c", "exec 3<>/dev/tcp/10.0.0.1/10809; head -c 8 <&3 | grep -q NBDMAGIC")
	server.Run("ip", "addr", "del", "10.0.0.1/24", "dev", faultnet.Interface)
	said.Await(`"address":"server.main","range":"site.hcl:1,1","what":"nbd 10.0.0.1:10809"`)
	server.Run("ip", "addr", "add", "10.0.0.1/24", "dev", faultnet.Interface)
	said.Await("drift []")
	client.Run("bash", "-c", "exec 3<>/dev/tcp/10.0.0.1/10809; head -c 8 <&3 | grep -q NBDMAGIC")
}
