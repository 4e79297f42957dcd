// Package faultnet gives tests a private network: namespaces that stand for
// machines, joined by a bridge, in which real sockets and foreign programs run.
// Nothing outside the namespaces it makes is touched, and all of them are gone
// when the test ends.
package faultnet

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// Net is one Ethernet segment: a bridge in a namespace of its own.
type Net struct {
	t     testing.TB
	name  string
	ports atomic.Int32
}

// New makes a segment with nobody on it. The test is skipped when it may not make
// namespaces.
func New(t testing.TB) *Net {
	t.Helper()
	providertest.NeedRoot(t)
	providertest.Need(t, "ip")
	// The name of the folder is unique among all running tests of the machine.
	dir := strings.ReplaceAll(strings.TrimPrefix(t.TempDir(), os.TempDir()), "/", "")
	if len(dir) > 60 {
		dir = dir[len(dir)-60:]
	}
	n := &Net{t: t, name: fmt.Sprintf("fn%d-%s", os.Getpid(), dir)}
	n.space(n.name)
	n.ip("-n", n.name, "link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
	n.ip("-n", n.name, "link", "set", "br0", "up")
	return n
}

// space makes a namespace whose interfaces have their IPv6 link-local address at
// once, and removes it when the test ends.
func (n *Net) space(name string) {
	n.t.Helper()
	n.ip("netns", "add", name)
	n.t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "delete", name).CombinedOutput(); err != nil {
			n.t.Errorf("ip netns delete %s: %v: %s", name, err, out)
		}
	})
	n.ip("-n", name, "link", "set", "lo", "up")
	for _, key := range []string{"accept_dad", "dad_transmits"} {
		for _, which := range []string{"all", "default"} {
			n.ip("netns", "exec", name, "sh", "-c", fmt.Sprintf("echo 0 >/proc/sys/net/ipv6/conf/%s/%s", which, key))
		}
	}
}

// Space adds a machine to the segment. Its interface is called eth0, is up, and
// has the addresses in addrs, each with its prefix length.
func (n *Net) Space(name string, addrs ...string) *Space {
	n.t.Helper()
	i := n.ports.Add(1)
	s := &Space{t: n.t, net: n, Name: n.name + "-" + name, port: fmt.Sprintf("port%d", i)}
	s.MAC = [6]byte{0x02, 0xfa, 0, 0, 0, byte(i)}
	n.space(s.Name)
	n.ip("-n", n.name, "link", "add", s.port, "type", "veth", "peer", "name", Interface, "netns", s.Name,
		"address", fmt.Sprintf("%x:%x:%x:%x:%x:%x", s.MAC[0], s.MAC[1], s.MAC[2], s.MAC[3], s.MAC[4], s.MAC[5]))
	n.ip("-n", n.name, "link", "set", s.port, "master", "br0", "up")
	for _, a := range addrs {
		n.ip("-n", s.Name, "addr", "add", a, "dev", Interface)
	}
	if err := s.Do(func() error { return checksums(Interface) }); err != nil {
		n.t.Fatal(err)
	}
	n.ip("-n", s.Name, "link", "set", Interface, "up")
	n.await(n.name, s.port, true)
	n.await(s.Name, Interface, true)
	return s
}

// await waits until the kernel has seen that an interface has a carrier, or has
// none: until then a bridge forwards nothing. It takes up to a second to look.
func (n *Net) await(namespace, name string, up bool) {
	n.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		out, err := exec.Command("ip", "-n", namespace, "-br", "link", "show", "dev", name).Output()
		if f := strings.Fields(string(out)); err == nil && len(f) > 1 && (f[1] == "UP") == up {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("%s in %s: up is not %v: %s (%v)", name, namespace, up, out, err)
		}
	}
}

// Bridge is the namespace and the bridge that everybody is joined to, for
// machines that bring an interface of their own, such as a tap.
func (n *Net) Bridge() (namespace, bridge string) { return n.name, "br0" }

func (n *Net) ip(args ...string) {
	n.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}
