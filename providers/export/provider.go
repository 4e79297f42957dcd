package export

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/handover"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/engine/throttle"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/providers/export/nbd"
	"github.com/dlreconcile/dlreconcile/providers/internal/blob"
	"github.com/dlreconcile/dlreconcile/providers/internal/published"
	"github.com/dlreconcile/dlreconcile/providers/internal/sock"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Config of the provider. Content, Dir and Clients are needed.
type Config struct {
	Content *store.Content
	Dir     string // overlays; nothing else may be in it
	Clients provider.Clients
	Sink    provider.Sink // nil: nobody is told
	Log     *slog.Logger  // nil: discards
	Now     func() time.Time
	Limits  nbd.Limits      // zero fields have defaults
	Reserve int64           // see cow.Config
	TLS     *TLS            // nil: the server speaks none
	Socket  string          // path of the Unix socket; "": there is none
	Kept    *handover.Store // what the process before left; nil: nothing is kept
}

// TLS is what the server needs for it.
type TLS struct {
	Config *tls.Config // see nbd.Security
	// Usable says why nobody could connect by it now; nil when they could.
	Usable func() error
}

// Provider implements provider.Provider for exports.
type Provider struct {
	provider.Keeper // of blobs

	clients  provider.Clients
	sink     provider.Sink
	log      *slog.Logger
	now      func() time.Time
	content  *store.Content
	blobs    *blob.Cache
	overlays *cow.Store
	server   *nbd.Server
	tls      *TLS   // nil: none
	socket   string // see Config
	kept     *handover.Store
	serving  chan struct{} // closed once there is a current generation; under mu
	socks    *sock.Set[netip.AddrPort, net.Listener]
	started  time.Time
	sweep    chan struct{} // capacity 1: an overlay was retired, or a retired one was closed

	// pub is read without a lock; it is replaced under mu.
	pub published.Pointer[*table]

	// mu guards below, and that a blob of a published table is held before the
	// table is dropped. It is not held over network or long disk work.
	mu     sync.Mutex
	conns  map[*attachment]struct{}
	copies map[*copying]struct{}
	asks   map[cow.Key]asks     // for what cannot be read
	barred map[schema.Addr]bool // exports that the log was told nobody can attach to

	stop   *stopping
	told   *throttle.Table      // lines about who was refused
	fills  *throttle.By[filled] // lines and events about disks that are full
	denied atomic.Uint64        // clients that may not have what they asked for
}

// New opens the overlays and makes a provider that serves nothing yet.
func New(c Config) (*Provider, error) {
	blobs := blob.NewCache(c.Content.Open)
	p := &Provider{
		Keeper: blobs, blobs: blobs,
		clients: c.Clients, sink: c.Sink, log: c.Log, now: c.Now,
		content: c.Content,
		sweep:   make(chan struct{}, 1),
		conns:   map[*attachment]struct{}{}, copies: map[*copying]struct{}{}, asks: map[cow.Key]asks{}, barred: map[schema.Addr]bool{}, serving: make(chan struct{}),
		tls: c.TLS, socket: c.Socket, kept: c.Kept,
		told: throttle.New(refusals, nil), stop: newStopping(),
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.now == nil {
		p.now = time.Now
	}
	p.fills = throttle.NewBy[filled](refusals, p.now)
	p.started = p.now()
	var err error
	p.overlays, err = cow.OpenStore(c.Dir, cow.Config{Log: p.log, Now: p.now, Reserve: c.Reserve, Fill: p.filling})
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	p.endConnections()
	p.server = nbd.New(handler{p}, c.Limits, p.log)
	if p.tls != nil {
		p.server.Secure(nbd.Security{Config: p.tls.Config, Failed: p.tlsFailed})
	}
	p.socks = sock.New(p.listen, func(ctx context.Context, _ netip.AddrPort, l net.Listener) error {
		return p.server.Serve(ctx, l)
	}).Check(func(_ netip.AddrPort, l net.Listener) error { return sock.Listening(l.(*net.TCPListener)) }).
		Gone(func(a netip.AddrPort) { p.kept.Drop(keptName(a)) })
	return p, nil
}

// keptName is what the listener on an address is called in the store.
func keptName(a netip.AddrPort) string { return handover.Name(wireProtocol, a.String()) }

func (p *Provider) listen(ctx context.Context, a netip.AddrPort) (net.Listener, error) {
	l, err := handover.Open(ctx, p.kept, keptName(a), handover.TCP(a), func() (*net.TCPListener, error) { return listen(ctx, a) })
	if err != nil {
		return nil, fmt.Errorf("NBD listener: %w", err)
	}
	return l, nil
}

func listen(ctx context.Context, a netip.AddrPort) (*net.TCPListener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", a.String())
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// Name implements provider.Provider.
func (p *Provider) Name() string { return "export" }

// Kinds implements provider.Provider.
func (p *Provider) Kinds() []string { return []string{"export.nbd"} }

// Run implements provider.Provider. Clients are disconnected when it ends, and
// what they wrote is flushed; they come back to the next process.
func (p *Provider) Run(ctx context.Context) error {
	p.stop.begin(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { p.sweeper(ctx) })
	wg.Go(func() { p.serveLocally(ctx) })
	err := p.socks.Run(ctx)
	p.endSoon(func() {
		wg.Wait() // first: serveLocally may be about to serve what it accepted
		p.server.Wait()
	})
	return err
}

// sweeper gives back the space of overlays whose boot is over. That may take a
// while for a large one, and nobody waits for it.
func (p *Provider) sweeper(ctx context.Context) {
	for {
		select {
		case <-p.sweep:
			if err := p.overlays.Sweep(); err != nil {
				p.log.Error("overlays of former boots cannot be cleared away", "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (p *Provider) pokeSweeper() {
	select {
	case p.sweep <- struct{}{}:
	default:
	}
}

func (p *Provider) event(ev provider.Event) {
	if p.sink == nil {
		return
	}
	ev.At, ev.Protocol = p.now(), wireProtocol
	p.sink.Event(ev)
}

const wireProtocol = "nbd"
