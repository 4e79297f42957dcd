package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/cmd/internal/wire"
	"github.com/dlreconcile/dlreconcile/engine/explain"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
)

// seenFile is a file as explain names it and as the wire shows it.
type seenFile struct {
	Protocol, Name, Digest string
	Size                   int64
	Absent                 bool
}

func (f seenFile) String() string {
	if f.Absent {
		return fmt.Sprintf("%s %s (absent)", f.Protocol, f.Name)
	}
	return fmt.Sprintf("%s %s, %d bytes, %s", f.Protocol, f.Name, f.Size, provider.ShortDigest(f.Digest))
}

// explainJSON is what `dlreconcile explain --json` says of a machine that boots a
// way. file is what a DHCP server that is not ours names to its firmware, and to an
// iPXE that this loads; none when ours answers.
func (s *site) explainJSON(w way, files ...string) explain.Result {
	s.t.Helper()
	args := []string{"explain", macOf(w.last).String(), "--json", "--arch", fmt.Sprint(w.arch)}
	if w.class != "" {
		args = append(args, "--class", w.class)
	}
	for _, f := range files {
		args = append(args, "--file", f)
	}
	out, errs, code := s.run(args...)
	var r explain.Result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		s.t.Fatalf("explain of %s: exit %d, %v\n%s%s", w.name, code, err, out, errs)
	}
	if code != exitOK || len(r.Fails) > 0 {
		s.t.Errorf("explain says that %s does not boot, exit %d:\n%s", w.name, code, strings.Join(r.Fails, "\n"))
	}
	return r
}

// wireEquals holds everything that one machine was sent by our servers against what
// explain says of it, in order: each DHCP answer by its fields, each file by protocol,
// name, size and digest, those that are not there among them, the kernel line, and the
// export. line is the kernel line as the machine saw it.
func (s *site) wireEquals(w way, seen *wire.Traffic, told explain.Result, line string) {
	s.t.Helper()
	var dhcp, files []provider.Answer
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
	s.dhcpEquals(w, seen, dhcp)

	var want, got []string
	for _, a := range files {
		want = append(want, seenFile{a.Protocol, path.Clean(a.Name), a.Digest, a.Size, a.Absent}.String())
	}
	for _, f := range seen.Fetches() {
		one := seenFile{f.Protocol, f.Name, f.Digest, f.Bytes, !f.Found}.String()
		// A loader's last acknowledgement may get lost: it has the file all the same.
		if !f.Answered || f.Found && !f.Whole && !slices.Contains(want, one) {
			s.t.Errorf("%s: %s %s (answered %v) ended after %d bytes", w.name, f.Protocol, f.Asked, f.Answered, f.Bytes)
		}
		got = append(got, one)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("%s: files on the wire are not what explain says (-explain +wire):\n%s", w.name, diff)
	}

	if line != told.KernelLine {
		s.t.Errorf("%s: the machine's kernel line is\n%s\nexplain says\n%s", w.name, line, told.KernelLine)
	}
	if len(seen.NBD) != 1 {
		s.t.Errorf("%s: captured %d NBD negotiations, want one", w.name, len(seen.NBD))
		return
	}
	n := seen.NBD[0]
	export, _, _ := strings.Cut(n.Export, "+") // behind it the boot's own id
	if !n.Granted || export != root.Name || int64(n.Size) != root.Size || n.Server.String() != root.Server {
		s.t.Errorf("%s: attached %s of %d bytes at %s (granted %v), explain says %s of %d at %s",
			w.name, export, n.Size, n.Server, n.Granted, root.Name, root.Size, root.Server)
	}
}

// ourAddress is where our servers are.
var ourAddress = netip.MustParseAddr(peerAddress)

// dhcpEquals holds our server's answers, exchange by exchange. What a boot server's
// port 4011 says belongs to the exchange before it.
func (s *site) dhcpEquals(w way, seen *wire.Traffic, told []provider.Answer) {
	s.t.Helper()
	var want []provider.Answer
	for _, a := range told {
		if len(a.Fields) > 0 { // else explain says that our server keeps silent
			want = append(want, a)
		}
	}
	n := 0
	for _, x := range seen.Exchanges() {
		ours := x.From(ourAddress)
		if len(ours) == 0 {
			continue
		}
		if x.Port != dhcpBootServer || n == 0 {
			n++
		}
		vendor, class, arch := x.Said()
		who := fmt.Sprintf("%s: DHCP exchange %d (%s %s, architecture %d, port %d)", w.name, n, vendor, class, arch, x.Port)
		if n > len(want) {
			s.t.Errorf("%s is not in explain", who)
			continue
		}
		for _, p := range ours {
			if diff := cmp.Diff(want[n-1].Fields, dhcp4.Fields(p.Packet)); diff != "" {
				s.t.Errorf("%s: %s is not what explain says (-explain +wire):\n%s", who, p.Packet.MessageType(), diff)
			}
		}
	}
	if n < len(want) {
		s.t.Errorf("%s: our server answered in %d DHCP exchanges, explain has %d", w.name, n, len(want))
	}
}

// dhcpBootServer is the port on which PXE clients ask a proxy (PXE 2.1, section 2.2).
const dhcpBootServer = 4011
