package bootloader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/handover"
	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/providers/bootloader/httpboot"
	"github.com/dlreconcile/dlreconcile/providers/bootloader/tftp"
	"github.com/dlreconcile/dlreconcile/providers/internal/blob"
	"github.com/dlreconcile/dlreconcile/providers/internal/published"
	"github.com/dlreconcile/dlreconcile/providers/internal/sock"
)

// Config of the provider. Content is needed.
type Config struct {
	Content *store.Content
	Sink    provider.Sink    // nil: nobody is told
	Clients provider.Clients // nil: nobody is known
	// Sessions ties a machine that asks for an alias to a generation; nil: every
	// machine gets the one that Clients says, or the current one.
	Sessions provider.Sessions
	Log      *slog.Logger     // nil: discards
	Now      func() time.Time // nil: time.Now
	// LoaderDirs are searched in order for iPXE's network boot programs. nil means
	// the places where distributions put them. Those of other loaders are where their
	// packages put them.
	LoaderDirs []string
	Kept       *handover.Store // what the process before left; nil: nothing is kept
}

// defaultLoaderDirs: Debian and Ubuntu; Fedora; Arch and openSUSE.
func defaultLoaderDirs() []string {
	return []string{"/usr/lib/ipxe", "/usr/share/ipxe", "/usr/share/ipxe/x86_64"}
}

// Provider implements provider.Provider for bootloaders and entries.
type Provider struct {
	provider.Keeper // of blobs

	clients  provider.Clients
	sessions provider.Sessions
	sink     provider.Sink
	kept     *handover.Store
	log      *slog.Logger
	now      func() time.Time
	blobs    *blob.Cache
	loaders  *loaders
	tftp     *sock.Set[netip.AddrPort, *net.UDPConn]
	http     *sock.Set[netip.AddrPort, *net.TCPListener]

	// pub is read without a lock; it is replaced under mu.
	pub published.Pointer[*table]
	mu  sync.Mutex

	sentTFTP, sentHTTP transfers
}

// New makes a provider that serves nothing yet.
func New(c Config) (*Provider, error) {
	if c.Content == nil {
		return nil, errors.New("bootloader: no content store")
	}
	blobs := blob.NewCache(c.Content.Open)
	p := &Provider{Keeper: blobs, blobs: blobs, clients: c.Clients, sessions: c.Sessions, sink: c.Sink, log: c.Log, now: c.Now, kept: c.Kept}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.now == nil {
		p.now = time.Now
	}
	if c.LoaderDirs == nil {
		c.LoaderDirs = defaultLoaderDirs()
	}
	p.loaders = &loaders{content: c.Content, dirs: c.LoaderDirs, seen: map[string]imported{}, made: map[string]provider.Blob{}}

	ts := tftp.NewServer(tftp.Config{Open: p.openTFTP, Slow: slow, Done: p.doneTFTP, Log: p.log, Now: p.now})
	p.tftp = sock.New(p.listenTFTP, func(ctx context.Context, a netip.AddrPort, c *net.UDPConn) error {
		return p.ended("TFTP", a, ts.Serve(ctx, c))
	}).Gone(func(a netip.AddrPort) { p.kept.Drop(keptName("tftp", a)) })
	hs := httpboot.NewServer(httpboot.Config{Open: p.openHTTP, Done: p.doneHTTP, Phone: p.phone, Log: p.log, Now: p.now})
	p.http = sock.New(p.listenHTTP, func(ctx context.Context, a netip.AddrPort, l *net.TCPListener) error {
		return p.ended("HTTP", a, hs.Serve(ctx, l))
	}).Check(func(_ netip.AddrPort, l *net.TCPListener) error { return sock.Listening(l) }).
		Gone(func(a netip.AddrPort) { p.kept.Drop(keptName("http", a)) })
	return p, nil
}

// Name implements provider.Provider.
func (p *Provider) Name() string { return "bootloader" }

// Kinds implements provider.Provider.
func (p *Provider) Kinds() []string {
	return []string{"bootloader.grub", "bootloader.ipxe", "bootloader.pxelinux", "entry", "group"}
}

// Run implements provider.Provider. A transfer whose client has vanished may hold
// its return for some seconds.
func (p *Provider) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	var terr, herr error
	wg.Go(func() { terr = p.tftp.Run(ctx) })
	wg.Go(func() { herr = p.http.Run(ctx) })
	wg.Wait()
	return errors.Join(terr, herr)
}

// ended handles the end of a listener: an error leaves the others serving, and the
// listener is opened again, so it is told here, to people.
func (p *Provider) ended(protocol string, a netip.AddrPort, err error) error {
	if err != nil {
		p.log.Error("a listener failed, and is opened again", "protocol", protocol, "listen", a, "err", err)
	}
	return err
}

// Observe implements provider.Provider: what machines fetch is told by events.
func (p *Provider) Observe(context.Context) ([]plan.Observation, error) { return nil, nil }

// requestBuffer is asked for at a TFTP socket: a rack that powers on sends its
// requests in the same second.
const requestBuffer = 1 << 20

// keptName is what the socket of a protocol on an address is called in the store.
func keptName(protocol string, a netip.AddrPort) string {
	return handover.Name(protocol, a.String())
}

func (p *Provider) listenTFTP(ctx context.Context, a netip.AddrPort) (*net.UDPConn, error) {
	uc, err := handover.Open(ctx, p.kept, keptName("tftp", a), handover.UDP(a, ""), func() (*net.UDPConn, error) { return listenTFTP(ctx, a) })
	if err != nil {
		return nil, &bindError{"tftp", a, err}
	}
	uc.SetReadBuffer(requestBuffer) // as much of it as the kernel grants
	return uc, nil
}

func listenTFTP(ctx context.Context, a netip.AddrPort) (*net.UDPConn, error) {
	var lc net.ListenConfig
	c, err := lc.ListenPacket(ctx, "udp4", a.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

func (p *Provider) listenHTTP(ctx context.Context, a netip.AddrPort) (*net.TCPListener, error) {
	l, err := handover.Open(ctx, p.kept, keptName("http", a), handover.TCP(a), func() (*net.TCPListener, error) { return listenHTTP(ctx, a) })
	if err != nil {
		return nil, &bindError{"http", a, err}
	}
	return l, nil
}

func listenHTTP(ctx context.Context, a netip.AddrPort) (*net.TCPListener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", a.String())
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// bindError says which listener could not be bound.
type bindError struct {
	block string // of the server block: "tftp", "http"
	addr  netip.AddrPort
	err   error
}

func (e *bindError) Error() string { return fmt.Sprintf("%s listener: %v", e.block, e.err) }
func (e *bindError) Unwrap() error { return e.err }
