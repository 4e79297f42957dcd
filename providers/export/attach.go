package export

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pojntfx/go-nbd/pkg/backend"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/providers/export/nbd"
	"github.com/dlreconcile/dlreconcile/providers/internal/blob"
)

// attachment is one client on one export, from the lookup of the name to the end
// of its connection.
type attachment struct {
	target
	request request
	client  provider.Client
	remote  netip.AddrPort
	local   bool    // a program of this machine; no machine's boot
	key     cow.Key // of its overlay; zero when read-only
	boot    cow.Key // which boot it is of: the key that its overlay has or would have

	p        *Provider
	drop     func()
	blob     *blob.File // held
	overlay  *cow.Overlay
	most     int64 // that the overlay may hold; guarded by Provider.mu
	backend  backend.Backend
	attaches bool          // EventAttach was sent; only its connection's goroutine
	done     chan struct{} // closed when nothing of it touches its overlay any more
}

// attach resolves a name and makes it ready to be served. The caller calls
// detached when it gave no error.
func (p *Provider) attach(ctx context.Context, peer nbd.Peer, raw string) (*attachment, error) {
	r, c, err := p.who(peer, raw)
	if err == nil {
		var a *attachment
		var before []*attachment
		if a, before, err = p.register(peer, r, c); err == nil {
			if err = a.open(ctx, before); err == nil {
				return a, nil
			}
			a.close()
		}
	}
	p.refused(peer, raw, c, err)
	return nil, err
}

// register looks the name up, holds what it stands for and counts the connection,
// all at one moment, so that a generation that is retired meanwhile is either not
// found or stays. before lists the connections that this one takes the place of.
func (p *Provider) register(peer nbd.Peer, r request, c provider.Client) (a *attachment, before []*attachment, err error) {
	err = p.withFiles(func(base *blob.File) error {
		t, boot, w, err := p.may(peer, r, c)
		if err != nil {
			return err
		}
		var held *blob.File
		switch {
		case t.served != nil:
			held = t.served.blob.Hold()
		case base != nil && base.Digest == t.Root.Digest:
			held = base.Hold()
		default:
			return &missing{root: t.Root}
		}
		if w.take != nil {
			w.take()
		}
		a, before = &attachment{
			target: t, request: r, client: c, remote: peer.Remote, local: peer.Local, boot: boot, key: w.key,
			p: p, drop: peer.Drop, blob: held, done: make(chan struct{}), most: t.limit,
		}, w.before
		p.conns[a] = struct{}{}
		p.endCopies(a.key)
		return nil
	})
	return a, before, err
}

// missing is a file without which a client cannot be told, or given, anything. It has to
// be opened first, with p.mu not held: that may take as long as the disk likes, and is
// nobody else's affair.
type missing struct {
	root    provider.Blob
	damaged error // of one that is open: what the client is told unless the store has another; nil: it is to be opened
}

func (m *missing) Error() string { return "not open: " + m.root.Digest }

// withFiles calls do with p.mu held, again and again until it misses no file. base is the
// one that it missed last, if any; do holds it if it keeps it.
func (p *Provider) withFiles(do func(base *blob.File) error) error {
	var base *blob.File
	defer func() {
		if base != nil {
			base.Release()
		}
	}()
	for renewed := false; ; {
		p.mu.Lock()
		err := do(base)
		p.mu.Unlock()
		var m *missing
		switch {
		case !errors.As(err, &m):
			return err
		case m.damaged == nil:
			if base != nil { // what is asked for has changed meanwhile
				base.Release()
			}
			if base, err = p.blobs.Get(m.root); err != nil {
				return fmt.Errorf("the base of an overlay: %w", err)
			}
		case renewed || p.blobs.RenewBlob(m.root) != nil:
			return m.damaged
		default:
			renewed = true
		}
	}
}

// writable is what a client gets that can write. It is zero where nothing can be written.
type writable struct {
	key    cow.Key       // of the overlay
	before []*attachment // connections that it takes the place of
	take   func()        // notes that the client has it now, with p.mu held; nil: there is nothing to note
}

