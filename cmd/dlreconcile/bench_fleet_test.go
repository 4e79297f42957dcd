package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// benchEdits is how often one host is edited at each size; medians are shown.
const benchEdits = 9

// What planning and applying a fleet costs, by its size and by how it is written,
// beside Terraform's plan of as many resources that do nothing.
func BenchmarkFleet(b *testing.B) { benchFleets(b) } // it takes its own medians

func benchFleets(t testing.TB) {
	providertest.NeedRoot(t)
	providertest.Need(t, "mke2fs")
	var table strings.Builder
	fmt.Fprintf(&table, "%7s %-7s %10s %8s %10s %12s %14s %12s %12s\n",
		"hosts", "from", "cold plan", "its RSS", "apply all", "warm plan", "edit to live", "daemon RSS", "terraform")
	for _, n := range []int{100, 1_000, 10_000} {
		peer := terraformPlan(t, n)
		for _, from := range []string{"csv", "blocks"} {
			r := benchFleet(t, n, from)
			fmt.Fprintf(&table, "%7d %-7s %8.2f s %4d MiB %8.2f s %9.0f ms %11.0f ms %8d MiB %12s\n", n, from,
				r.cold.Seconds(), r.coldRSS>>20, r.apply.Seconds(), 1000*r.warm.Seconds(), 1000*r.live.Seconds(), r.rss>>20, peer)
		}
	}
	table.WriteString("aim for 10,000 on 2 cores: cold plan ≤ 3 s, warm plan ≤ 250 ms, apply ≤ 10 s, RSS ≤ 400 MiB\n")
	fmt.Println() // testing cuts what a benchmark logs
	fmt.Println(table.String())
}

type fleetCost struct {
	cold       time.Duration // `plan` with nothing applied, as a process
	coldRSS    int64         // bytes, the most that it had
	apply      time.Duration // from the commit to its being served, by a daemon that serves nothing
	warm, live time.Duration // medians: the plan of one edited host by the daemon; from that commit to its being served
	rss        int64         // bytes, the most that the daemon had
}

// fleetFiles is the demo's site with n hosts. The host numbered edited has another
// argument; -1 is none.
func fleetFiles(t testing.TB, ports []int, n int, from string, edited, round int) map[string]string {
	t.Helper()
	files, err := loopbackSite(ports, 1)
	if err != nil {
		t.Fatal(err)
	}
	seat := func(i int) int {
		if i == edited {
			return i + 1_000_000*round
		}
		return i
	}
	mac := func(i int) string { return fmt.Sprintf("52:54:00:01:%02x:%02x", i>>8, i&255) }
	address := func(i int) string { return fmt.Sprintf("127.1.%d.%d", i>>8, i&255) }
	if from == "csv" {
		files["site.hcl"] += `
host "ws" {
  for_each = { for h in csvdecode(file("hosts.csv")) : h.name => h }
  mac      = each.value.mac
  address  = each.value.address
  args     = ["ws.seat=${each.value.seat}"]
}
`
		var b strings.Builder
		b.WriteString("name,mac,address,seat\n")
		for i := range n {
			fmt.Fprintf(&b, "ws%05d,%s,%s,%d\n", i, mac(i), address(i), seat(i))
		}
		files["hosts.csv"] = b.String()
		return files
	}
	const room = 500
	for first := 0; first < n; first += room {
		var b strings.Builder
		for i := first; i < min(n, first+room); i++ {
			fmt.Fprintf(&b, "host \"ws%05d\" {\n  mac     = %q\n  address = %q\n  args    = [\"ws.seat=%d\"]\n}\n\n", i, mac(i), address(i), seat(i))
		}
		files[fmt.Sprintf("room%02d.hcl", first/room)] = b.String()
	}
	return files
}

func benchFleet(t testing.TB, n int, from string) (r fleetCost) {
	t.Helper()
	s := newLoopback(t)
	edited, round := -1, 0
	commit := func() string { return s.commit(fleetFiles(t, s.ports, n, from, edited, round)) }
	rev := commit()

	cold := s.command("plan", "--json")
	started := time.Now()
	out, err := cold.Output()
	if err != nil {
		t.Fatalf("plan: %v: %.2000s", err, out)
	}
	r.cold, r.coldRSS = time.Since(started), cold.ProcessState.SysUsage().(*syscall.Rusage).Maxrss<<10
	wantChanges(t, out, n+6)

	started = time.Now()
	daemon, stop := s.serve()
	defer stop()
	s.synced(rev)
	r.apply = time.Since(started)

	var warm, live []time.Duration
	for round = 1; round <= benchEdits; round++ {
		before := rev
		edited = n / 2
		rev = commit()
		started := time.Now()
		s.synced(rev)
		live = append(live, time.Since(started))
		// The edit back: the daemon plans it, and has nothing else to do meanwhile.
		started = time.Now()
		var raw json.RawMessage
		if err := s.client.Get(t.Context(), "/v1/plan", query("revision", before), &raw); err != nil {
			t.Fatal(err)
		}
		warm = append(warm, time.Since(started))
		wantChanges(t, raw, 1)
	}
	slices.Sort(warm)
	slices.Sort(live)
	r.warm, r.live = warm[len(warm)/2], live[len(live)/2]
	r.rss = peakMemory(t, daemon.Process.Pid)
	return r
}

func wantChanges(t testing.TB, b []byte, want int) {
	t.Helper()
	var p plan.Plan
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatal(err)
	}
	if len(p.Changes) != want {
		t.Errorf("%d changes, want %d", len(p.Changes), want)
	}
}

// peakMemory gives the most memory, in bytes, that a process has had.
func peakMemory(t testing.TB, pid int) int64 { return processMemory(t, pid, "VmHWM:") }

// terraformPlan times Terraform's plan of n resources that do nothing, where it is
// installed.
func terraformPlan(t testing.TB, n int) string {
	t.Helper()
	program, err := exec.LookPath("terraform")
	if errors.Is(err, exec.ErrNotFound) {
		return "not there"
	}
	dir := t.TempDir()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "resource \"terraform_data\" \"ws%05d\" {\n  input = \"ws.seat=%d\"\n}\n", i, i)
	}
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) time.Duration {
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		started := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("terraform %s: %v: %.2000s", args[0], err, out)
		}
		return time.Since(started)
	}
	run("init", "-input=false", "-no-color")
	return fmt.Sprintf("%.2f s", run("plan", "-input=false", "-no-color", "-refresh=false").Seconds())
}
