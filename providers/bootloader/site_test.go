package bootloader

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func addr(kind, typ, name string) schema.Addr {
	return schema.Addr{Kind: kind, Type: typ, Name: name}
}

var (
	mainServer = addr("server", "", "main")
	lan        = addr("subnet", "", "lan")
	menu       = addr("bootloader", "ipxe", "menu")
	arch       = addr("entry", "", "arch")
	rescue     = addr("entry", "", "rescue")
	archImage  = addr("image", "", "arch")
	archExport = addr("export", "nbd", "arch")
	ws01       = addr("host", "", "ws01")
	ws02       = addr("host", "", "ws02")
)

func at(line int) schema.Range { return schema.Range{File: "site.hcl", Line: line, Column: 1} }

func meta(a schema.Addr, line int, attrs ...string) schema.Meta {
	m := schema.Meta{Addr: a, Range: at(line), Attrs: map[string]schema.Range{}}
	for i, name := range attrs {
		m.Attrs[name] = at(line + 1 + i)
	}
	return m
}

// site is a desired state: one server, one subnet, two hosts, two entries on one
// image.
func site() *schema.Desired {
	return &schema.Desired{
		Servers: []*schema.Server{{
			Meta: meta(mainServer, 1), Address: netip.MustParseAddr("10.0.0.1"),
			TFTP: schema.Listener{Listen: netip.MustParseAddrPort("10.0.0.1:69")},
			HTTP: schema.Listener{Listen: netip.MustParseAddrPort("10.0.0.1:80")},
		}},
		Entries: []*schema.Entry{
			{Meta: meta(arch, 10, "image", "root", "args"), Title: "Arch Linux", Image: archImage, Root: archExport, Args: []string{"quiet"}},
			{Meta: meta(rescue, 20, "image"), Title: "Rescue", Image: archImage},
		},
		Bootloaders: []*schema.Bootloader{{Meta: meta(menu, 30, "entries"), Entries: []schema.Addr{arch, rescue}}},
		Subnets: []*schema.Subnet{{
			Meta: meta(lan, 40, "boot"), Server: mainServer, CIDR: netip.MustParsePrefix("10.0.0.0/24"), Boot: []schema.Addr{menu},
		}},
		Hosts: []*schema.Host{
			{Meta: meta(ws01, 50), MAC: "52:54:00:00:00:01", Subnet: lan},
			{Meta: meta(ws02, 60, "args"), MAC: "52:54:00:00:00:02", Args: []string{"systemd.log_level=debug"}},
		},
	}
}

// bench is a provider with a content store and what an image was built to.
type bench struct {
	*Provider
	t       testing.TB
	content *store.Content
	dir     string // of boot programs
	art     provider.Artifact
	files   map[string][]byte // by digest
	sink    *sink
	clients clients
	boots   *boots
	gen     uint64
}

// boots is a provider.Sessions that begins a boot at every boot program.
type boots struct {
	current func() uint64

	mu      sync.Mutex // guards below
	by      map[netip.Addr]provider.Client
	fetched []string // address and role
	err     error
}

func (s *boots) Boot(provider.Contact) (provider.Session, error) { return provider.Session{}, nil }
func (s *boots) Holds(netip.Addr, provider.MAC) bool             { return false }

func (s *boots) Fetch(a netip.Addr, role provider.AnswerKind) (provider.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetched = append(s.fetched, a.String()+" "+string(role))
	c, open := s.by[a]
	if !open {
		c.MAC = provider.AddressMAC(a)
	}
	if !open || role == provider.AnswerLoader {
		c.Generation = s.current()
	}
	s.by[a] = c
	return c, s.err
}

// calls gives what was asked since it was last called.
func (s *boots) calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.fetched
	s.fetched = nil
	return list
}

type sink struct {
	mu   sync.Mutex
	list []provider.Event
	more chan struct{}
}

func (s *sink) Event(ev provider.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, ev)
	close(s.more)
	s.more = make(chan struct{})
}

// wait gives the first event that f accepts, and takes it out.
func (s *sink) wait(t *testing.T, f func(provider.Event) bool) provider.Event {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		s.mu.Lock()
		for i, ev := range s.list {
			if f(ev) {
				s.list = append(s.list[:i:i], s.list[i+1:]...)
				s.mu.Unlock()
				return ev
			}
		}
		more := s.more
		s.mu.Unlock()
		select {
		case <-more:
		case <-late:
			t.Fatalf("no such event; there are %+v", s.list)
		}
	}
}

