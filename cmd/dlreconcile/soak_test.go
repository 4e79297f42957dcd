package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/engine/source"
)

const (
	// soakApplies asks for more applies than soakFew, which make a test.
	soakApplies = "DLRECONCILE_TEST_SOAK"
	soakFew     = 100
	// soakInside says to this test binary that it is in a network of its own.
	soakInside = "DLRECONCILE_TEST_SOAK_INSIDE"

	soakRelay, soakPerfRelay = "127.0.2.251", "127.0.2.252"
	soakRate                 = 100 // exchanges a second of each of two generators
	soakClients              = 500 // of each
)

// TestSoak applies commit after commit while fifty machines boot, read, write and load
// their files again, other people's clients do so too, and DHCP clients come and go.
// Nobody may notice anything, and the daemon may not grow.
func TestSoak(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "mke2fs", "ip", "grub-mkimage", "curl", "tftp", "atftp", "nbdcopy", "nbdsh", "qemu-img", "perfdhcp")
	if os.Getenv(soakInside) == "" {
		cmd := ownNetwork(t, os.Args[0], "TestSoak", soakInside+"=1")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
		if err := cmd.Run(); err != nil {
			t.Errorf("in a network of its own: %v", err)
		}
		return
	}
	applies := soakFew
	if s := os.Getenv(soakApplies); s != "" {
		var err error
		if applies, err = strconv.Atoi(s); err != nil || applies < soakFew {
			t.Fatalf("%s=%q: want a number of %d or more", soakApplies, s, soakFew)
		}
	}
	for _, line := range []string{
		"link set lo up",
		"address add " + soakPerfRelay + "/8 dev lo",
		// Who does not say from where it asks, asks from here.
		"route change local 127.0.0.1 dev lo table local proto kernel scope host src " + soakTools,
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
	soak(t, applies)
}

// soaked is what one apply was like.
type soaked struct {
	took time.Duration
	use  gauges
}

