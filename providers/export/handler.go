package export

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/throttle"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/providers/export/nbd"
	"github.com/dlreconcile/dlreconcile/providers/internal/blob"
)

// handler is the provider as its NBD server sees it.
type handler struct{ p *Provider }

// client says who is behind an address. Nobody unknown gets anything.
func (p *Provider) client(remote netip.AddrPort) (provider.Client, error) {
	c, ok := p.clients.ByAddr(remote.Addr())
	if !ok {
		return provider.Client{}, denied("no machine is known at %s: it has no lease, no reservation and no boot session here", remote.Addr())
	}
	return c, nil
}

// who does what Info and Open have in common before a name is looked up. A program of
// this machine is nobody's client.
func (p *Provider) who(peer nbd.Peer, raw string) (r request, c provider.Client, err error) {
	if !peer.Local {
		if c, err = p.client(peer.Remote); err != nil {
			return request{}, c, err
		}
	}
	r, err = parseName(raw)
	return r, c, err
}

// find finds what a client asks for, and which boot it is of: none, the zero key, for a
// program of this machine.
func (p *Provider) find(peer nbd.Peer, r request, c provider.Client) (t target, boot cow.Key, err error) {
	pub := p.pub.Load()
	if peer.Local {
		t, err = resolveLocally(pub, r)
		return t, cow.Key{}, err
	}
	at := whence(peer)
	boot = p.bootKey(r, c, at.addr)
	t, err = p.resolve(pub, r, c, at, boot)
	return t, boot, err
}

// refusals are how often the log tells of one address that it was refused something:
// five times, and then every ten seconds.
var refusals = throttle.Limits{Each: 0.1, EachBurst: 5, All: 10, AllBurst: 100}

// refused tells the world why a client was denied; other errors are the server's
// to log.
func (p *Provider) refused(peer nbd.Peer, raw string, c provider.Client, err error) {
	var d *denial
	if !errors.As(err, &d) {
		return
	}
	p.denied.Add(1)
	const longest = 255
	remote := peer.Remote
	if p.told.Take(remote.Addr()) {
		log := p.log.With("client", remote.Addr().String())
		switch {
		case peer.Local:
			log = p.log.With("client", p.socket)
		case !c.MAC.IsZero():
			log = log.With("mac", c.MAC.String())
		}
		log.Warn("a client is refused an export", "export", raw[:min(len(raw), longest)], "why", d.reason)
	}
	if peer.Local {
		return
	}
	p.event(provider.Event{
		Kind: provider.EventDenied, MAC: c.MAC, Addr: remote.Addr(), Host: c.Host, Subnet: c.Subnet,
		Generation: c.Generation, Name: raw[:min(len(raw), longest)], Err: d.reason,
	})
}

// List implements nbd.Handler: what the client may attach to as things are, of the
// generation it is pinned to and of the current one, by names that name no boot.
func (h handler) List(_ context.Context, peer nbd.Peer) []nbd.Listed {
	p := h.p
	pub := p.pub.Load()
	if peer.Local {
		return listedLocally(pub)
	}
	c, err := p.client(peer.Remote)
	if err != nil {
		return nil
	}
	var out []nbd.Listed
	for _, t := range order(pub, c.Generation) {
		if t.gen != c.Generation && t.gen != pub.Current {
			continue
		}
		for _, s := range t.sorted() {
			if slices.ContainsFunc(out, func(l nbd.Listed) bool { return l.Name == s.Name }) {
				continue
			}
			if now, err := p.see(peer, request{Name: s.Name, Family: s.Family, Looks: true}, c); err == nil {
				out = append(out, nbd.Listed{Name: s.Name, Description: now.description()})
			}
		}
	}
	return out
}

// Info implements nbd.Handler. Who would be refused to attach is refused it too.
func (h handler) Info(_ context.Context, peer nbd.Peer, raw string) (nbd.Info, error) {
	p := h.p
	r, c, err := p.who(peer, raw)
	var t target
	if err == nil {
		t, err = p.see(peer, r, c)
	}
	if err != nil {
		p.refused(peer, raw, c, err)
		return nbd.Info{}, err
	}
	return t.info(r), nil
}

// see finds what a client would be attached to, or why it would be refused.
func (p *Provider) see(peer nbd.Peer, r request, c provider.Client) (t target, err error) {
	err = p.withFiles(func(*blob.File) error {
		var err error
		t, _, _, err = p.may(peer, r, c)
		return err
	})
	return t, err
}

// Open implements nbd.Handler.
func (h handler) Open(ctx context.Context, peer nbd.Peer, raw string) (nbd.Export, error) {
	a, err := h.p.attach(ctx, peer, raw)
	if err != nil {
		return nbd.Export{}, err
	}
	return nbd.Export{
		Info: a.info(a.request), Backend: a.backend,
		Attached: a.attached, Detached: a.detached,
	}, nil
}

// info is what a client is told; it follows from the name and the mode alone, so
// that a client that comes back is told the same.
func (t target) info(r request) nbd.Info {
	i := nbd.Info{Name: t.Name, Description: t.description(), Size: t.Root.Size}
	if t.keeps == keepsNothing {
		i.ReadOnly, i.MultiConn = true, true
		return i
	}
	i.Zeroes = true
	// A named instance has one connection at a time. Others share one overlay, whose
	// Sync covers the writes of all, unless each connection has its own.
	i.MultiConn = r.Instance == "" && t.keeps != keepsConnection
	return i
}

func (t target) description() string {
	return fmt.Sprintf("%s, %s, %s", t.Image, t.Filesystem, t.keeps.mode())
}

// sealed is the backend of a read-only export.
type sealed struct{ *blob.File }

func (s sealed) Size() (int64, error)             { return s.Blob.Size, nil }
func (sealed) WriteAt([]byte, int64) (int, error) { return 0, syscall.EROFS }
func (sealed) Sync() error                        { return nil }
