package dhcp_test

import (
	"context"
	"encoding/json"
	"os/exec"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/internal/faultnet"
)

// TestServerInItsOwnNamespace is the server of TestInterfaceGoesAndComes: all of a
// process in its namespace, so that it can bind anew there. It prints its drift.
func TestServerInItsOwnNamespace(t *testing.T) {
	if !faultnet.InChild() {
		return // another test starts it
	}
	d := newDaemon(t, "")
	d.run()
	x, err := d.Prepare(t.Context(), input(1, desired(), built()))
	if err != nil {
		t.Fatal(err)
	}
	x.Commit()
	faultnet.Report(func() string {
		b, err := json.Marshal(append([]provider.Drift{}, d.Drift()...))
		if err != nil {
			t.Fatal(err)
		}
		return "drift " + string(b)
	})
}

// The server's address goes and comes; then its interface goes altogether, and
// comes back. Each is told, and machines get answers again without
// anybody's doing.
func TestInterfaceGoesAndComes(t *testing.T) {
	n := faultnet.New(t)
	server, client := n.Space("server", "10.0.0.1/24"), n.Space("client")
	said := server.Child("TestServerInItsOwnNamespace")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	boots := func(mac provider.MAC) {
		t.Helper()
		m := newMachine(t, client, mac)
		_, err := m.Request(ctx)
		for range 3 { // a bridge may still be learning
			if err == nil {
				return
			}
			_, err = m.Request(ctx)
		}
		if err != nil {
			t.Fatalf("no lease: %v\n%s", err, said)
		}
	}
	said.Await("drift []")
	boots(mac1)

	server.Run("ip", "addr", "del", "10.0.0.1/24", "dev", "eth0")
	said.Await("no network interface has the address 10.0.0.1")
	server.Run("ip", "addr", "add", "10.0.0.1/24", "dev", "eth0")
	said.Await("drift []")
	boots(mac2)

	// Another namespace's, for a while: the kernel takes it away from all sockets.
	space, _ := n.Bridge()
	server.Run("ip", "link", "set", "eth0", "netns", space)
	said.Await("interface eth0: route ip+net: no such network interface")
	for _, args := range [][]string{
		{"-n", space, "link", "set", "eth0", "netns", server.Name},
		{"-n", server.Name, "addr", "add", "10.0.0.1/24", "dev", "eth0"},
		{"-n", server.Name, "link", "set", "eth0", "up"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	said.Await("drift []")
	boots(provider.MAC{0x52, 0x54, 0, 0, 0, 3})
}
