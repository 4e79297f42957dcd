package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/providers/export/nbd"
)

// The limits of the NBD server could not be set.
func TestNBDLimits(t *testing.T) {
	for _, tc := range []struct {
		text  string
		want  nbd.Limits
		at    string // of the diagnostic
		fault string
	}{
		{text: ""},
		{text: "nbd {\n}"},
		{text: "nbd {\n  limits {\n  }\n}"},
		{text: `nbd {
  limits {
    connections = 20000
    per_address = 256
    half_open   = "1024"
    local       = 8
    memory      = "64 MiB"
    handshake   = "30s"
    stall       = "2m"
  }
}`, want: nbd.Limits{Connections: 20000, PerAddress: 256, HalfOpen: 1024, Local: 8, Memory: 64 << 20, Handshake: 30 * time.Second, Stall: 2 * time.Minute}},
		{text: "nbd {\n  limits {\n    connections = 0\n  }\n}", at: "d.hcl:3,19-20", fault: "from 1 to 65536"},
		{text: "nbd {\n  limits {\n    connections = 65537\n  }\n}", at: "d.hcl:3,19-24", fault: "from 1 to 65536"},
		{text: "nbd {\n  limits {\n    local = 1.5\n  }\n}", at: "d.hcl:3,13-16", fault: "whole number"},
		{text: "nbd {\n  limits {\n    half_open = [1]\n  }\n}", at: "d.hcl:3,17-20", fault: "whole number"},
		{text: "nbd {\n  limits {\n    memory = 4096\n  }\n}", at: "d.hcl:3,14-18", fault: `"64MiB"`},
		{text: "nbd {\n  limits {\n    memory = \"1KiB\"\n  }\n}", at: "d.hcl:3,14-20", fault: `from "1MiB"`},
		{text: "nbd {\n  limits {\n    memory = \"17GiB\"\n  }\n}", at: "d.hcl:3,14-21", fault: `to "16GiB"`},
		{text: "nbd {\n  limits {\n    handshake = \"0s\"\n  }\n}", at: "d.hcl:3,17-21", fault: `from "1s" to "5m"`},
		{text: "nbd {\n  limits {\n    stall = \"-1s\"\n  }\n}", at: "d.hcl:3,13-18", fault: `from "5s" to "1h"`},
		{text: "nbd {\n  limits {\n    stall = 60\n  }\n}", at: "d.hcl:3,13-15", fault: `"60s"`},
		{text: "nbd {\n  limits {\n    connections = 10\n    per_address = 11\n  }\n}", at: "d.hcl:4,19-21", fault: "which are 10"},
		{text: "nbd {\n  limits {\n    half_open = 11\n    connections = 10\n  }\n}", at: "d.hcl:3,17-19", fault: "which are 10"},
		{text: "nbd {\n  limits {\n    conections = 10\n  }\n}", at: "d.hcl:3,5-15", fault: "connections"},
		{text: "nbd {\n  limits {\n  }\n  limits {\n  }\n}", at: "d.hcl:4,3-9", fault: "limits"},
	} {
		file, diags := parseDaemonFile("d.hcl", []byte(tc.text))
		if tc.at != "" {
			if len(diags) != 1 || diags[0].Subject.String() != tc.at || !strings.Contains(diags[0].Detail, tc.fault) {
				t.Errorf("%q: %v, want %q at %s", tc.text, diags, tc.fault, tc.at)
			}
			continue
		}
		if diff := cmp.Diff(tc.want, file.NBD.limits()); diags.HasErrors() || diff != "" {
			t.Errorf("%q: %v\n%s", tc.text, diags, diff)
		}
	}
}
