package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/node"
	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// repo is a source.
type repo struct {
	mu      sync.Mutex
	commits map[string]fstest.MapFS
	tip     string
	onTree  func(context.Context) error // when set, asked first
}

func (r *repo) commit(text string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	hash := fmt.Sprintf("%040d", len(r.commits)+1)
	r.commits[hash] = fstest.MapFS{"site.hcl": &fstest.MapFile{Data: []byte(text)}}
	r.tip = hash
	return hash
}

// back makes an earlier commit the tip.
func (r *repo) back(hash string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tip = hash
}

func (r *repo) Tip(context.Context) (source.Revision, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return source.Revision{Hash: r.tip}, nil
}

func (r *repo) Resolve(_ context.Context, name string) (source.Revision, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.commits[name]; !ok {
		return source.Revision{}, fmt.Errorf("revision %q: %w", name, source.ErrNoRef)
	}
	return source.Revision{Hash: name}, nil
}

func (r *repo) Tree(ctx context.Context, rev source.Revision) (fs.FS, error) {
	r.mu.Lock()
	hook := r.onTree
	r.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.commits[rev.Hash], nil
}

func (r *repo) Verify(context.Context, source.Revision, source.Trusted) (source.Trusted, error) {
	return source.Trusted{}, nil
}

func (r *repo) Run(ctx context.Context, _ chan<- struct{}) error {
	<-ctx.Done()
	return nil
}

// site is a configuration whose answers carry text.
func site(text string) string {
	return fmt.Sprintf(`
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
`, text)
}

// everything is a provider of all there is.
type everything struct {
	mu        sync.Mutex
	byGen     map[uint64]*schema.Desired
	current   uint64
	onPrepare func(context.Context, provider.Input) error
	observe   error
}

func (p *everything) Name() string    { return "everything" }
func (p *everything) Kinds() []string { return []string{"server", "subnet", "host"} }

func (p *everything) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (p *everything) set(f func(context.Context, provider.Input) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onPrepare = f
}

func (p *everything) Prepare(ctx context.Context, in provider.Input) (provider.Txn, error) {
	p.mu.Lock()
	hook := p.onPrepare
	p.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, in); err != nil {
			return nil, err
		}
	}
	return &txn{p, in}, nil
}

func (p *everything) Answer(q provider.Query) []provider.Answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	gen := q.Generation
	if gen == 0 {
		gen = p.current
	}
	return answer(p.byGen[gen], q)
}

func answer(d *schema.Desired, q provider.Query) []provider.Answer {
	if d == nil {
		return nil
	}
	a := provider.Answer{Kind: provider.AnswerDHCP, Provider: "everything", Fields: map[string]string{"domain name": d.Subnets[0].DomainName}}
	for _, h := range d.Hosts {
		if h.Addr == q.Host {
			a.Fields["yiaddr"] = h.Address.String()
		}
	}
	return []provider.Answer{a}
}

func (p *everything) Retire(context.Context, provider.Live) error { return nil }

func (p *everything) Observe(context.Context) ([]plan.Observation, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return []plan.Observation{{Kind: plan.SawLease, MAC: "52:54:00:00:00:01", Address: "10.0.0.21"}}, p.observe
}

type txn struct {
	p  *everything
	in provider.Input
}

func (x *txn) Outputs() map[schema.Addr]provider.Output  { return nil }
func (x *txn) Answer(q provider.Query) []provider.Answer { return answer(x.in.Want, q) }
func (x *txn) Abort()                                    {}

func (x *txn) Commit() {
	x.p.mu.Lock()
	defer x.p.mu.Unlock()
	x.p.byGen[x.in.Generation] = x.in.Want
	if !x.in.Retained {
		x.p.current = x.in.Generation
	}
}

// daemon is a server on a real socket, and all that is behind it.
type daemon struct {
	t        testing.TB
	repo     *repo
	provider *everything
	nodes    *node.Tracker
	engine   *engine.Engine
	store    *store.Store
	path     string
	server   *Server
	*Client
	stop func() // ends everything and waits for it
}

func newDaemon(t testing.TB, with ...Principal) *daemon {
	t.Helper()
	// The path of a unix socket is short.
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	st, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, store: st, repo: &repo{commits: map[string]fstest.MapFS{}}, provider: &everything{byGen: map[uint64]*schema.Desired{}}, path: filepath.Join(dir, "socket")}
	d.nodes, err = node.New(node.Config{
		DB:      st.DB(),
		Current: func() uint64 { return d.engine.Generation() },
		Lookup: func(a netip.Addr) (provider.Client, bool) {
			return provider.Client{MAC: provider.MAC{2}, Subnet: schema.Addr{Kind: "subnet", Name: "lan"}}, a == netip.MustParseAddr("10.0.0.200")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	d.engine = engine.New(engine.Config{Store: st, Source: d.repo, Providers: []provider.Provider{d.provider}, Nodes: d.nodes})
	l, err := Listen(t.Context(), nil, d.path)
	if err != nil {
		t.Fatal(err)
	}
	d.server = &Server{Engine: d.engine, Nodes: d.nodes, Store: st, Overlays: disks{}, Principals: NewPrincipals(with), Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = w.Write([]byte("dlreconcile_up 1\n"))
	})}
	d.Client = NewClient(d.path)
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	run := func(what string, f func() error) {
		parts.Go(func() {
			if err := f(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	d.repo.commit(site("one"))
	run("API", func() error { return d.server.Serve(ctx, l) })
	run("nodes", func() error { return d.nodes.Run(ctx) })
	run("engine", func() error { return d.engine.Run(ctx, nil) })
	d.stop = sync.OnceFunc(func() {
		cancel()
		parts.Wait()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(d.stop)
	return d
}

// wait follows the status until it is as wanted.
func (d *daemon) wait(what string, ok func(engine.Status) bool) engine.Status {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 20*time.Second)
	defer cancel()
	var s engine.Status
	for {
		var err error
		if s, err = d.Status(ctx, s.Seq); err != nil {
			d.t.Fatalf("%s: %v; status: %+v", what, err, s)
		}
		if ok(s) {
			return s
		}
	}
}

func (d *daemon) served(gen uint64) engine.Status {
	d.t.Helper()
	return d.wait(fmt.Sprintf("generation %d", gen), func(s engine.Status) bool { return s.Generation == gen && s.Phase == engine.PhaseIdle })
}

// raw asks without the client, and gives the answer with its body unread.
func (d *daemon) raw(ctx context.Context, method, path, body string) *http.Response {
	d.t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dial net.Dialer
		return dial.DialContext(ctx, "unix", d.path)
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://x"+path, readerOf(body))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("If-Match", "*")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// poll has the daemon look at the source at once.
func (d *daemon) poll() error {
	d.t.Helper()
	if resp := d.raw(d.t.Context(), http.MethodPost, "/v1/poll", ""); resp.StatusCode/100 != 2 {
		return errors.New(resp.Status)
	}
	return nil
}

var errBroken = errors.New("the leases cannot be read")