func soak(t *testing.T, applies int) {
	ctx, cancel := context.WithCancel(context.Background())
	s := mixStory(t, ctx)
	defer s.end()
	defer cancel()
	dir := t.TempDir()
	l := &soakLoad{ctx: ctx, over: make(chan struct{}), ledger: soakLedger{explained: map[string]soakFile{}, served: map[string]soakFile{}}}
	site := newSoakSite(1)
	client := api.NewClient(filepath.Join(s.state, "api.sock"))
	socket := filepath.Join(dir, "gauges.sock")

	generation := uint64(0)
	apply := func(first bool) (took time.Duration) {
		t.Helper()
		files, err := site.files(first)
		if err != nil {
			t.Fatal(err)
		}
		l.mu.Lock()
		l.images = slices.Clone(site.images)
		l.mu.Unlock()
		began := time.Now()
		rev, err := source.Commit(s.repo, files, fmt.Sprintf("commit %d", generation+1))
		if err != nil {
			t.Fatal(err)
		}
		if first {
			mixDaemon(t, s, gaugesAt+"="+socket)
		}
		st, err := s.reached(rev.Hash)
		if err != nil {
			t.Fatal(err)
		}
		took = time.Since(began)
		if generation++; st.Generation != generation {
			t.Fatalf("generation %d is served, want %d", st.Generation, generation)
		}
		l.newest.Store(int64(site.commit))
		if err := l.ledger.explain(ctx, client); err != nil {
			t.Fatal(err)
		}
		return took
	}
	tools := newForeign(l, dir)
	for k := range soakImages { // both artifacts, before there is any load
		if k > 0 {
			site.mark(k)
		}
		apply(k == 0)
		offer := l.ledger.offer.Load()
		digest := strings.TrimPrefix(offer.digest, "sha256:")
		root, err := os.ReadFile(filepath.Join(s.state, "blobs", "sha256", digest[:2], digest))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(root); hex.EncodeToString(sum[:]) != digest || len(root) != mixSize {
			t.Fatalf("%s has %d bytes with the digest %x", offer.digest, len(root), sum)
		}
		if err := os.WriteFile(tools.want(offer.digest), root, 0o644); err != nil {
			t.Fatal(err)
		}
		l.roots[k] = root
	}
	m := newMeter(socket, s.daemon.Process.Pid)
	sockets := listeners(t, m.pid)
	rest := m.read(t, true)
	t.Logf("%d sockets; at rest %d descriptors, %d goroutines, heap %d KiB", len(sockets), rest.descriptors, rest.Goroutines, rest.Heap>>10)

	dhcp, err := newDHCPLoad(soakRelay, mixServer, soakRate, soakClients)
	if err != nil {
		t.Fatal(err)
	}
	perf := &perfDHCP{
		relay: soakPerfRelay, server: mixServer, rate: soakRate * int(perfTime+perfRest+time.Second) / int(perfTime), clients: soakClients,
		dropped: func() int { return m.dropped(t, soakPerfRelay) },
	}
	machines := l.machines()
	var wg sync.WaitGroup
	for _, m := range machines {
		wg.Go(m.live)
	}
	wg.Go(tools.run)
	seen := soakEvents{}
	watched := make(chan error, 1)
	watching, unwatch := context.WithCancel(ctx)
	go func() { watched <- seen.watch(watching, client) }()
	wg.Go(func() {
		if err := dhcp.run(l.over); err != nil {
			l.fail("the DHCP load: %v", err)
		}
	})
	wg.Go(func() {
		if err := perf.run(l.over); err != nil {
			l.fail("%v", err)
		}
	})

	kinds := map[string]int{}
	var list []soaked
	began := time.Now()
	for n := 1; n <= applies; n++ {
		for _, kind := range site.edit() {
			kinds[kind]++
		}
		took := apply(false)
		list = append(list, soaked{took, m.read(t, n%5 == 0)})
		missing := sockets
		for looks := 0; looks < 5 && len(missing) > 0; looks++ { // the list is not read in one go
			missing = without(sockets, listeners(t, m.pid))
		}
		if len(missing) > 0 {
			t.Errorf("apply %d: sockets are not listened on any more: %v", n, missing)
			break
		}
		if n%100 == 0 || n == applies/4 || n == applies {
			g := list[n-1].use
			t.Logf("%4d applies in %3.0f s; last 25: p50 %3.0f ms; %d boots, %d reads (%d MiB), %d writes, %d roots attached once more, %d files; %d descriptors, %d goroutines, heap %d KiB, resident %d KiB; %d packets dropped; %s",
				n, time.Since(began).Seconds(), 1000*time.Duration(median(list[max(0, n-25):], func(s soaked) int64 { return int64(s.took) })).Seconds(),
				l.boots.Load(), l.reads.Load(), l.bytes.Load()>>20, l.writes.Load(), l.again.Load(), l.files.Load(),
				g.descriptors, g.Goroutines, g.Heap>>10, g.resident>>10, g.dropped, dhcp)
		}
	}
	took := time.Since(began)
	t.Logf("the daemon used %.0f s of processor time", m.processor(t).Seconds())
	close(l.over)
	wg.Wait()
	unwatch()
	if err := <-watched; err != nil {
		t.Error(err)
	}

	// What was done.
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		t.Logf("%4d × %s", kinds[kind], kind)
	}
	t.Logf("%d applies in %.0f s: commit to live p50 %.0f ms, p95 %.0f ms", applies, took.Seconds(), 1000*share(list, .5).Seconds(), 1000*share(list, .95).Seconds())
	t.Logf("DHCP: %s", dhcp)
	t.Logf("perfdhcp: %s", perf)
	for _, name := range slices.Sorted(maps.Keys(tools.counts)) {
		t.Logf("%4d × %s", tools.counts[name].Load(), name)
	}

	for _, kind := range slices.Sorted(maps.Keys(seen.count)) {
		t.Logf("%6d × event %s, such as %s", seen.count[kind], kind, seen.last[kind])
	}
	for _, line := range complaints(t, s.log.Name()) {
		t.Logf("the daemon: %s", line)
	}

	// What went wrong.
	wrong, unexplained, served := l.ledger.verdict()
	for _, m := range machines {
		wrong = append(wrong, m.wrong...)
	}
	wrong = append(wrong, l.wrong...)
	t.Logf("%d files by name, %d of them not explained; %d things wrong", served, len(unexplained), len(wrong))
	for _, w := range wrong[:min(len(wrong), 20)] {
		t.Error(w)
	}
	if len(unexplained) > 0 {
		t.Errorf("served, and not explained: %v", unexplained[:min(len(unexplained), 10)])
	}
	// perfdhcp has a small buffer, and sends nothing again.
	if dhcp.unanswered+dhcp.unacknowledged > 0 || perf.offers.drops+perf.acks.drops > perf.lost {
		t.Error("DHCP packets were not answered")
	}
	if got := float64(dhcp.sent+perf.offers.sent) / took.Seconds(); got < 1.9*soakRate {
		t.Errorf("%.0f DHCP exchanges a second, want %d", got, 2*soakRate)
	}
	if now := listeners(t, m.pid); !slices.Equal(now, sockets) {
		t.Errorf("the sockets are\n%s\nand were\n%s", strings.Join(now, "\n"), strings.Join(sockets, "\n"))
	}
	flat(t, m, list, rest)
	if t.Failed() {
		t.Logf("the daemon's log:\n%s", s.logged())
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

// without gives those of a that are not in b.
func without(a, b []string) (list []string) {
	for _, s := range a {
		if !slices.Contains(b, s) {
			list = append(list, s)
		}
	}
	return list
}

// share gives the time that a share of the applies took at most.
func share(list []soaked, part float64) time.Duration {
	var all []time.Duration
	for _, s := range list {
		all = append(all, s.took)
	}
	slices.Sort(all)
	return all[int(part*float64(len(all)-1))]
}

// flat fails when the daemon uses more in the last quarter than in the second, or more
// at rest than before.
func flat(t *testing.T, m *meter, list []soaked, rest gauges) {
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
