package main

import (
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/cmd/internal/wire"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
)

// equalsWire ends a capture of one boot and holds it against what explain says of
// the machine: every DHCP field and option, each file with its path, size and
// digest in the order of asking, the kernel line, and the export.
func (s *site) equalsWire(c *lab.Capture, last byte) {
	s.t.Helper()
	if err := c.Stop(); err != nil {
		s.t.Fatal(err)
	}
	all, err := c.Traffic()
	if err != nil {
		s.t.Fatal(err)
	}
	seen := all.Of(macOf(last))
	told := s.explained(macOf(last).String(), "iPXE")
	if len(told.Fails) > 0 {
		s.t.Errorf("explain says that %s does not boot: %v", macOf(last), told.Fails)
	}

	// DHCP: the ROM's exchange, then the initramfs's; each an offer and an
	// acknowledgement that say the same.
	var dhcp []provider.Answer
	var files []provider.Answer
	var root provider.Answer
	for _, a := range told.Steps {
		switch a.Kind {
		case provider.AnswerDHCP:
			dhcp = append(dhcp, a)
		case provider.AnswerRoot:
			root = a
		default:
			files = append(files, a)
		}
	}
	if len(dhcp) != 2 {
		s.t.Fatalf("explain has %d DHCP answers, want one for iPXE and one for the initramfs", len(dhcp))
	}
	replies := map[bool]int{}
	for _, p := range seen.DHCP {
		if p.FromClient {
			continue
		}
		request := requestOf(seen.DHCP, p.Packet)
		ipxe := request != nil && strings.HasPrefix(request.ClassIdentifier(), "PXEClient")
		want := dhcp[1].Fields
		if ipxe {
			want = dhcp[0].Fields
		}
		replies[ipxe]++
		if diff := cmp.Diff(want, dhcp4.Fields(p.Packet)); diff != "" {
			s.t.Errorf("DHCP %s to %s (iPXE: %v) is not what explain says (-explain +wire):\n%s", p.Packet.MessageType(), macOf(last), ipxe, diff)
		}
	}
	if replies[true] < 2 || replies[false] < 2 {
		s.t.Errorf("captured %d DHCP replies to iPXE and %d to the initramfs, want an offer and an acknowledgement each", replies[true], replies[false])
	}

	// Files.
	type file struct {
		Name, Digest string
		Size         int64
	}
	var want, got []file
	for _, a := range files {
		want = append(want, file{a.Name, a.Digest, a.Size})
	}
	for _, h := range seen.HTTP {
		if h.Method != "GET" {
			continue
		}
		if h.Status != 200 || !h.Complete {
			s.t.Errorf("GET %s: status %d, complete %v", h.Target, h.Status, h.Complete)
		}
		got = append(got, file{strings.TrimLeft(h.Target, "/"), h.Digest, h.Bytes})
		if strings.HasSuffix(h.Target, ".ipxe") {
			s.kernelLine(string(h.Body), told.KernelLine, last)
		}
	}
	for _, f := range seen.TFTP {
		got = append(got, file{f.Name, f.Digest, f.Bytes})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("files on the wire are not what explain says (-explain +wire):\n%s", diff)
	}

	// The root.
	if len(seen.NBD) != 1 {
		s.t.Fatalf("captured %d NBD negotiations, want one", len(seen.NBD))
	}
	n := seen.NBD[0]
	export, instance, _ := strings.Cut(n.Export, "+")
	if !n.Granted || export != root.Name || int64(n.Size) != root.Size {
		s.t.Errorf("attached %s of %d bytes (granted %v), explain says %s of %d", export, n.Size, n.Granted, root.Name, root.Size)
	}
	if len(instance) != 36 {
		s.t.Errorf("the export name %q carries no boot instance", n.Export)
	}
}

// requestOf finds the client's packet that a reply answers.
func requestOf(packets []*wire.DHCP, reply *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	for _, p := range packets {
		if p.FromClient && p.Packet.TransactionID == reply.TransactionID {
			return p.Packet
		}
	}
	return nil
}

// kernelLine holds the line of a script that was served against explain's.
func (s *site) kernelLine(script, want string, last byte) {
	s.t.Helper()
	hyphens := strings.ReplaceAll(macOf(last).String(), ":", "-")
	for _, line := range strings.Split(script, "\n") {
		f := strings.Fields(line)
		for i, w := range f {
			if strings.HasSuffix(w, "/vmlinuz") {
				got := strings.ReplaceAll(strings.Join(f[i+1:], " "), "${netX/mac:hexhyp}", hyphens)
				got, _, _ = strings.Cut(got, " ||")
				if got != want {
					s.t.Errorf("kernel line on the wire:\n%s\nexplain says:\n%s", got, want)
				}
				return
			}
		}
	}
	s.t.Errorf("the script has no kernel line:\n%s", script)
}
