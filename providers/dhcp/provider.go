// Package dhcp is the provider of subnets and hosts: it compiles them, with what
// the boot loaders before it have built, into one immutable table per generation,
// and answers DHCP from the table that the machine's boot session stands on.
//
// It owns the DHCP sockets, and the sockets that answer IPv6 router solicitations;
// both live as long as a server block declares them.
package dhcp

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"github.com/dlreconcile/dlreconcile/engine/handover"
	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
	"github.com/dlreconcile/dlreconcile/providers/internal/published"
	"github.com/dlreconcile/dlreconcile/providers/internal/sock"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Name is the provider's name.
const Name = "dhcp"

// Config is what a Provider is made of. DB and Sessions are needed.
type Config struct {
	// DB keeps the leases, in a bucket of their own. The caller opens it, chooses how
	// long a lease waits for others to share its fsync with (a few milliseconds), and
	// closes it after Run has returned.
	DB       lease.DB
	Sessions provider.Sessions
	Sink     provider.Sink // nil: nobody listens
	Log      *slog.Logger  // nil: nothing is logged
	// Probe is how often it is asked who else gives out addresses; 0 means 5 minutes, a
	// negative one never.
	Probe time.Duration
	Now   func() time.Time // nil: time.Now
	Kept  *handover.Store  // what the process before left; nil: nothing is kept
	// Lost gives when leases were lost last, of Now; zero: none ever were. It is asked
	// once, and told when the newest lease that there is was given or renewed: Now shows
	// no earlier time from then on. nil: none were. See lease.Store.Careful.
	Lost func(newest time.Time) time.Time
}

// Provider implements provider.Provider.
type Provider struct {
	sessions provider.Sessions
	sink     provider.Sink
	every    time.Duration // of probes; negative: there are none
	log      *slog.Logger
	now      func() time.Time
	kept     *handover.Store

	leases *lease.Store
	server *dhcp4.Server
	socks  *sock.Set[dhcp4.Endpoint, *dhcp4.Conn]
	advert *sock.Set[string, *dhcp4.Advertiser] // by interface

	pub published.Pointer[*table] // written by the engine's goroutine only
}

var _ provider.Provider = (*Provider)(nil)

// table gives the table of a generation, 0 being the current one; nil when there
// is none.
func (p *Provider) table(gen uint64) *table {
	t, _ := p.pub.Load().Of(gen)
	return t
}

// New makes a provider and loads its leases. It binds and starts nothing.
func New(cfg Config) (*Provider, error) {
	if cfg.DB == nil || cfg.Sessions == nil {
		return nil, errors.New("dhcp: Config needs DB and Sessions")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	leases, err := lease.Open(cfg.DB, cfg.Now)
	if err != nil {
		return nil, err
	}
	if cfg.Lost != nil {
		leases.Careful(cfg.Lost(leases.Newest()), func(proxy lease.MAC) {
			cfg.Log.Warn("dhcp: leases were lost, so addresses are asked for by ARP before they are offered, and one machine answers for many: it is a router that does proxy ARP, or forges answers, and is not believed; switch proxy ARP off there, or look out for addresses that two machines have", "mac", proxy)
		})
	}
	p := &Provider{sessions: cfg.Sessions, every: cmp.Or(cfg.Probe, 5*time.Minute), sink: cfg.Sink, log: cfg.Log, now: cfg.Now, leases: leases, kept: cfg.Kept}
	p.server = dhcp4.New(dhcp4.Config{
		Leases:    leases,
		Published: p.everyTable,
		Table:     p.tableFor,
		Held:      p.held,
		Answers:   dhcp4.Answers,
		Report:    p.report,
		Log:       cfg.Log,
		Now:       cfg.Now,
	})
	p.socks = sock.New(p.listen, func(ctx context.Context, _ dhcp4.Endpoint, c *dhcp4.Conn) error {
		return p.server.Serve(ctx, c)
	}).Check(func(_ dhcp4.Endpoint, c *dhcp4.Conn) error { return c.Lost() }).
		Gone(func(ep dhcp4.Endpoint) { p.kept.Drop(keptName(ep)) })
	p.advert = sock.New(
		func(_ context.Context, name string) (*dhcp4.Advertiser, error) {
			return dhcp4.OpenAdvertiser(name, cfg.Log), nil
		},
		func(ctx context.Context, name string, a *dhcp4.Advertiser) error {
			return a.Serve(ctx, func() bool {
				t := p.table(0)
				return t != nil && t.advertise[name]
			})
		}).Check(func(_ string, a *dhcp4.Advertiser) error { return a.Lost() })
	return p, nil
}

// Newest gives the last time, of Config.Now, at which a lease was given or renewed; zero:
// none ever was.
func (p *Provider) Newest() time.Time { return p.leases.Newest() }

// Fill writes every lease into an empty bucket of Config.DB.
func (p *Provider) Fill(b *bbolt.Bucket) error { return p.leases.Fill(b) }

// Counts says how many packets of which type got which answer so far.
func (p *Provider) Counts() []dhcp4.Count { return p.server.Counts() }

// Name implements provider.Provider.
func (p *Provider) Name() string { return Name }

// Kinds implements provider.Provider. A server block belongs to everybody who
// binds a socket; this is the provider that speaks for it.
func (p *Provider) Kinds() []string { return []string{"server", "subnet", "host"} }

// Run implements provider.Provider.
func (p *Provider) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return p.socks.Run(ctx) })
	g.Go(func() error { return p.advert.Run(ctx) })
	g.Go(func() error { return p.probe(ctx) })
	return g.Wait()
}

