package nbd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

const (
	benchImage  = 256 << 20
	benchRounds = 5
	benchStorm  = 200
)

// What one image costs to be served, beside other servers: each does the same in turn,
// round after round, as a process of its own, to a client that drops what it gets.
func BenchmarkServers(b *testing.B) { benchServers(b) } // it takes its own medians

// benchRow is one line of the table.
type benchRow struct {
	name    string
	load    load
	figures []figure
}

// figure is one number of a row.
type figure struct {
	name string
	of   func(measured) float64
	aim  func(ours, best float64) (said string, met bool)
	more bool // is better
}

// measured is one run.
type measured struct {
	loaded
	cpu time.Duration // of the server
	rss int64         // anonymous memory in bytes, the most that was seen
}

func atMost(factor float64) func(ours, best float64) (string, bool) {
	return func(ours, best float64) (string, bool) {
		return fmt.Sprintf("≤ %.1f× the best peer", factor), ours <= factor*best
	}
}

func atLeast(factor float64) func(ours, best float64) (string, bool) {
	return func(ours, best float64) (string, bool) {
		return fmt.Sprintf("≥ %.1f× the best peer", factor), ours >= factor*best
	}
}

func noMore(limit float64) func(ours, best float64) (string, bool) {
	return func(ours, _ float64) (string, bool) { return fmt.Sprintf("≤ %g", limit), ours <= limit }
}

func benchRows() []benchRow {
	perGiB := func(m measured) float64 { return m.cpu.Seconds() / (float64(m.Bytes) / (1 << 30)) }
	perOp := func(m measured) float64 { return float64(m.cpu.Nanoseconds()) / 1e3 / float64(m.Ops) }
	kIOPS := func(m measured) float64 { return float64(m.Ops) / m.Took.Seconds() / 1e3 }
	rate := func(m measured) float64 { return float64(m.Bytes) / m.Took.Seconds() / 1e6 }
	random := func(conns, depth int) load {
		return load{Conns: conns, Depth: depth, Block: 4096, Random: true, For: 400 * time.Millisecond}
	}
	writes := random(1, 16)
	writes.Write = true
	return []benchRow{
		{"sequential, 1 connection", load{Conns: 1, Depth: 4, Block: 128 << 10, Bytes: 1 << 30}, []figure{
			{"CPU s/GiB", perGiB, atMost(.5), false}, {"MB/s", rate, nil, true}}},
		{"4 KiB random, depth 16", random(1, 16), []figure{{"kIOPS", kIOPS, atLeast(2), true}}},
		{"4 KiB random, depth 64", random(1, 64), []figure{{"kIOPS", kIOPS, atLeast(2), true}}},
		{"4 KiB random, 4 × depth 16", random(4, 16), []figure{
			{"kIOPS", kIOPS, atLeast(2), true}, {"CPU µs/op", perOp, noMore(6), false}}},
		{"4 KiB random, depth 1", random(1, 1), []figure{
			{"p50 µs", func(m measured) float64 { return float64(m.P50.Nanoseconds()) / 1e3 }, atMost(1), false}}},
		{"4 KiB random writes to copy-on-write, depth 16", writes, []figure{{"kIOPS", kIOPS, atLeast(1), true}}},
		{fmt.Sprintf("storm of %d", benchStorm), load{Conns: benchStorm, Depth: 2, Block: 128 << 10, Bytes: 8 << 20}, []figure{
			{"MB/s", rate, atLeast(2), true}, {"CPU s/GiB", perGiB, atMost(.5), false},
			{"first/last", func(m measured) float64 { return m.First.Seconds() / m.Last.Seconds() }, func(ours, _ float64) (string, bool) { return "≥ 0.6", ours >= .6 }, true},
			{"connect ms", func(m measured) float64 { return m.Connect.Seconds() * 1e3 }, atMost(1), false},
			{"RssAnon MiB", func(m measured) float64 { return float64(m.rss) / (1 << 20) }, noMore(40), false}}},
	}
}

