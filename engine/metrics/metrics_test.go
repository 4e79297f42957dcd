package metrics

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// house is an Engine that a test sets.
type house struct {
	status  engine.Status
	desired *schema.Desired
	obs     []plan.Observation
	err     error
}

func (h *house) Status() (engine.Status, <-chan struct{}) { return h.status, nil }
func (h *house) Ages() engine.Ages {
	return engine.Ages{Read: 90 * time.Second, Behind: 4 * time.Second}
}
func (h *house) Desired() *schema.Desired { return h.desired }
func (h *house) Observations(context.Context) ([]plan.Observation, error) {
	return h.obs, h.err
}

type sink struct{ n int }

func (s *sink) Event(provider.Event) { s.n++ }

// full has every metric there is.
func full(t *testing.T) (*Metrics, *house) {
	t.Helper()
	lan := schema.Addr{Kind: "subnet", Name: "lan"}
	h := &house{
		status: engine.Status{
			Generation: 7, Revision: "abc", Tip: "def", Polls: 3, Drift: []provider.Drift{{Kind: provider.DriftDHCPForeign}}, Held: &engine.Hold{},
			Conditions: []engine.Condition{{Type: engine.ConditionReady, Status: true}, {Type: engine.ConditionSynced}},
		},
		desired: &schema.Desired{Subnets: []*schema.Subnet{{
			Meta:  schema.Meta{Addr: lan},
			Pools: []schema.Pool{{From: netip.MustParseAddr("10.0.0.128"), To: netip.MustParseAddr("10.0.0.254")}},
		}}},
		obs: []plan.Observation{
			{Kind: plan.SawNode, State: "up"}, {Kind: plan.SawNode, State: "up"},
			{Kind: plan.SawLease, Subnet: lan}, {Kind: plan.SawOverlay, Bytes: 4096},
		},
	}
	m := New("1.2.3")
	m.Watch(h)
	m.Attempt("refused", "invalid")
	m.Attempt("refused", "invalid")
	m.Phase(engine.PhasePreparing, 3*time.Second)
	m.Collected(2, 1000)
	s := &sink{}
	m.Tap(s).Event(provider.Event{Kind: provider.EventAck})
	if s.n != 1 {
		t.Error("an event was kept back")
	}
	for _, e := range catalogue() {
		if strings.Contains(e.name, "_dhcp_") || strings.Contains(e.name, "_transfer") || strings.Contains(e.name, "_nbd_") ||
			slices.Contains([]string{StoreBytes, StateFreeBytes, OverlaysLimited, WebhookRequests, NotifyDeliveries, NotifyOutstanding}, e.name) {
			m.Read(e.name, func() []Counter { return []Counter{{slices.Repeat([]string{"x"}, len(e.labels)), 5}} })
		}
	}
	return m, h
}

func text(t *testing.T, m *Metrics) string {
	t.Helper()
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("%d: %s", rec.Code, rec.Body)
	}
	return rec.Body.String()
}

func TestWhatIsShown(t *testing.T) {
	m, h := full(t)
	got := text(t, m)
	for _, want := range []string{
		`dlreconcile_build_info{version="1.2.3"} 1`,
		`dlreconcile_generation 7`,
		`dlreconcile_revision_info{newest="def",served="abc"} 1`,
		`dlreconcile_condition{type="Ready"} 1`,
		`dlreconcile_condition{type="Synced"} 0`,
		`dlreconcile_drift{kind="dhcp-foreign"} 1`,
		`dlreconcile_drift{kind="blob-missing"} 0`,
		`dlreconcile_repo_age_seconds 90`,
		`dlreconcile_behind_seconds 4`,
		`dlreconcile_attempts_total{reason="invalid",result="refused"} 2`,
		`dlreconcile_phase_duration_seconds_bucket{phase="preparing",le="10"} 1`,
		`dlreconcile_phase_duration_seconds_bucket{phase="preparing",le="2"} 0`,
		`dlreconcile_held 1`,
		`dlreconcile_machines{state="up"} 2`,
		`dlreconcile_machines{state="booting"} 0`,
		`dlreconcile_events_total{kind="dhcp.ack"} 1`,
		`dlreconcile_leases{subnet="subnet.lan"} 1`,
		`dlreconcile_pool_addresses{subnet="subnet.lan"} 127`,
		`dlreconcile_overlay_bytes 4096`,
		`dlreconcile_collected_bytes_total 1000`,
		`dlreconcile_scrape_errors 0`,
		`dlreconcile_dhcp_packets_total{answer="x",type="x"} 5`,
	} {
		if !strings.Contains(got, "\n"+want+"\n") {
			t.Errorf("%s is not shown", want)
		}
	}
	for _, of := range []string{"go_goroutines ", "process_open_fds ", "process_resident_memory_bytes "} {
		if !strings.Contains(got, "\n"+of) {
			t.Errorf("%sis not shown", of)
		}
	}
	// A provider that fails takes nothing else along.
	h.err = errors.New("disk")
	got = text(t, m)
	if !strings.Contains(got, "\ndlreconcile_scrape_errors 1\n") || !strings.Contains(got, "\ndlreconcile_generation 7\n") || strings.Contains(got, "dlreconcile_machines{") {
		t.Errorf("%s", got)
	}
}