// may finds what a client asks for, and says why it may not have it as things are: for
// all but the disk's own state, which open sees. It gives and takes nothing. The caller
// holds p.mu, in withFiles.
func (p *Provider) may(peer nbd.Peer, r request, c provider.Client) (t target, boot cow.Key, w writable, err error) {
	t, boot, err = p.find(peer, r, c)
	if err == nil && !peer.Local {
		err = p.standsElsewhere(boot, peer.Remote.Addr())
	}
	if err == nil && t.served != nil {
		err = mayBegin(t)
	}
	if err == nil && t.keeps != keepsNothing {
		err = p.cannotBeRead(t, boot, c, r, peer.Remote.Addr())
	}
	if err == nil && t.keeps != keepsNothing {
		err = p.tookAway(t, boot, c, r)
	}
	if err == nil {
		w, err = p.overlayKey(t, boot, c.Session)
	}
	return t, boot, w, err
}

// overlayKey says which overlay a client gets. The caller holds p.mu.
func (p *Provider) overlayKey(t target, boot cow.Key, session string) (w writable, err error) {
	switch t.keeps {
	case keepsBoot:
		r, found := p.overlays.Lookup(boot)
		if p.forgotten(boot) || found && r.Retired && boot.Instance != staticInstance {
			return w, errBootOver
		}
		w.key = boot
		if named(boot.Instance) {
			w.before = p.connsOf(boot)
		}
	case keepsHost, keepsCopy:
		return p.keptKey(t, boot, session)
	case keepsConnection:
		w.key, w.before, err = p.connectionKey(boot)
	}
	return w, err
}

// mayBegin says why nothing may be attached to a root: its bytes are not what they
// were. Who has written over it in this boot comes back to it all the same: that
// machine has it mounted.
func mayBegin(t target) error {
	err := t.served.blob.Sound()
	if err == nil || t.mine {
		return nil
	}
	return &missing{t.Root, denied("the root is damaged, and waits to be replaced: %v", err)}
}

// standsElsewhere says why a boot may not be attached from an address: the machine
// has a connection of another boot from another address. What makes an address
// somebody's is a DHCP packet, which anybody can send in the machine's name; it must
// not end the boot of a machine that is up. One that was rebooted comes from the
// address that it had; or its old connection is over once the keepalive has failed,
// and nbdroot asks again until then. The caller holds p.mu.
func (p *Provider) standsElsewhere(boot cow.Key, addr netip.Addr) error {
	for other := range p.conns {
		if other.boot.Machine == boot.Machine && other.boot.Instance != boot.Instance && other.remote.Addr() != addr {
			return denied("the machine has a root attached from %s, in another boot", other.remote.Addr())
		}
	}
	return nil
}

// open makes the backend. A connection of the same boot is dropped first, and
// what it was doing is waited for: a write that the client gave up on and sent
// again must not be followed by the first copy of it.
func (a *attachment) open(ctx context.Context, before []*attachment) error {
	for _, b := range before {
		b.drop()
	}
	for _, b := range before {
		select {
		case <-b.done:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the former connection: %w", context.Cause(ctx))
		}
	}
	switch a.keeps {
	case keepsNothing:
		a.backend = sealed{a.blob}
		return nil
	case keepsConnection:
		if err := a.p.mayConnectAgain(a.boot, a.client); err != nil {
			return err
		}
	case keepsHost, keepsCopy:
		// That another boot has it now, or that what it had lay over another artifact,
		// must be known after a crash too, before this one writes.
		if err := a.p.overlays.Save(a.p.concerned(a.boot.Machine, a.key.Export)...); err != nil {
			return err
		}
	}
	base := cow.Base{Digest: a.Root.Digest, Size: a.Root.Size}
	note := notes(a.target, a.client, a.boot)
	if former := a.p.inherited(a.key, a.keeps); former != "" && a.keeps != keepsConnection {
		note[noteFormer] = former
	}
	o, err := a.p.overlays.Open(a.key, base, a.blob, note)
	if (errors.Is(err, cow.ErrBase) || errors.Is(err, cow.ErrRetired)) && a.mayStartAnew() {
		if err = a.p.overlays.Remove(a.key); err == nil {
			o, err = a.p.overlays.Open(a.key, base, a.blob, note)
		}
	}
	switch {
	case errors.Is(err, cow.ErrRetired):
		return errBootOver
	case errors.Is(err, cow.ErrBase):
		return denied("the overlay of this boot lies over another artifact")
	case err != nil:
		return err
	}
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	a.overlay, a.backend = o, o
	o.SetLimit(a.most) // a commit since then has set it
	return nil
}

