package main

import (
	"fmt"
	"slices"
	"testing"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// A DHCP server that is not ours gives out the addresses: first it knows nothing of
// booting, and ours says that part; then it names our files itself, by names that
// stay, and ours says nothing.
func TestE2EForeignDHCP(t *testing.T) {
	needMatrix(t)
	all := ways()
	pick := func(names ...string) []way {
		return slices.DeleteFunc(slices.Clone(all), func(w way) bool { return !slices.Contains(names, w.name) })
	}
	proxied, named := pick("bios-grub", "bios-pxelinux", "uefi-grub", "uefi-snponly"), pick("bios-grub", "uefi-snponly")
	if len(proxied)+len(named) == 0 {
		t.Skip("none of the ways that are tried")
	}
	s := newSite(t, matrixFiles(all, oursProxies))
	s.withImages()
	s.start()

	t.Run("ours proxies", func(t *testing.T) {
		s := s.in(t)
		s.applied(s.commit(nil, "proxy"))
		s.foreignDHCP(t, proxied)
		table := newTimeTable()
		areDistinct(t, s.bootAll(proxied, table, nil))
		show(t, table.text("Userland beside a DHCP server that is not ours", proxied, "ours"))
	})
	t.Run("it names our files", func(t *testing.T) {
		s := s.in(t)
		s.applied(s.commit(matrixFiles(all, oursSilent), "silent"))
		// By these names our servers are known, whatever generation is current.
		files := map[string][]string{
			"bios-grub":    {"grub/i386-pc/core.0"},
			"uefi-snponly": {"snponly.efi", "http://" + peerAddress + "/boot.ipxe"},
		}
		for i, w := range named {
			named[i].peer = byHand{file: files[w.name][0]}
			if len(files[w.name]) > 1 {
				named[i].peer.script = files[w.name][1]
			}
		}
		s.foreignDHCP(t, named, bootFiles(named)...)
		table := newTimeTable()
		areDistinct(t, s.bootAll(named, table, func(w way) []string { return files[w.name] }))
		show(t, table.text("Userland by names that a DHCP server that is not ours says", named, "ours"))
	})
}

// in is the same site in a subtest.
func (s *site) in(t *testing.T) *site {
	part := *s
	part.t = t
	return &part
}

// foreignDHCP runs dnsmasq on a machine of its own until the test ends. It gives the
// ways' machines the addresses that their host blocks have.
func (s *site) foreignDHCP(t *testing.T, all []way, args ...string) {
	t.Helper()
	c, err := s.lab.Client(s.ctx, lab.ClientConfig{Name: "dhcp", MAC: provider.MAC{2, 0xd1, 0, 0, 0, 2}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	if out, err := c.Command(s.ctx, "ip", "address", "add", "10.77.0.2/24", "dev", lab.ClientInterface).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	args = append(args, "--dhcp-range=10.77.0.150,10.77.0.199,1h")
	for _, w := range all {
		args = append(args, fmt.Sprintf("--dhcp-host=%s,set:%s,%s", macOf(w.last), w.name, w.address()))
	}
	runDnsmasq(t, c.Command, lab.ClientInterface, args...)
}
