package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine"
)

func TestDriftBlock(t *testing.T) {
	for _, tc := range []struct {
		text      string
		want      engine.DriftTimes
		probe     time.Duration
		unwatched int
		at        string // of the diagnostic
	}{
		{text: ""},
		{text: "drift {\n}"},
		{text: "drift {\n  resync = \"1m\"\n  scrub = \"48h\"\n  scrub_rate = \"8MiB\"\n  dhcp_probe = \"30s\"\n}",
			want: engine.DriftTimes{Resync: time.Minute, Scrub: 48 * time.Hour, Rate: 8 << 20}, probe: 30 * time.Second},
		{text: "drift {\n  scrub = \"off\"\n  dhcp_probe = \"off\"\n}", want: engine.DriftTimes{Scrub: -1}, probe: -1, unwatched: 2},
		{text: "drift {\n  resync = \"off\"\n}", at: "d.hcl:2,12-17"},
		{text: "drift {\n  resync = 10\n}", at: "d.hcl:2,12-14"},
		{text: "drift {\n  scrub = \"1s\"\n}", at: "d.hcl:2,11-15"},
		{text: "drift {\n  scrub_rate = \"10KiB\"\n}", at: "d.hcl:2,16-23"},
		{text: "drift {\n  dhcp_probe = \"1h\"\n}", at: "d.hcl:2,16-20"},
		{text: "drift {\n  probe = \"5m\"\n}", at: "d.hcl:2,3-8"},
	} {
		file, diags := parseDaemonFile("d.hcl", []byte(tc.text))
		if tc.at != "" {
			if len(diags) != 1 || diags[0].Subject.String() != tc.at {
				t.Errorf("%q: %v, want a diagnostic at %s", tc.text, diags, tc.at)
			}
			continue
		}
		d := file.Drift
		if diff := cmp.Diff(tc.want, d.driftTimes()); diags.HasErrors() || diff != "" || d.probeEvery() != tc.probe || len(d.unwatched()) != tc.unwatched {
			t.Errorf("%q: %v, probe %s, %q\n%s", tc.text, diags, d.probeEvery(), d.unwatched(), diff)
		}
	}
}
