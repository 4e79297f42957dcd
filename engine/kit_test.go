package engine

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

func TestMain(m *testing.M) {
	if playsChild() {
		return
	}
	goleak.VerifyTestMain(m)
}

// site is a configuration whose DHCP answers carry text.
func site(text string) map[string]string {
	return map[string]string{"site.hcl": fmt.Sprintf(`
server "main" {
  address = "10.0.0.1"
}

subnet "lan" {
  cidr        = "10.0.0.0/24"
  domain_name = %q
}

host "ws01" {
  mac     = "52:54:00:00:00:01"
  address = "10.0.0.21"
}
`, text)}
}

// fullSite has a resource of every kind.
func fullSite(text string) map[string]string {
	files := site(text)
	files["site.hcl"] += `
image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "1GiB"
  }
  file "/etc/motd" {
    content = file("motd")
  }
}

export "nbd" "debian" {
  image = image.debian
}

entry "debian" {
  image = image.debian
  root  = export.nbd.debian
}

bootloader "ipxe" "menu" {
  entries = [entry.debian]
}
`
	files["motd"] = "hello\n"
	return files
}

var ws01 = provider.Query{Host: schema.Addr{Kind: "host", Name: "ws01"}, MAC: provider.MAC{0x52, 0x54, 0, 0, 0, 1}}

// nodes is a Nodes that a test edits.
type nodes struct {
	mu   sync.Mutex
	live map[uint64]bool
	seen []plan.Observation
}

func (n *nodes) Observe() []plan.Observation {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen
}

func (n *nodes) see(seen ...plan.Observation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = seen
}

func (n *nodes) Err() error { return nil }

func (n *nodes) Live() map[uint64]bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.live)
}

func (n *nodes) pin(gens ...uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.live = map[uint64]bool{}
	for _, g := range gens {
		n.live[g] = true
	}
}

// clock moves when a test says so.
type clock struct {
	mu sync.Mutex
	t  time.Time
	up time.Duration // only sleep moves it
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

// elapsed is what goes on while the machine sleeps.
func (c *clock) elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up
}

// sleep lets time pass that nobody set.
func (c *clock) sleep(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t, c.up = c.t.Add(d), c.up+d
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// house is an engine and what is around it.
type house struct {
	t       testing.TB
	dir     string
	repo    *repo
	nodes   *nodes
	clock   *clock
	journal *journal
	change  func(*Config) // of every engine that is made

	store *store.Store
	fakes map[string]*fake
	*Engine
	stop func() // ends Run, waits for it, and closes the store; harmless when nothing runs
}

// newHouse makes an engine that does not run yet.
func newHouse(t testing.TB, change func(*Config)) *house {
	t.Helper()
	h := &house{
		t: t, dir: t.TempDir(), repo: newRepo(), nodes: &nodes{}, journal: newJournal(), change: change,
		clock: &clock{t: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}, stop: func() {},
	}
	h.open()
	t.Cleanup(func() { h.stop() })
	return h
}

// open opens the state directory and makes a new engine on it.
func (h *house) open() {
	h.t.Helper()
	s, err := store.Open(h.dir, store.Options{Now: h.clock.now})
	if err != nil {
		h.t.Fatal(err)
	}
	h.store = s
	h.fakes = map[string]*fake{}
	cfg := Config{Store: s, Source: h.repo, Nodes: h.nodes, Now: h.clock.now, Elapsed: h.clock.elapsed, Retry: time.Hour, Drift: DriftTimes{Off: true}}
	for _, p := range []struct{ name, kinds string }{
		{"image", "image"}, {"export", "export.nbd"}, {"bootloader", "bootloader.ipxe entry"}, {"dhcp", "server subnet host"},
	} {
		f := &fake{name: p.name, kinds: strings.Fields(p.kinds), journal: h.journal, byGen: map[uint64]*fakeTable{}}
		h.fakes[p.name] = f
		cfg.Providers = append(cfg.Providers, f)
	}
	if h.change != nil {
		h.change(&cfg)
	}
	h.Engine = New(cfg)
	h.stop = sync.OnceFunc(func() {
		if err := s.Close(); err != nil {
			h.t.Error(err)
		}
	})
}

// run runs the engine.
func (h *house) run() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	e, closeStore := h.Engine, h.stop
	go func() { done <- e.Run(ctx, nil) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Errorf("Run: %v", err)
		}
		closeStore()
	})
	h.wait("start", func(s Status) bool { return s.Phase != PhaseStarting })
}

// restart is what a new process does.
func (h *house) restart() {
	h.t.Helper()
	h.stop()
	h.open()
	h.run()
}

// wait waits until the status is as wanted.
func (h *house) wait(what string, ok func(Status) bool) Status {
	h.t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		s, changed := h.Status()
		if ok(s) {
			return s
		}
		select {
		case <-changed:
		case <-timeout:
			h.t.Fatalf("no %s; status: %+v", what, s)
		}
	}
}

// reached waits until a commit is what is served.
func (h *house) reached(rev string) Status {
	h.t.Helper()
	return h.wait("revision "+rev, func(s Status) bool { return s.Synced == rev && s.Phase == PhaseIdle })
}

// refused waits until a commit has failed.
func (h *house) refused(rev string) Status {
	h.t.Helper()
	return h.wait("failure of "+rev, func(s Status) bool {
		return s.Failure != nil && s.Failure.Revision == rev && s.Phase == PhaseIdle
	})
}

// polls makes the engine look at the repo n times, one after the other.
func (h *house) polls(n int) Status {
	h.t.Helper()
	s, _ := h.Status()
	for range n {
		want := s.Polls + 1
		h.Poke()
		s = h.wait("poll", func(s Status) bool { return s.Polls >= want && (s.Phase == PhaseIdle || s.Phase == PhaseWaiting) })
	}
	return s
}

// served gives the text of the answers of ws01, which all providers agree on.
func (h *house) served() string { return h.servedBy(0) }

func (h *house) servedBy(gen uint64) string {
	h.t.Helper()
	q := ws01
	q.Generation = gen
	texts := map[string]bool{}
	for _, a := range h.Answer(q) {
		texts[a.Text] = true
	}
	var text string
	for t := range texts {
		text = t
	}
	if len(texts) > 1 {
		h.t.Errorf("generation %d: providers answer from different ones: %v", gen, texts)
	}
	return text
}

func (h *house) current() *store.Record {
	h.t.Helper()
	rec, _, err := h.store.Current()
	if err != nil {
		h.t.Fatal(err)
	}
	return rec
}

// outcome is for what must not fail.
func outcome(t testing.TB) func(Outcome, error) Outcome {
	return func(out Outcome, err error) Outcome {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if out.Failure != nil {
			t.Fatalf("%s while %s: %s", out.Failure.Reason, out.Failure.Stage, out.Failure.Message)
		}
		return out
	}
}

// condition gives the condition of that type.
func condition(t testing.TB, s Status, kind string) Condition {
	t.Helper()
	for _, c := range s.Conditions {
		if c.Type == kind {
			return c
		}
	}
	t.Fatalf("no condition %s in %+v", kind, s.Conditions)
	return Condition{}
}