// Retire implements provider.Provider. A table is in use for the time of one
// packet, so nothing has to be waited for.
func (p *Provider) Retire(_ context.Context, live provider.Live) error {
	kept, _ := p.pub.Drop(func(gen uint64, _ *table) bool { return live.Generations[gen] })
	sockets, interfaces := map[dhcp4.Endpoint]bool{}, map[string]bool{}
	for _, t := range kept.ByGen {
		for ep := range t.sockets {
			sockets[ep] = true
		}
		for name := range t.advertise {
			interfaces[name] = true
		}
	}
	p.socks.Retire(sockets)
	p.advert.Retire(interfaces)
	return nil
}

// Observe implements provider.Provider: the leases that are not over.
func (p *Provider) Observe(context.Context) ([]plan.Observation, error) {
	t, now := p.table(0), p.now()
	var seen []plan.Observation
	for _, l := range p.leases.All() {
		if l.Expired(now) {
			continue
		}
		c := client(t, provider.MAC(l.MAC), l.Addr, l.Network)
		seen = append(seen, plan.Observation{
			Kind:    plan.SawLease,
			Host:    c.Host,
			MAC:     c.MAC.String(),
			Address: l.Addr.String(),
			Subnet:  c.Subnet,
		})
	}
	return seen, nil
}

// Lookup says which machine an address belongs to: the one that has a lease of
// it; else the one that it is reserved for; else, unless another server gives out
// the addresses there, the one whose lease of it ran out last. Session and Generation are not known here.
func (p *Provider) Lookup(addr netip.Addr) (provider.Client, bool) {
	addr = addr.Unmap()
	t := p.table(0)
	l, leased := p.leases.ByAddr(addr)
	if !leased || l.Expired(p.now()) {
		if t != nil {
			if h := t.reserved[addr]; h != nil {
				return client(t, h.mac, addr, ""), true
			}
			if s := t.holding(addr); s != nil && s.wire.Proxy {
				leased = false // another server gives it out since
			}
		}
		if !leased {
			return provider.Client{}, false
		}
	}
	return client(t, provider.MAC(l.MAC), addr, l.Network), true
}

// client describes a machine on an address. network is the name of its subnet; ""
// means the one that holds the address. t may be nil.
func client(t *table, mac provider.MAC, addr netip.Addr, network string) provider.Client {
	c := provider.Client{MAC: mac}
	if a, err := schema.ParseAddr(network); err == nil {
		c.Subnet = a
	}
	if t == nil {
		return c
	}
	if h := t.byMAC[mac]; h != nil {
		c.Host = h.Addr
	}
	if c.Subnet.IsZero() {
		if s := t.holding(addr); s != nil {
			c.Subnet = s.Addr
		}
	}
	return c
}
