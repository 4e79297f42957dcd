package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Bridge is the name of the bridge that everything in a lab hangs on. Servers in
// the lab's namespace listen here.
const Bridge = "br0"

// bridgeMAC is set by hand, because a bridge without an address of its own takes
// the lowest of its ports and so changes it, and the link-local address with it,
// when a machine comes or goes. Locally administered.
const bridgeMAC = "02:d1:00:00:00:01"

// bridgeLinkLocal is the address that follows from bridgeMAC (RFC 4291 appendix A).
// The kernel would add it only once the first machine gives the bridge a carrier,
// and let it be used a second later; a server may want it before.
const bridgeLinkLocal = "fe80::d1:ff:fe00:1/64"

// defaultAddress is the bridge's when Config says none.
var defaultAddress = netip.MustParsePrefix("10.77.0.1/24")

// Config says what a lab is like. The zero value is usable.
type Config struct {
	// Name tells labs apart for people; letters, digits and '-' of it become
	// part of the namespace's name. Empty is "lab".
	Name string
	// Address is the bridge's own and its network; the zero value is
	// 10.77.0.1/24. IPv4. There is an IPv6 link-local address besides, usable at
	// once, where the kernel has IPv6.
	Address netip.Prefix
	// Dir takes console logs and captures. It is made when missing and stays
	// after Close. Empty is a temporary folder that Close removes.
	Dir string
	// Log may be nil.
	Log *slog.Logger
}

// Lab is one private network. It is safe for concurrent use. Whoever called New
// calls Close.
type Lab struct {
	log     *slog.Logger
	address netip.Prefix
	ns      namespace
	dir     string
	ownDir  bool
	starter *starter

	mu       sync.Mutex // guards what follows
	closed   bool
	adding   sync.WaitGroup // calls that add something; Add under mu, while not closed
	ports    int            // taps and veths made so far
	names    map[string]int
	machines map[*Machine]struct{}
	clients  map[*ClientNS]struct{}
	captures map[*Capture]struct{}

	closeOnce sync.Once
	closeErr  error
}

// New makes the namespace and the bridge in it, after removing what labs of dead
// processes left. ctx bounds the call, not the life of the lab.
func New(ctx context.Context, c Config) (_ *Lab, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("lab: needs root, to make network namespaces")
	}
	l := &Lab{
		log:      c.Log,
		address:  c.Address,
		names:    map[string]int{},
		machines: map[*Machine]struct{}{},
		clients:  map[*ClientNS]struct{}{},
		captures: map[*Capture]struct{}{},
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if !l.address.IsValid() {
		l.address = defaultAddress
	}
	if !l.address.Addr().Is4() {
		return nil, fmt.Errorf("lab: address %v is not IPv4", l.address)
	}
	self, err := thisProcess()
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	removeLeftovers(ctx, l.log)
	if l.ns, err = addNamespace(ctx, self.prefix()+clean(c.Name)); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if l.dir, l.ownDir, err = makeDir(c.Dir, l.ns.name); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if err := l.ns.setup(ctx,
		"link set lo up",
		"link add "+Bridge+" address "+bridgeMAC+" type bridge mcast_snooping 0",
		"link set "+Bridge+" addrgenmode none up",
		"address add "+l.address.String()+" dev "+Bridge,
	); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if _, err := os.Stat("/proc/net/if_inet6"); err == nil { // else a kernel without IPv6
		if err := l.ns.setup(ctx, "address add "+bridgeLinkLocal+" dev "+Bridge+" nodad"); err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
	}
	if l.starter, err = newStarter(l.ns); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	l.log.Debug("lab is up", "namespace", l.ns.name, "address", l.address)
	return l, nil
}

// makeDir gives the folder of a lab, and whether it is the lab's to remove.
func makeDir(dir, name string) (string, bool, error) {
	if dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return "", false, err
		}
		return abs, false, os.MkdirAll(abs, 0o755)
	}
	tmp := filepath.Join(os.TempDir(), name)
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return "", false, err // what is there already is not ours
	}
	return tmp, true, nil
}

// Namespace is the name of the network namespace, as `ip netns exec` wants it.
func (l *Lab) Namespace() string { return l.ns.name }

// Address is the bridge's address and its network.
func (l *Lab) Address() netip.Prefix { return l.address }

// Dir is the folder of console logs and captures.
func (l *Lab) Dir() string { return l.dir }

// Do runs fn on the calling goroutine, with its thread moved into the namespace:
// sockets that fn opens belong to the lab and stay so when fn has returned.
// Goroutines that fn starts are outside.
func (l *Lab) Do(fn func() error) error { return l.ns.do(fn) }

// file names a new file in the lab's folder: base.kind, or base.2.kind and so on
// when there was one before.
func (l *Lab) file(base, kind string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := base + "." + kind
	l.names[key]++
	if n := l.names[key]; n > 1 {
		key = fmt.Sprintf("%s.%d.%s", base, n, kind)
	}
	return filepath.Join(l.dir, key)
}

// port names a new network device of the lab's namespace.
func (l *Lab) port(kind string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ports++
	return fmt.Sprintf("%s%d", kind, l.ports)
}

// ErrClosed is what every method gives that would add something to a closed lab.
var ErrClosed = errors.New("lab is closed")

// begin holds off Close until the function that it gives has been called.
func (l *Lab) begin() (end func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	l.adding.Add(1)
	return l.adding.Done, nil
}

// Close kills the machines, ends captures and every process that still runs in the
// lab's namespaces, and removes the namespaces and the temporary folder. It waits
// for calls that are adding something. It is idempotent and safe on every path;
// later calls give the first call's error.
func (l *Lab) Close() error {
	l.closeOnce.Do(func() { l.closeErr = l.close() })
	return l.closeErr
}

func (l *Lab) close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.adding.Wait()
	l.mu.Lock()
	machines, clients, captures := keys(l.machines), keys(l.clients), keys(l.captures)
	l.mu.Unlock()

	var errs []error
	for _, m := range machines {
		m.Kill()
	}
	for _, c := range captures {
		errs = append(errs, c.Stop())
	}
	for _, c := range clients {
		errs = append(errs, c.Close())
	}
	if l.starter != nil {
		errs = append(errs, l.starter.stop())
	}
	ctx, cancel := context.WithTimeout(context.Background(), removeTime)
	defer cancel()
	errs = append(errs, l.ns.remove(ctx))
	if l.ownDir {
		errs = append(errs, os.RemoveAll(l.dir))
	}
	return errors.Join(errs...)
}

// removeTime bounds the removal of one namespace and its processes.
const removeTime = 20 * time.Second

func keys[K comparable](m map[K]struct{}) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	return out
}

// clean makes a name fit for namespaces, devices' logs and file names.
func clean(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, name)
	name = strings.Trim(name[:min(len(name), 40)], "-")
	if name == "" {
		return "lab"
	}
	return name
}
