package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// line says where the run is.
func (r *soakRun) line() string {
	n := len(r.list)
	g := r.list[n-1].use
	return fmt.Sprintf("%4d applies in %3.0f s; last 25: p50 %3.0f ms; %d boots, %d reads (%d MiB), %d writes, %d roots attached once more, %d files; %d descriptors, %d goroutines, heap %d KiB, resident %d KiB; %d packets dropped; %s",
		n, time.Since(r.began).Seconds(), 1000*quantile(times(r.list[max(0, n-25):]), .5).Seconds(),
		r.boots.Load(), r.reads.Load(), r.bytes.Load()>>20, r.writes.Load(), r.again.Load(), r.files.Load(),
		g.descriptors, g.Goroutines, g.Heap>>10, g.resident>>10, g.dropped, r.dhcp)
}

func times(list []soaked) (all []time.Duration) {
	for _, s := range list {
		all = append(all, s.took)
	}
	return all
}

// tell says what was done.
func (r *soakRun) tell() {
	t := r.t
	t.Helper()
	for _, kind := range slices.Sorted(maps.Keys(r.kinds)) {
		t.Logf("%6d × %s", r.kinds[kind], kind)
	}
	all := times(r.list)
	t.Logf("%d applies in %.0f s: commit to live p50 %.0f ms, p95 %.0f ms; the daemon used %.0f s of processor time",
		len(all), r.took.Seconds(), 1000*quantile(all, .5).Seconds(), 1000*quantile(all, .95).Seconds(), processorTime(t, r.meter.pid).Seconds())
	t.Logf("DHCP: %s", r.dhcp)
	t.Logf("perfdhcp: %s", r.perf)
	for _, name := range slices.Sorted(maps.Keys(r.tools.counts)) {
		t.Logf("%6d × %s", r.tools.counts[name].Load(), name)
	}
	for _, kind := range slices.Sorted(maps.Keys(r.events.count)) {
		t.Logf("%6d × event %s, such as %s", r.events.count[kind], kind, r.events.last[kind])
	}
	for _, line := range complaints(t, r.s.log.Name()) {
		t.Logf("the daemon: %s", line)
	}
}

// judge fails when anybody noticed anything.
func (r *soakRun) judge() {
	t := r.t
	t.Helper()
	wrong, unexplained, served := r.ledger.verdict()
	for _, m := range r.fleet {
		wrong = append(wrong, m.wrong...)
	}
	wrong = append(wrong, r.wrong...)
	t.Logf("%d files by name, %d of them not explained; %d I/O errors and failed transfers", served, len(unexplained), len(wrong))
	for _, w := range wrong[:min(len(wrong), 20)] {
		t.Error(w)
	}
	if len(unexplained) > 0 {
		t.Errorf("served, and not explained: %v", unexplained[:min(len(unexplained), 10)])
	}
	// perfdhcp has a small buffer, and sends nothing again.
	if r.dhcp.unanswered+r.dhcp.unacknowledged > 0 || r.perf.offers.drops+r.perf.acks.drops > r.perf.lost {
		t.Error("DHCP packets were not answered")
	}
	if got := float64(r.dhcp.sent+r.perf.offers.sent) / r.took.Seconds(); got < soakTotal {
		t.Errorf("%.0f DHCP exchanges a second, want %d", got, soakTotal)
	}
	if now := listeners(t, r.meter.pid); !slices.Equal(now, r.sockets) {
		t.Errorf("the sockets are\n%s\nand were\n%s", strings.Join(now, "\n"), strings.Join(r.sockets, "\n"))
	}
}

// complaints gives the kinds of lines of a daemon's log that are worse than information,
// how many there are of each, and the last of it.
func complaints(t *testing.T, log string) (list []string) {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	count, last := map[string]int{}, map[string]string{}
	for line := range strings.Lines(string(b)) {
		var l struct{ Level, Msg string }
		if json.Unmarshal([]byte(line), &l) == nil && l.Level == "INFO" {
			continue
		}
		count[l.Msg]++
		last[l.Msg] = strings.TrimSpace(line)
	}
	for _, msg := range slices.Sorted(maps.Keys(count)) {
		list = append(list, fmt.Sprintf("%d × %q, such as %s", count[msg], msg, last[msg]))
	}
	return list
}

// flat fails when the daemon uses more in the last quarter than in the second, or more
// at rest than before.
func (r *soakRun) flat() {
	t, m, list, rest := r.t, r.meter, r.list, r.rest
	t.Helper()
	quarter := len(list) / 4
	second, last := list[quarter:2*quarter], list[3*quarter:]
	for _, g := range []struct {
		what  string
		of    func(soaked) uint64
		allow func(uint64) uint64
	}{
		{"descriptors", func(s soaked) uint64 { return uint64(s.use.descriptors) }, func(n uint64) uint64 { return n + n/2 + 20 }}, // overlays have theirs
		{"goroutines", func(s soaked) uint64 { return uint64(s.use.Goroutines) }, func(n uint64) uint64 { return n + n/5 + 20 }},
		{"heap", func(s soaked) uint64 { return s.use.Heap }, func(n uint64) uint64 { return n + n/5 + 4<<20 }},
		{"resident", func(s soaked) uint64 { return uint64(s.use.resident) }, func(n uint64) uint64 { return n + n/4 + 16<<20 }},
	} {
		some := func(list []soaked) uint64 {
			return median(slices.DeleteFunc(slices.Clone(list), func(s soaked) bool { return g.of(s) == 0 }), g.of)
		}
		was, is := some(second), some(last)
		t.Logf("%-12s second quarter %d, last quarter %d", g.what, was, is)
		if is > g.allow(was) {
			t.Errorf("%s grew from %d to %d", g.what, was, is)
		}
	}
	var now gauges
	for deadline := time.Now().Add(15 * time.Second); ; {
		now = m.read(t, true)
		if now.Goroutines <= rest.Goroutines && now.descriptors <= rest.descriptors || time.Now().After(deadline) {
			break
		}
		<-time.After(100 * time.Millisecond)
	}
	t.Logf("at rest      before %+v, after %+v", rest, now)
	if now.Goroutines > rest.Goroutines || now.descriptors > rest.descriptors {
		t.Errorf("more at rest than before the load; descriptors:\n%s", m.listed(t))
	}
}
