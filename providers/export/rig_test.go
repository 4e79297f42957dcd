package export

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	loopback  = netip.MustParseAddr("127.0.0.1")
	testMAC   = provider.MAC{0x52, 0x54, 0, 0, 0, 1}
	serverMe  = schema.Addr{Kind: "server", Name: "main"}
	imageArch = schema.Addr{Kind: "image", Name: "arch"}
	subnetLAN = schema.Addr{Kind: "subnet", Name: "lan"}
	hostWS01  = schema.Addr{Kind: "host", Name: "ws", Key: "ws01"}
	menu      = schema.Addr{Kind: "bootloader", Type: "ipxe", Name: "menu"}
	exportCOW = schema.Addr{Kind: "export", Type: "nbd", Name: "arch"}
	exportRO  = schema.Addr{Kind: "export", Type: "nbd", Name: "sealed"}
	entryCOW  = schema.Addr{Kind: "entry", Name: "arch"}
	entryRO   = schema.Addr{Kind: "entry", Name: "sealed"}
)

// who is a provider.Clients that a test edits.
type who struct {
	mu sync.Mutex
	m  map[netip.Addr]provider.Client
}

func (w *who) ByAddr(a netip.Addr) (provider.Client, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, ok := w.m[a]
	return c, ok
}

func (w *who) set(a netip.Addr, c provider.Client) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.m[a] = c
}

func (w *who) edit(a netip.Addr, f func(*provider.Client)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.m[a]
	f(&c)
	w.m[a] = c
}

// journal is a provider.Sink that can be waited on.
type journal struct {
	mu      sync.Mutex
	events  []provider.Event
	changed chan struct{} // closed and replaced with every event
	hook    func(provider.Event)
}

// onEvent has f called with every event from now on; nil: nothing.
func (j *journal) onEvent(f func(provider.Event)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.hook = f
}

func (j *journal) Event(e provider.Event) {
	j.mu.Lock()
	j.events = append(j.events, e)
	close(j.changed)
	j.changed = make(chan struct{})
	hook := j.hook
	j.mu.Unlock()
	if hook != nil {
		hook(e)
	}
}

// wait takes the first event that fits out of the journal, once it is there.
func (j *journal) wait(t testing.TB, what string, fits func(provider.Event) bool) provider.Event {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		j.mu.Lock()
		if i := slices.IndexFunc(j.events, fits); i >= 0 {
			e := j.events[i]
			j.events = slices.Delete(j.events, i, i+1)
			j.mu.Unlock()
			return e
		}
		changed, have := j.changed, slices.Clone(j.events)
		j.mu.Unlock()
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("no %s in 10 s; events: %+v", what, have)
		}
	}
}

// until waits for what holds after some event.
func (j *journal) until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		j.mu.Lock()
		changed := j.changed
		j.mu.Unlock()
		if holds() { // which takes locks that are held where events are made
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("no %s in 10 s", what)
		}
	}
}

func kind(k provider.EventKind) func(provider.Event) bool {
	return func(e provider.Event) bool { return e.Kind == k }
}

// rig is a provider with what it needs around it.
type rig struct {
	*Provider
	t       *testing.T
	state   string
	content *store.Content
	clients *who
	events  *journal
	addr    netip.AddrPort
	stop    func()
	reserve int64        // see Config
	ahead   atomic.Int64 // of the clock, in nanoseconds
	still   time.Time    // where the clock stands, but for those two; zero: it goes
	tick    atomic.Int64 // by which that grows whenever somebody looks at the clock
	logTo   *slog.Logger // see Config
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{
		t: t, state: t.TempDir(), addr: freePort(t),
		clients: &who{m: map[netip.Addr]provider.Client{loopback: {MAC: testMAC, Host: hostWS01, Subnet: subnetLAN}}},
		events:  &journal{changed: make(chan struct{})},
	}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

// start opens the state directory and runs a provider on it.
func (r *rig) start() {
	r.t.Helper()
	var err error
	if r.content, err = store.OpenContent(r.state); err != nil {
		r.t.Fatal(err)
	}
	r.Provider, err = New(Config{Content: r.content, Dir: filepath.Join(r.state, "overlays"), Clients: r.clients, Sink: r.events, Reserve: r.reserve, Log: r.logTo,
		Now: func() time.Time {
			now := r.still
			if now.IsZero() {
				now = time.Now()
			}
			return now.Add(time.Duration(r.ahead.Add(r.tick.Load())))
		}})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	p := r.Provider
	go func() { done <- p.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
}

// restart stops the provider, and starts one that knows only what is on disk.
func (r *rig) restart() {
	r.t.Helper()
	r.stop()
	r.start()
}

func freePort(t testing.TB) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// ext4 seals an empty file system as a root, with random bytes in all but the first 512 KiB
// of it, where nothing is.
func (r *rig) ext4(size int) provider.Artifact {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), "ext4")
	if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
		r.t.Fatal(err)
	}
	run(r.t, "mke2fs", "-q", "-t", "ext4", "-b", "1024", "-O", "^has_journal", file)
	b, err := os.ReadFile(file)
	if err != nil {
		r.t.Fatal(err)
	}
	rand.NewChaCha8([32]byte{1}).Read(b[512<<10:])
	blob, err := r.content.Put(r.t.Context(), bytes.NewReader(b))
	if err != nil {
		r.t.Fatal(err)
	}
	return provider.Artifact{Recipe: "sha256:recipe", Root: blob, Filesystem: "ext4"}
}

