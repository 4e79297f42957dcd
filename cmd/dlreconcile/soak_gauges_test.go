package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// gaugesAt names a unix socket on which this test binary, when it is dlreconcile, says
// what it uses: what a process is asked from outside does not tell its goroutines, nor
// its memory from its garbage.
const gaugesAt = "DLRECONCILE_TEST_GAUGES"

// gauges are what a daemon uses at one time.
type gauges struct {
	Goroutines int    `json:"goroutines"`
	Heap       uint64 `json:"heap"` // bytes that are reachable; 0 when no collection was asked for

	descriptors int
	resident    int64 // bytes that are no file's
	dropped     int   // packets that came to its sockets when their buffers were full
}

// showGauges answers on the socket until the process ends.
func showGauges(at string) error {
	l, err := net.Listen("unix", at)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/gauges", func(w http.ResponseWriter, r *http.Request) {
		var g gauges
		if r.URL.Query().Has("gc") {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			g.Heap = m.HeapAlloc
		}
		g.Goroutines = runtime.NumGoroutine()
		_ = json.NewEncoder(w).Encode(g)
	})
	mux.HandleFunc("/profile/{name}", func(w http.ResponseWriter, r *http.Request) {
		p := pprof.Lookup(r.PathValue("name"))
		if p == nil {
			http.NotFound(w, r)
			return
		}
		_ = p.WriteTo(w, 1)
	})
	go func() { _ = http.Serve(l, mux) }()
	return nil
}

// meter reads the gauges of a daemon that was started with gaugesAt.
type meter struct {
	socket string
	pid    int
	client *http.Client
}

func newMeter(socket string, pid int) *meter {
	var d net.Dialer
	return &meter{socket, pid, &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

func (m *meter) get(t testing.TB, path string, read func(*json.Decoder) error) {
	t.Helper()
	resp, err := m.client.Get("http://daemon" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, resp.Status)
	}
	if err := read(json.NewDecoder(resp.Body)); err != nil {
		t.Fatal(err)
	}
}

// read gives the gauges; with heap, after a garbage collection.
func (m *meter) read(t testing.TB, heap bool) gauges {
	t.Helper()
	path := "/gauges"
	if heap {
		path += "?gc=1"
	}
	var g gauges
	m.get(t, path, func(d *json.Decoder) error { return d.Decode(&g) })
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", m.pid))
	if err != nil {
		t.Fatal(err)
	}
	g.descriptors = len(fds)
	if g.dropped, err = m.dropped(mixServer); err != nil {
		t.Fatal(err)
	}
	g.resident = processMemory(t, m.pid, "RssAnon:")
	return g
}

// dropped counts the packets that came to a UDP socket of an address in the daemon's
// network when its buffer was full.
func (m *meter) dropped(addr string) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/udp", m.pid))
	if err != nil {
		return 0, err
	}
	ip := netip.MustParseAddr(addr).As4()
	local := fmt.Sprintf("%08X:", binary.LittleEndian.Uint32(ip[:]))
	sum := 0
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 12 && strings.HasPrefix(f[1], local) {
			n, err := strconv.Atoi(f[12])
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// processorTime is what a process has used.
func processorTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	const utime, stime, tick = 14 - 3, 15 - 3, 10 * time.Millisecond // proc(5); USER_HZ is 100
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	var sum time.Duration
	for _, i := range []int{utime, stime} {
		n, err := strconv.Atoi(f[i])
		if err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(n) * tick
	}
	return sum
}

// listed says what the open ones are of, and how many of each.
func (m *meter) listed(t testing.TB) string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", m.pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, fd := range fds {
		to, err := os.Readlink(dir + "/" + fd.Name())
		if err != nil {
			continue // closed meanwhile
		}
		kind, _, _ := strings.Cut(to, "[")
		count[kind]++
	}
	var list []string
	for kind, n := range count {
		list = append(list, fmt.Sprintf("%4d %s", n, kind))
	}
	slices.Sort(list)
	return strings.Join(list, "\n")
}

// processMemory gives a line of /proc/PID/status, in bytes.
func processMemory(t testing.TB, pid int, name string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if kib, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.ParseInt(strings.Fields(kib)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("the system does not say %s of process %d", name, pid)
	return 0
}

// median gives the middle one of what f says of each.
func median[T any, N int | int64 | uint64](list []T, f func(T) N) N {
	var all []N
	for _, v := range list {
		all = append(all, f(v))
	}
	slices.Sort(all)
	if len(all) == 0 {
		return 0
	}
	return all[len(all)/2]
}
