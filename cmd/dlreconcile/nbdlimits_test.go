package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

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
		{text: "nbd {\n  limits {\n    half_open = 5000\n  }\n}", at: "d.hcl:3,17-21", fault: "which are 4096 where nothing is written for them"},
		{text: "nbd {\n  limits {\n    per_address = 5000\n  }\n}", at: "d.hcl:3,19-23", fault: "which are 4096 where nothing is written for them"},
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

// More machines were let in than the process may have files open for: then accept and open
// fail in every server.
func TestNBDConnectionsNeedFiles(t *testing.T) {
	parse := func(text string) *nbdBlock {
		t.Helper()
		file, diags := parseDaemonFile("d.hcl", []byte(text))
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		return file.NBD
	}
	written := func(n int) string { return fmt.Sprintf("nbd {\n  limits {\n    connections = %d\n  }\n}", n) }
	for _, tc := range []struct {
		text   string
		limit  uint64
		fault  string // of the diagnostic, at the value of connections
		logged string
	}{
		{text: written(16112), limit: 65536},
		{text: written(16113), limit: 65536, fault: "keeps 1088 for other things: that is not enough for 16113 machines. Raise it to 65540 (LimitNOFILE= of the systemd unit, or `ulimit -Hn`), or write at most 16112 here."},
		{text: written(65536), limit: 524288},
		{text: written(1), limit: 1024, fault: "Raise it to 1092 (LimitNOFILE= of the systemd unit, or `ulimit -Hn`)."},
		{text: "", limit: 17472},
		{text: "", limit: 4096, logged: "limit=4096 connections=4096 enough_for=752 raise_to=17472"},
		{text: "nbd {\n}", limit: 1024, logged: "enough_for=0"},
		{text: "nbd {\n  limits {\n    local = 128\n  }\n}", limit: 17472, logged: "raise_to=17536"},
	} {
		var log bytes.Buffer
		diags := parse(tc.text).checkFiles(tc.limit, slog.New(slog.NewTextHandler(&log, nil)))
		if tc.fault != "" && (len(diags) != 1 || diags[0].Subject.Start.Line != 3 || diags[0].Subject.Start.Column != 19 || !strings.Contains(diags[0].Detail, tc.fault)) ||
			tc.fault == "" && len(diags) > 0 {
			t.Errorf("%q with %d files: %v, want %q", tc.text, tc.limit, diags, tc.fault)
		}
		if !strings.Contains(log.String(), tc.logged) || tc.logged == "" && log.Len() > 0 {
			t.Errorf("%q with %d files: logged %q, want %q", tc.text, tc.limit, log.String(), tc.logged)
		}
	}

	// The daemon asks for it before it opens anything.
	fewFiles(t)
	dir := t.TempDir()
	conf := filepath.Join(dir, "d.hcl")
	if err := os.WriteFile(conf, []byte(written(mostNBDConnections)), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code := run(t.Context(), streams{in: strings.NewReader(""), out: &out, err: &errs}, []string{"serve", "--config", conf, "--repo", dir, "--state", filepath.Join(dir, "state")})
	if code != exitInvalid || !strings.Contains(errs.String(), "d.hcl") || !strings.Contains(errs.String(), "Invalid connections") {
		t.Errorf("serve: %d, %s", code, errs.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "state")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state directory: %v", err)
	}
}

// A reload told of an edit that the next start would refuse as of one that counts from then
// on.
func TestReloadTellsOfTooManyConnections(t *testing.T) {
	files := fewFiles(t)
	conf := filepath.Join(t.TempDir(), "d.hcl")
	written := func(n int) []byte { return fmt.Appendf(nil, "nbd {\n  limits {\n    connections = %d\n  }\n}", n) }
	file, diags := parseDaemonFile(conf, written(10))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	c := &cli{settings: settings{Config: conf, source: written(10), blocks: file.daemonBlocks}}
	for _, tc := range []struct {
		now  int
		want []string // of the log; none: nothing is told
	}{
		{now: 10},
		{now: 11, want: []string{"level=WARN", "counts from the next start on", "settings=nbd"}},
		{now: mostNBDConnections, want: []string{"level=ERROR", "the next start would fail", "stays in force", conf + ":3,19-24: Invalid connections", fmt.Sprintf("this process may have %d", files)}},
		{now: mostNBDConnections + 1, want: []string{"level=ERROR", "the next start would fail", conf + ":3,19-24: Invalid connections", "from 1 to 65536"}},
		{now: 10},
	} {
		if err := os.WriteFile(conf, written(tc.now), 0o600); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		c.tellSettings(slog.New(slog.NewTextHandler(&log, nil)))
		if n := strings.Count(log.String(), "\n"); n != min(1, len(tc.want)) {
			t.Errorf("%d: told in %d lines: %s", tc.now, n, log.String())
		}
		for _, want := range tc.want {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%d: %q is not in %s", tc.now, want, log.String())
			}
		}
		if got := c.settings.blocks.NBD.limits().Connections; got != 10 {
			t.Errorf("%d: %d connections are in force", tc.now, got)
		}
	}
}

// fewFiles has this process open no more files than fit a small site, until t ends, and
// gives how many that are.
func fewFiles(t *testing.T) uint64 {
	t.Helper()
	most, err := mayOpen()
	if err != nil {
		t.Fatal(err)
	}
	files := min(most, 65536)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: hardLimit(t)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: hardLimit(t)}); err != nil {
			t.Error(err)
		}
	})
	return files
}

func hardLimit(t *testing.T) uint64 {
	t.Helper()
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		t.Fatal(err)
	}
	return r.Max
}