// mayStartAnew reports whether an overlay over another base may be thrown away:
// only where no boot is known that it could belong to.
func (a *attachment) mayStartAnew() bool {
	if r, ok := a.p.overlays.Lookup(a.key); ok && isRefused(r) {
		return false // since it was looked up
	}
	return a.boot.Instance == staticInstance && (a.keeps == keepsHost || a.keeps == keepsCopy || a.key == a.boot)
}

// attached is called once the client was told.
func (a *attachment) attached() {
	if a.local {
		return // no machine does anything
	}
	a.attaches = true
	ev := a.event(provider.EventAttach)
	if a.overlay == nil && a.request.Instance == "" {
		a.p.event(ev) // a reader that names no boot says nothing about boots
		return
	}
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	a.p.event(ev)
	if a.overlay != nil {
		a.adoptSession()
	}
	a.p.endFormerBoots(a)
	a.p.givesBack(a)
}

// adoptSession ties the overlay of a client of which no session was known to the
// session that its attaching began. The caller holds p.mu since before the event,
// so that another connection of this client finds either no session or this note.
func (a *attachment) adoptSession() {
	if a.request.Instance != "" || a.client.Session != "" {
		return
	}
	if c, ok := a.p.clients.ByAddr(a.remote.Addr()); ok && c.MAC == a.client.MAC && c.Session != "" {
		a.p.overlays.Note(a.key, noteSession, c.Session)
		a.p.pokeSweeper()
	}
}

// detached is called when the connection is over.
func (a *attachment) detached(s nbd.Stats) {
	a.close()
	if !a.attaches {
		return
	}
	ev := a.event(provider.EventDetach)
	ev.Bytes = int64(s.Read + s.Written)
	if s.Err != nil {
		ev.Err = s.Err.Error()
	}
	a.p.event(ev)
}

func (a *attachment) event(k provider.EventKind) provider.Event {
	return provider.Event{
		Kind: k, MAC: a.client.MAC, Addr: a.remote.Addr(), Host: a.client.Host, Subnet: a.client.Subnet,
		Generation: a.Generation, Name: a.Name, Artifact: a.Root.Digest, Image: a.Image, Instance: a.request.Instance,
	}
}

// close gives everything back.
func (a *attachment) close() {
	a.closeOverlay()
	a.blob.Release()
	a.p.mu.Lock()
	delete(a.p.conns, a)
	a.p.mu.Unlock()
	close(a.done)
	a.p.pokeSweeper() // its overlay may have been retired
}

// closeOverlay gives the overlay back, if there is one.
func (a *attachment) closeOverlay() {
	if a.keeps == keepsConnection {
		// It may be made and not open. Nobody else is given its key before that is over.
		if _, made := a.p.overlays.Lookup(a.key); !made && a.overlay == nil {
			return
		}
		if err := a.p.endConnection(a.key, a.boot, a.overlay); err != nil {
			a.p.log.Error("the overlay of a connection that is over cannot be removed", "overlay", a.key.String(), "err", err)
		}
		return
	}
	if a.overlay == nil {
		return
	}
	a.closeOpen()
	a.p.overlays.Note(a.key, noteSeen, a.p.now().UTC().Format(time.RFC3339))
}

// endFormerBoots drops the connections of boots that are over now that a is
// attached, and retires their overlays, of whatever export: a machine whose next
// boot has another root never comes back to the old one. The caller holds p.mu:
// what attached before is in conns, and what comes later finds the overlay
// retired.
func (p *Provider) endFormerBoots(a *attachment) {
	all := p.overlays.Of(a.boot.Machine, "")
	if named(a.boot.Instance) && slices.ContainsFunc(all, func(r cow.Record) bool {
		return r.Retired && bootOf(r) == a.boot.Instance && recorded(r).keeps != keepsConnection ||
			hadFormerly(r, a.boot.Instance)
	}) {
		return // a is of a former boot itself, on an export without an overlay of it
	}
	for _, r := range append(all, p.overlays.Of(workingCopy, a.boot.Export)...) {
		if holder(r) != a.boot.Machine {
			continue
		}
		conns := p.connsOf(r.Key)
		if !isOver(r, a.boot, a.key, a.client.Session, len(conns) > 0) {
			continue
		}
		p.overlays.Retire(r.Key)
		if r.Machine == a.key.Machine && r.Export == a.key.Export && recorded(r).keeps == a.keeps {
			p.overlays.Note(r.Key, noteFormer, "") // a's list has them
		}
		p.pokeSweeper()
		for _, c := range conns {
			c.drop()
		}
	}
}