type clients map[netip.Addr]provider.Client

func (c clients) ByAddr(a netip.Addr) (provider.Client, bool) {
	cl, ok := c[a]
	return cl, ok
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), files: map[string][]byte{}, sink: &sink{more: make(chan struct{})}, clients: clients{}}
	var err error
	if b.content, err = store.OpenContent(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{fullEFI, snponly, undionly} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(strings.Repeat(name, 500)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.art = b.artifact("one")
	b.boots = &boots{by: map[netip.Addr]provider.Client{}, current: func() uint64 { return b.pub.Load().Current }}
	if b.Provider, err = New(Config{
		Content: b.content, Sink: b.sink, Clients: b.clients, Sessions: b.boots, LoaderDirs: []string{filepath.Join(b.dir, "none"), b.dir},
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// What is published stays open; nothing else may.
		b.Retire(context.Background(), provider.Live{})
		want := 0
		if tab := b.pub.Load().ByGen[b.pub.Load().Current]; tab != nil {
			want = len(tab.blobs)
		}
		if n := b.blobs.Open(); n != want {
			t.Errorf("%d blobs open, the current table has %d", n, want)
		}
	})
	return b
}

func (b *bench) put(text string) provider.Blob {
	b.t.Helper()
	blob, err := b.content.Put(context.Background(), strings.NewReader(text))
	if err != nil {
		b.t.Fatal(err)
	}
	b.files[blob.Digest] = []byte(text)
	return blob
}

// artifact makes an image that differs by its name.
func (b *bench) artifact(name string) provider.Artifact {
	return provider.Artifact{
		Recipe: name, Root: b.put("root " + name), KernelVersion: "6.1.0-" + name, Filesystem: "ext4",
		Kernel: b.put("kernel " + strings.Repeat(name, 100_000)), Initrd: b.put("initrd " + strings.Repeat(name, 5_000)),
	}
}

// input is what the engine would hand over.
func (b *bench) input(d *schema.Desired) provider.Input {
	b.gen++
	art := b.art
	return provider.Input{Generation: b.gen, Want: d, Built: map[schema.Addr]provider.Output{
		archImage: {Artifact: &art},
		archExport: {Export: &provider.Export{
			Name: "arch@" + art.Short(), Server: netip.MustParseAddrPort("10.0.0.1:10809"), Artifact: art,
			Mode: schema.CopyOnWrite, Keep: schema.KeepBoot, Filesystem: "ext4",
		}},
	}}
}

func (b *bench) prepare(d *schema.Desired) provider.Txn {
	b.t.Helper()
	return b.prepareInput(b.input(d))
}

func (b *bench) prepareInput(in provider.Input) provider.Txn {
	b.t.Helper()
	x, err := b.Prepare(context.Background(), in)
	if err != nil {
		b.t.Fatal(err)
	}
	return x
}

// compiled gives the table of d without sockets.
func (b *bench) compiled(d *schema.Desired) *table {
	b.t.Helper()
	tab, err := b.compile(d)
	if err != nil {
		b.t.Fatal(err)
	}
	return tab
}

func (b *bench) compile(d *schema.Desired) (*table, error) {
	b.t.Helper()
	return compile(context.Background(), b.input(d), b.loaders, nil)
}

// run serves until the test ends.
func (b *bench) run() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	b.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Error("Run:", err)
		}
	})
}

// freePort gives a port of 127.0.0.1 that is free for TCP and UDP.
func freePort(t testing.TB) uint16 {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).AddrPort().Port()
		l.Close()
		c, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		c.Close()
		return port
	}
	t.Fatal("no free port")
	return 0
}

// loopback moves the site's server to a free port of 127.0.0.1.
func loopback(t testing.TB, d *schema.Desired) *schema.Desired {
	t.Helper()
	s := d.Servers[0]
	s.Address = netip.MustParseAddr("127.0.0.1")
	s.TFTP.Listen = netip.AddrPortFrom(s.Address, freePort(t))
	s.HTTP.Listen = netip.AddrPortFrom(s.Address, freePort(t))
	return d
}

// get fetches a path over HTTP.
func get(t *testing.T, s *schema.Server, path string) (int, string) {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(fmt.Sprintf("http://%s/%s", s.HTTP.Listen, path))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