func benchServers(t testing.TB) {
	providertest.Need(t, "nbd-server", "nbdkit", "qemu-nbd", "qemu-img", "ip")
	apart(t)
	idle, asleep := awake(t)
	image := benchFile(t)
	plain, layered := startServers(t, image, false), startServers(t, image, true)
	var table strings.Builder
	fmt.Fprintln(&table, idle)
	benchTable(t, &table, plain, layered, benchRows())
	whole := load{Conns: benchStorm, Depth: 2, Block: 128 << 10, Bytes: benchImage}
	for range 3 {
		m := plain[0].measure(t, whole)
		fmt.Fprintf(&table, "dlreconcile alone, %d read the whole image of %d MiB: %.0f MB/s, %.3f CPU s/GiB, first/last %.2f (aim ≥ 0.6), RssAnon at most %.1f MiB (aim ≤ 40)\n",
			whole.Conns, benchImage>>20, float64(m.Bytes)/m.Took.Seconds()/1e6, m.cpu.Seconds()/(float64(m.Bytes)/(1<<30)), m.First.Seconds()/m.Last.Seconds(), float64(m.rss)/(1<<20))
	}
	for _, l := range []load{
		{Conns: 1, Depth: 1, Block: 4096, Random: true, For: time.Second}, {Conns: 1, Depth: 16, Block: 4096, Random: true, For: time.Second},
		{Conns: 4, Depth: 16, Block: 4096, Random: true, For: time.Second}, {Conns: 1, Depth: 4, Block: 128 << 10, Bytes: 2 << 30},
	} {
		fmt.Fprintf(&table, "%-48s", fmt.Sprintf("%d × depth %d of %d KiB: syscalls/op", l.Conns, l.Depth, l.Block>>10))
		for i, s := range plain {
			calls, mallocs := s.perOp(t, l)
			if i == 0 {
				calls += fmt.Sprintf(", %s allocations/op", mallocs)
			}
			fmt.Fprintf(&table, " %20s", calls)
		}
		fmt.Fprintln(&table)
	}
	if asleep != nil {
		asleep()
		fmt.Fprintln(&table, "idle processors halt at once, as this machine has it:")
		benchTable(t, &table, plain, layered, withoutAims(slices.DeleteFunc(benchRows(), func(r benchRow) bool { return !r.load.Random })))
	}
	fmt.Println() // testing cuts what a benchmark logs
	fmt.Println(table.String())
}

func withoutAims(rows []benchRow) []benchRow {
	for _, r := range rows {
		for i := range r.figures {
			r.figures[i].aim = nil
		}
	}
	return rows
}

// benchTable measures rows, and writes them.
func benchTable(t testing.TB, table *strings.Builder, plain, layered []*benchServer, rows []benchRow) {
	fmt.Fprintf(table, "%-48s %-12s", "", "")
	for _, s := range plain {
		fmt.Fprintf(table, " %20s", s.name)
	}
	fmt.Fprintf(table, "  %6s  %s\n", "ratio", "aim")
	for _, row := range rows {
		servers := plain
		if row.load.Write {
			servers = layered
		}
		runs := make([][]measured, len(servers))
		for range benchRounds {
			for i, s := range servers {
				runs[i] = append(runs[i], s.measure(t, row.load))
			}
		}
		for k, f := range row.figures {
			name := row.name
			if k > 0 {
				name = ""
			}
			fmt.Fprintf(table, "%-48s %-12s", name, f.name)
			benchFigure(table, f, runs, len(plain))
		}
	}
}

// benchFigure writes the medians of one figure of all servers, ours first, and what that
// is beside the best of the others.
func benchFigure(table *strings.Builder, f figure, runs [][]measured, columns int) {
	var medians []float64
	for i := range columns {
		if i >= len(runs) {
			fmt.Fprintf(table, " %20s", "–")
			continue
		}
		var list []float64
		for _, m := range runs[i] {
			list = append(list, f.of(m))
		}
		slices.Sort(list)
		medians = append(medians, list[len(list)/2])
		fmt.Fprintf(table, " %20s", fmt.Sprintf("%.4g (%.3g…%.3g)", list[len(list)/2], list[0], list[len(list)-1]))
	}
	best := slices.Min(medians[1:])
	if f.more {
		best = slices.Max(medians[1:])
	}
	fmt.Fprintf(table, "  %6.2f", medians[0]/best)
	if f.aim != nil {
		said, met := f.aim(medians[0], best)
		fmt.Fprintf(table, "  %s: %s", said, map[bool]string{true: "met", false: "NOT MET"}[met])
	}
	fmt.Fprintln(table)
}

// benchFile makes an image of random bytes, all of it in memory.
func benchFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	b := make([]byte, benchImage)
	rand.NewChaCha8([32]byte{1}).Read(b)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// runLoad runs the client.
func runLoad(t testing.TB, l load, before ...string) (loaded, string) {
	t.Helper()
	return startLoad(t, l, before...)()
}

// startLoad starts the client, and gives what waits for it.
func startLoad(t testing.TB, l load, before ...string) func() (loaded, string) {
	t.Helper()
	arg, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	args := append(before, os.Args[0], string(arg))
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), roleVariable+"=load")
	var out bytes.Buffer
	var stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() (loaded, string) {
		t.Helper()
		var r loaded
		err := cmd.Wait()
		if err == nil {
			err = json.Unmarshal(out.Bytes(), &r)
		}
		if err != nil || r.Errors > 0 {
			t.Fatalf("the client: %v, %d errors: %s", err, r.Errors, &stderr)
		}
		return r, stderr.String()
	}
}

// apart moves the caller, and what it starts from now on, to a network of its own. There
// connections are not paced: BBR, where that is the machine's choice, has a timer for
// each packet, which on loopback costs the servers more than all that they do themselves.
func apart(t testing.TB) {
	t.Helper()
	providertest.NeedRoot(t)
	runtime.LockOSThread() // for good: the thread ends with the caller
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("ip link set lo up: %v: %s", err, out)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_congestion_control", []byte("reno"), 0); err != nil {
		t.Fatal(err)
	}
}
