package main

import (
	"strings"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/cmd/internal/wire"
)

// equalsWire ends a capture of one boot and holds it against what explain says of
// the machine, whose root was attached by nbdroot.
func (s *site) equalsWire(c *lab.Capture, name string, last byte) {
	s.t.Helper()
	if err := c.Stop(); err != nil {
		s.t.Fatal(err)
	}
	all, err := c.Traffic()
	if err != nil {
		s.t.Fatal(err)
	}
	seen := all.Of(macOf(last))
	w := way{name: name, last: last, firmware: lab.BIOS, class: ipxeROM}
	s.wireEquals(w, seen, s.explainJSON(w), s.scriptLine(seen, last))
	for _, n := range seen.NBD {
		if _, instance, _ := strings.Cut(n.Export, "+"); len(instance) != 36 {
			s.t.Errorf("the export name %q carries no boot instance", n.Export)
		}
	}
}

// scriptLine is the kernel line of the iPXE script that a machine was sent, as that
// machine reads it.
func (s *site) scriptLine(seen *wire.Traffic, last byte) string {
	s.t.Helper()
	hyphens := strings.ReplaceAll(macOf(last).String(), ":", "-")
	var scripts []string
	for _, h := range seen.HTTP {
		if h.Method != "GET" || !strings.HasSuffix(h.Target, ".ipxe") {
			continue
		}
		scripts = append(scripts, string(h.Body))
		for line := range strings.SplitSeq(string(h.Body), "\n") {
			f := strings.Fields(line)
			for i, w := range f {
				if strings.HasSuffix(w, "/vmlinuz") {
					got := strings.ReplaceAll(strings.Join(f[i+1:], " "), "${netX/mac:hexhyp}", hyphens)
					got, _, _ = strings.Cut(got, " ||")
					return got
				}
			}
		}
	}
	s.t.Errorf("no script with a kernel line was sent: %q", scripts)
	return ""
}