// artifact seals random bytes as a root, which look like an ext4 that was unmounted.
func (r *rig) artifact(seed byte, size int) (provider.Artifact, []byte) {
	r.t.Helper()
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	if size >= 2*ext4At {
		clear(b[ext4At : ext4At+256])
		copy(b[ext4At+ext4Magic:], "\x53\xef\x01")
	}
	blob, err := r.content.Put(r.t.Context(), bytes.NewReader(b))
	if err != nil {
		r.t.Fatal(err)
	}
	return provider.Artifact{Recipe: "sha256:recipe", Root: blob, Filesystem: "ext4"}, b
}

// input is a generation with a copy-on-write and a read-only export of one image.
func (r *rig) input(gen uint64, a provider.Artifact) provider.Input {
	meta := func(a schema.Addr, line int) schema.Meta {
		return schema.Meta{Addr: a, Range: schema.Range{File: "site.hcl", Line: line, Column: 1}}
	}
	return provider.Input{
		Generation: gen,
		Want: &schema.Desired{
			Servers: []*schema.Server{{Meta: meta(serverMe, 1), Address: loopback, NBD: schema.Listener{Listen: r.addr}}},
			Images:  []*schema.Image{{Meta: meta(imageArch, 10)}},
			Exports: []*schema.Export{
				{Meta: meta(exportCOW, 20), Server: serverMe, Image: imageArch, Mode: schema.CopyOnWrite, Keep: schema.KeepBoot},
				{Meta: meta(exportRO, 30), Server: serverMe, Image: imageArch, Mode: schema.ReadOnly},
			},
			Entries: []*schema.Entry{
				{Meta: meta(entryCOW, 40), Image: imageArch, Root: exportCOW},
				{Meta: meta(entryRO, 50), Image: imageArch, Root: exportRO},
			},
			Bootloaders: []*schema.Bootloader{{Meta: meta(menu, 60), Entries: []schema.Addr{entryRO, entryCOW}}},
			Subnets:     []*schema.Subnet{{Meta: meta(subnetLAN, 70), Server: serverMe, CIDR: netip.MustParsePrefix("127.0.0.0/8"), Boot: []schema.Addr{menu}}},
			Hosts:       []*schema.Host{{Meta: meta(hostWS01, 80), MAC: testMAC.String(), Entry: entryCOW}},
		},
		Built: map[schema.Addr]provider.Output{imageArch: {Artifact: &a}},
	}
}

// commit prepares and commits.
func (r *rig) commit(in provider.Input) {
	r.t.Helper()
	x, err := r.Prepare(r.t.Context(), in)
	if err != nil {
		r.t.Fatal(err)
	}
	x.Commit()
}

// retire keeps the current generation and those that are given.
func (r *rig) retire(live ...uint64) {
	r.t.Helper()
	l := provider.Live{Generations: map[uint64]bool{}}
	for _, g := range live {
		l.Generations[g] = true
	}
	if err := r.Retire(r.t.Context(), l); err != nil {
		r.t.Fatal(err)
	}
}

func nameOf(family string, a provider.Artifact) string { return family + "@" + a.Short() }