// docs/metrics.md has a row for each metric, and no other.
func TestDocumentation(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[prometheus.ValueType]string{prometheus.GaugeValue: "gauge", prometheus.CounterValue: "counter", prometheus.UntypedValue: "histogram"}
	want := []string{}
	for _, e := range catalogue() {
		labels := "–"
		if len(e.labels) > 0 {
			labels = "`" + strings.Join(e.labels, "`, `") + "`"
		}
		want = append(want, strings.Join([]string{"`" + e.name + "`", kinds[e.kind], labels, unitOf(e.name), e.help}, " | "))
	}
	rows := []string{}
	for _, m := range regexp.MustCompile("(?m)^\\| (`dlreconcile_.*) \\|$").FindAllStringSubmatch(string(b), -1) {
		rows = append(rows, m[1])
	}
	slices.Sort(want)
	slices.Sort(rows)
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("docs/metrics.md (-the program +the page)\n%s", diff)
	}
}

// unitOf is what a name says of its unit.
func unitOf(name string) string {
	switch base := strings.TrimSuffix(name, "_total"); {
	case strings.HasSuffix(base, "_seconds"):
		return "seconds"
	case strings.HasSuffix(base, "_bytes"):
		return "bytes"
	}
	return "–"
}

// Every metric of the catalogue is shown, with its type: nothing is only promised.
func TestCatalogueIsShown(t *testing.T) {
	m, _ := full(t)
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, f := range families {
		shown[f.GetName()] = true
		if _, ok := find(f.GetName()); !ok && strings.HasPrefix(f.GetName(), "dlreconcile_") {
			t.Errorf("%s is not in the catalogue", f.GetName())
		}
	}
	for _, e := range catalogue() {
		if !shown[e.name] {
			t.Errorf("%s is not shown", e.name)
		}
	}
}

// Names, units and help texts are as Prometheus wants them: its linter says so, and
// promtool where there is one.
func TestLint(t *testing.T) {
	m, _ := full(t)
	got := text(t, m)
	problems, err := promlint.New(strings.NewReader(got)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "dlreconcile_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	tool, err := exec.LookPath("promtool")
	if err != nil {
		return // Debian has it in prometheus, which is too much to install for this
	}
	cmd := exec.Command(tool, "check", "metrics")
	cmd.Stdin = strings.NewReader(got)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// The plain listener answers one thing, and lets nobody keep it busy.
func TestListener(t *testing.T) {
	m, _ := full(t)
	ctx, cancel := context.WithCancel(t.Context())
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- m.Serve(ctx, l, slog.New(slog.DiscardHandler)) }()
	at := "http://" + l.Addr().String()
	for _, c := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/metrics", 200}, {"HEAD", "/metrics", 200}, {"POST", "/metrics", 405}, {"GET", "/", 404}, {"GET", "/v1/status", 404}, {"GET", "/metrics/x", 404},
	} {
		req, err := http.NewRequestWithContext(ctx, c.method, at+c.path, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.code || (c.method == "GET" && c.code == 200) != strings.Contains(string(b), "dlreconcile_generation 7") {
			t.Errorf("%s %s: %s, %.100s", c.method, c.path, resp.Status, b)
		}
	}
	// A header without end is cut off.
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		for {
			if _, err := conn.Write([]byte("GET /metrics HTTP/1.1\r\nX: " + strings.Repeat("x", 4096))); err != nil {
				return
			}
		}
	}()
	if b, _ := io.ReadAll(conn); !strings.Contains(string(b), "431") {
		t.Errorf("an endless header: %.80q", b)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}

// Counting an event costs no memory: there is one for each DHCP packet.
func TestTapAllocatesNothing(t *testing.T) {
	m := New("")
	s := m.Tap(&sink{})
	ev := provider.Event{Kind: provider.EventAck}
	s.Event(ev)
	if n := testing.AllocsPerRun(100, func() { s.Event(ev) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
