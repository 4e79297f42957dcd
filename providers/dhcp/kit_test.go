package dhcp_test

import (
	"context"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/dhcp"
	"github.com/dlreconcile/dlreconcile/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

var (
	main_   = schema.Addr{Kind: "server", Name: "main"}
	lan     = schema.Addr{Kind: "subnet", Name: "lan"}
	menu    = schema.Addr{Kind: "bootloader", Type: "ipxe", Name: "menu"}
	special = schema.Addr{Kind: "bootloader", Type: "ipxe", Name: "special"}
	ws01    = schema.Addr{Kind: "host", Name: "ws", Key: "ws01"}
	mac1    = provider.MAC{0x52, 0x54, 0, 0, 0, 1}
	mac2    = provider.MAC{0x52, 0x54, 0, 0, 0, 2}
)

func meta(a schema.Addr, line int) schema.Meta {
	return schema.Meta{Addr: a, Range: schema.Range{File: "site.hcl", Line: line, Column: 1}, Attrs: map[string]schema.Range{
		"interface": {File: "site.hcl", Line: line + 1, Column: 3},
		"address":   {File: "site.hcl", Line: line + 2, Column: 3},
		"mode":      {File: "site.hcl", Line: line + 3, Column: 3},
	}}
}

// desired is one server, one subnet, and one host on it.
func desired() *schema.Desired {
	return &schema.Desired{
		Servers: []*schema.Server{{
			Meta: meta(main_, 1), Interface: "eth0", Address: ip("10.0.0.1"),
			DHCP: schema.Listener{Listen: netip.MustParseAddrPort("10.0.0.1:67")},
		}},
		Subnets: []*schema.Subnet{{
			Meta: meta(lan, 10), Server: main_, CIDR: netip.MustParsePrefix("10.0.0.0/24"), Authoritative: true, BOOTP: true,
			Routers: []netip.Addr{ip("10.0.0.254")}, DomainNameServers: []netip.Addr{ip("10.0.0.3")}, DomainName: "example.net",
			NextServer: ip("10.0.0.1"), LeaseTime: 10 * time.Minute, Boot: []schema.Addr{menu}, RouterAdvertisement: true,
			Pools: []schema.Pool{{From: ip("10.0.0.250"), To: ip("10.0.0.255")}},
		}},
		Hosts: []*schema.Host{{Meta: meta(ws01, 30), MAC: mac1.String(), Address: ip("10.0.0.21"), Subnet: lan, Hostname: "ws01"}},
	}
}

func tree(id string) *provider.Tree {
	return &provider.Tree{ID: id, Targets: []provider.Target{
		{Arch: provider.AnyArch, Class: "iPXE", File: "http://10.0.0.1/b/" + id + "/boot.ipxe"},
		{Arch: 16, HTTP: true, File: "http://10.0.0.1/b/" + id + "/snponly.efi"},
		{Arch: 0, File: "b/" + id + "/undionly.kpxe"},
		{Arch: 7, File: "b/" + id + "/snponly.efi"},
	}}
}

func built(ids ...string) map[schema.Addr]provider.Output {
	if len(ids) == 0 {
		ids = []string{"own", "any"}
	}
	return map[schema.Addr]provider.Output{menu: {Trees: map[provider.TreeKey]*provider.Tree{
		{Host: ws01, Subnet: lan}: tree(ids[0]),
		{Subnet: lan}:             tree(ids[1]),
	}}}
}

// machines plays engine/node: it pins machines, and hears events.
type machines struct {
	mu     sync.Mutex
	pinned map[provider.MAC]uint64
	lives  map[netip.Addr]provider.MAC
	fail   error
	boots  []provider.Contact
	events []provider.Event
}

func (m *machines) Boot(c provider.Contact) (provider.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.boots = append(m.boots, c)
	if gen, ok := m.pinned[c.MAC]; ok {
		return provider.Session{ID: "s", Generation: gen}, m.fail
	}
	return provider.Session{}, m.fail
}

func (m *machines) Holds(a netip.Addr, mac provider.MAC) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, ok := m.lives[a]
	return ok && h != mac
}

func (m *machines) Event(e provider.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, e)
}

func (m *machines) pin(mac provider.MAC, gen uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pinned[mac] = gen
}

// clock stands still until told to move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }
func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// daemon is a provider and what it needs.
type daemon struct {
	*dhcp.Provider
	t     testing.TB
	nodes *machines
	clock *clock
	db    *bbolt.DB
}

func openDB(t testing.TB, path string) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	db.MaxBatchDelay = time.Millisecond
	t.Cleanup(func() { db.Close() })
	return db
}

func newDaemon(t testing.TB, path string) *daemon {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "db")
	}
	d := &daemon{
		t: t, db: openDB(t, path), clock: &clock{t: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)},
		nodes: &machines{pinned: map[provider.MAC]uint64{}, lives: map[netip.Addr]provider.MAC{}},
	}
	p, err := dhcp.New(dhcp.Config{DB: d.db, Sessions: d.nodes, Sink: d.nodes, Now: d.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	d.Provider = p
	return d
}

// run starts the provider; the test's end stops it and waits.
func (d *daemon) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	d.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			d.t.Error(err)
		}
	})
}

func input(gen uint64, want *schema.Desired, out map[schema.Addr]provider.Output) provider.Input {
	return provider.Input{Generation: gen, Want: want, Built: out}
}

func (m *machines) Fetch(netip.Addr, provider.AnswerKind) (provider.Client, error) {
	return provider.Client{}, nil
}
