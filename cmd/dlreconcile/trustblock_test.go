package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/source"
)

func TestTrustBlock(t *testing.T) {
	const hash = "0123456789abcdef0123456789abcdef01234567"
	for _, tc := range []struct {
		name, text string
		want       source.Trust
		at, fault  string // of the diagnostic
	}{
		{name: "none is written"},
		{name: "keys alone", text: `trust {
  allowed_signers = "/etc/dlreconcile/signers"
}`, want: source.Trust{AllowedSigners: "/etc/dlreconcile/signers"}},
		{name: "all", text: `trust {
  verify       = "every"
  openpgp_keys = ["/etc/a.asc", "/etc/b.gpg"]
  rewind       = "accept"
  anchor       = "` + hash + `"
}`, want: source.Trust{Verify: "every", OpenPGPKeys: []string{"/etc/a.asc", "/etc/b.gpg"}, Rewind: "accept", Anchor: hash}},
		{name: "wrong word", text: "trust {\n  verify = \"tips\"\n}", at: "d.hcl:2,12-18", fault: `It must be "none" or "tip" or "every".`},
		{name: "wrong type", text: "trust {\n  rewind = [1]\n}", at: "d.hcl:2,12-15", fault: `It must be "refuse" or "accept".`},
		{name: "no keys", text: "trust {\n  verify = \"tip\"\n}", at: "d.hcl:2,12-17", fault: `no keys are named: write allowed_signers or openpgp_keys`},
		{name: "short anchor", text: "trust {\n  anchor = \"0123abc\"\n}", at: "d.hcl:2,12-21", fault: `the full hash of a commit`},
		{name: "unknown", text: "trust {\n  verfy = \"tip\"\n}", at: "d.hcl:2,3-8", fault: `verify`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file, diags := parseDaemonFile("d.hcl", []byte(tc.text))
			if tc.fault != "" {
				if len(diags) != 1 || diags[0].Subject.String() != tc.at || !strings.Contains(diags[0].Detail, tc.fault) {
					t.Fatalf("got %v, want %q at %s", diags, tc.fault, tc.at)
				}
				return
			}
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			if diff := cmp.Diff(tc.want, file.Trust.trust()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLimitsBlock(t *testing.T) {
	for _, tc := range []struct {
		text string
		want source.Limits
		at   string // of the diagnostic
	}{
		{text: ""},
		{text: "limits {\n}"},
		{text: "limits {\n  files = 10\n  depth = \"3\"\n  file = \"1MiB\"\n  total = \"2 GiB\"\n  fetch = \"300B\"\n}",
			want: source.Limits{Files: 10, Depth: 3, Blob: 1 << 20, Total: 2 << 30, Fetch: 300}},
		{text: "limits {\n  files = 0\n}", at: "d.hcl:2,11-12"},
		{text: "limits {\n  depth = 1.5\n}", at: "d.hcl:2,11-14"},
		{text: "limits {\n  fetch = 4096\n}", at: "d.hcl:2,11-15"},
		{text: "limits {\n  fetch = \"4G\"\n}", at: "d.hcl:2,11-15"},
		{text: "limits {\n  total = \"9999999TiB\"\n}", at: "d.hcl:2,11-23"},
		{text: "limits {\n  blob = \"1GiB\"\n}", at: "d.hcl:2,3-7"},
	} {
		file, diags := parseDaemonFile("d.hcl", []byte(tc.text))
		if tc.at != "" {
			if len(diags) != 1 || diags[0].Subject.String() != tc.at {
				t.Errorf("%q: %v, want a diagnostic at %s", tc.text, diags, tc.at)
			}
			continue
		}
		if diff := cmp.Diff(tc.want, file.Limits.sourceLimits()); diags.HasErrors() || diff != "" {
			t.Errorf("%q: %v\n%s", tc.text, diags, diff)
		}
	}
}
