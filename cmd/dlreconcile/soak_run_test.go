package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/source"
)

// soakRun is a daemon, its site, and all who ask it for something.
type soakRun struct {
	t      *testing.T
	cancel context.CancelFunc
	s      *story
	client *api.Client
	meter  *meter
	site   *soakSite

	generation uint64
	sockets    []string // that are listened on
	rest       gauges   // before the load

	*soakLoad
	tools    *foreign
	dhcp     *dhcpLoad
	perf     *perfDHCP
	fleet    []*soakMachine
	events   soakEvents
	wg       sync.WaitGroup
	unwatch  func() error
	began    time.Time
	took     time.Duration
	kinds    map[string]int // of edits
	list     []soaked       // by apply
	gaugesAt string
}

// soaked is what one apply was like.
type soaked struct {
	took time.Duration
	use  gauges
}

// newSoakRun starts the daemon and has it serve each of the artifacts once.
func newSoakRun(t *testing.T) *soakRun {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	dir := t.TempDir()
	r := &soakRun{t: t, cancel: cancel, s: mixStory(t, ctx), site: newSoakSite(1), kinds: map[string]int{}, gaugesAt: filepath.Join(dir, "gauges.sock")}
	r.client = api.NewClient(filepath.Join(r.s.state, "api.sock"))
	r.soakLoad = &soakLoad{ctx: ctx, over: make(chan struct{}), ledger: soakLedger{explained: map[string]soakFile{}, served: map[string]soakFile{}}}
	r.tools = newForeign(r.soakLoad, dir)
	for k := range soakImages {
		if k > 0 {
			r.site.mark(k)
		}
		r.apply(k == 0)
		r.roots[k] = r.root()
	}
	r.meter = newMeter(r.gaugesAt, r.s.daemon.Process.Pid)
	r.sockets = listeners(t, r.meter.pid)
	r.rest = r.meter.read(t, true)
	t.Logf("%d sockets; at rest %d descriptors, %d goroutines, heap %d KiB", len(r.sockets), r.rest.descriptors, r.rest.Goroutines, r.rest.Heap>>10)
	return r
}

// root gives what the artifact that is offered holds, and lays a copy of it for the
// tools.
func (r *soakRun) root() []byte {
	r.t.Helper()
	digest := strings.TrimPrefix(r.ledger.offer.Load().digest, "sha256:")
	root, err := os.ReadFile(filepath.Join(r.s.state, "blobs", "sha256", digest[:2], digest))
	if err != nil {
		r.t.Fatal(err)
	}
	if sum := sha256.Sum256(root); hex.EncodeToString(sum[:]) != digest || len(root) != mixSize {
		r.t.Fatalf("%s has %d bytes with the digest %x", digest, len(root), sum)
	}
	if err := os.WriteFile(r.tools.want(digest), root, 0o644); err != nil {
		r.t.Fatal(err)
	}
	return root
}

// apply commits the site, waits until the commit is what is served, and says how long
// that took. The first starts the daemon.
func (r *soakRun) apply(first bool) time.Duration {
	r.t.Helper()
	files, err := r.site.files(first)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.images = slices.Clone(r.site.images)
	r.mu.Unlock()
	began := time.Now()
	rev, err := source.Commit(r.s.repo, files, fmt.Sprintf("commit %d", r.generation+1))
	if err != nil {
		r.t.Fatal(err)
	}
	if first {
		mixDaemon(r.t, r.s, gaugesAt+"="+r.gaugesAt)
	}
	st, err := r.s.reached(rev.Hash)
	if err != nil {
		r.t.Fatal(err)
	}
	took := time.Since(began)
	if r.generation++; st.Generation != r.generation {
		r.t.Fatalf("generation %d is served, want %d", st.Generation, r.generation)
	}
	r.newest.Store(int64(r.site.commit))
	if err := r.ledger.explain(r.ctx, r.client); err != nil {
		r.t.Fatal(err)
	}
	return took
}

// work begins the load.
func (r *soakRun) work() {
	r.t.Helper()
	var err error
	if r.dhcp, err = newDHCPLoad(soakRelay, mixServer, soakRate, soakClients); err != nil {
		r.t.Fatal(err)
	}
	r.perf = &perfDHCP{
		relay: soakPerfRelay, server: mixServer, rate: soakPerfRate, clients: soakClients,
		dropped: func() (int, error) { return r.meter.dropped(soakPerfRelay) },
	}
	r.began = time.Now()
	r.fleet = r.machines()
	for _, m := range r.fleet {
		r.wg.Go(m.live)
	}
	r.wg.Go(r.tools.run)
	for what, run := range map[string]func(<-chan struct{}) error{"the DHCP load": r.dhcp.run, "perfdhcp": r.perf.run} {
		r.wg.Go(func() {
			if err := run(r.over); err != nil {
				r.fail("%s: %v", what, err)
			}
		})
	}
	ctx, cancel := context.WithCancel(r.ctx)
	watched := make(chan error, 1)
	go func() { watched <- r.events.watch(ctx, r.client) }()
	r.unwatch = func() error { cancel(); return <-watched }
}

// end ends the load, and waits until everybody is done.
func (r *soakRun) end() {
	r.t.Helper()
	r.took = time.Since(r.began)
	close(r.over)
	r.wg.Wait()
	if err := r.unwatch(); err != nil {
		r.t.Error(err)
	}
}

// deaf gives the sockets that are not listened on any more. The system's list of
// sockets is not read in one go, so that one may be missing by chance.
func (r *soakRun) deaf() []string {
	r.t.Helper()
	missing := r.sockets
	for looks := 0; looks < 5 && len(missing) > 0; looks++ {
		now := listeners(r.t, r.meter.pid)
		missing = slices.DeleteFunc(slices.Clone(r.sockets), func(s string) bool { return slices.Contains(now, s) })
	}
	return missing
}
