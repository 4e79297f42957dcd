package bootloader

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/internal/sock"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Prepare implements provider.Provider: it writes every script, opens every file
// that will be served, and binds sockets that are not bound yet. Those of a retained
// generation are bound once it and a current one are committed, if they can be.
func (p *Provider) Prepare(ctx context.Context, in provider.Input) (provider.Txn, error) {
	found := recorded(in)
	if found == nil {
		var err error
		if found, err = p.loaders.load(ctx); err != nil {
			return nil, err
		}
	}
	t, err := compile(in, found, slices.Collect(maps.Values(p.pub.Load().ByGen)))
	if err != nil {
		return nil, err
	}
	if err := t.openBlobs(p.blobs); err != nil {
		return nil, err
	}
	for _, b := range in.Want.Bootloaders {
		o := t.outputs[b.Addr]
		o.Blobs = found
		t.outputs[b.Addr] = o
	}
	if missing := found.missing(); len(t.offers) > 0 && len(missing) > 0 {
		p.log.Warn("boot programs are missing: only machines with iPXE in their ROM can do without; they are in the package ipxe", "missing", missing, "searched", p.loaders.dirs)
	}
	x := &txn{p: p, table: t, retained: in.Retained}
	if !in.Retained {
		if err := x.bind(ctx); err != nil {
			t.release()
			return nil, named(err, in.Want)
		}
	}
	return x, nil
}

// recorded gives the boot programs that a generation was recorded with, whatever
// the distribution's package holds by now; nil when nothing is recorded.
func recorded(in provider.Input) programs {
	if !in.Offline {
		return nil
	}
	for _, b := range in.Want.Bootloaders {
		if blobs := in.Blobs[b.Addr]; blobs != nil {
			return blobs
		}
	}
	return nil
}

// named adds to the error of a listener the block that declares it.
func named(err error, want *schema.Desired) error {
	var be *bindError
	if !errors.As(err, &be) {
		return err
	}
	for _, s := range want.Servers {
		l := s.TFTP
		if be.block == "http" {
			l = s.HTTP
		}
		if !l.Disabled && l.Listen == be.addr {
			return fmt.Errorf("%s (%s): %w", s.Addr, s.At(be.block+".listen"), err)
		}
	}
	return err
}

// unbound is told that a listener of an earlier generation is not there.
func (p *Provider) unbound(_ netip.AddrPort, err error) {
	p.log.Warn("machines that boot with an earlier configuration cannot reach its listener, which cannot be bound", "err", err)
}

// txn is one prepared generation.
type txn struct {
	p        *Provider
	table    *table
	tftp     *sock.Pending[netip.AddrPort, *net.UDPConn] // nil when retained
	http     *sock.Pending[netip.AddrPort, *net.TCPListener]
	retained bool
	once     sync.Once
}

func (x *txn) bind(ctx context.Context) (err error) {
	if x.tftp, err = x.p.tftp.Prepare(ctx, sorted(x.table.tftp)); err != nil {
		return err
	}
	if x.http, err = x.p.http.Prepare(ctx, sorted(x.table.http)); err != nil {
		x.tftp.Abort()
	}
	return err
}

func sorted(set map[netip.AddrPort]bool) []netip.AddrPort {
	return slices.SortedFunc(maps.Keys(set), netip.AddrPort.Compare)
}

// Outputs implements provider.Txn.
func (x *txn) Outputs() map[schema.Addr]provider.Output { return maps.Clone(x.table.outputs) }

// Answer implements provider.Txn.
func (x *txn) Answer(q provider.Query) []provider.Answer { return x.table.answer(q) }

// Commit implements provider.Txn.
func (x *txn) Commit() {
	x.once.Do(func() {
		p := x.p
		p.mu.Lock()
		defer p.mu.Unlock()
		old := p.pub.Load()
		if same := old.ByGen[x.table.gen]; same != nil { // the same generation, prepared anew
			defer same.release()
		}
		next := old.With(x.table.gen, x.table, x.retained)
		p.pub.Store(next)
		if !x.retained {
			x.tftp.Commit()
			x.http.Commit()
		}
		if next.Current == 0 {
			return // the sockets of the current generation come before all others
		}
		for _, t := range next.ByGen {
			p.tftp.Want(sorted(t.tftp), p.unbound)
			p.http.Want(sorted(t.http), p.unbound)
		}
	})
}

// Abort implements provider.Txn.
func (x *txn) Abort() {
	x.once.Do(func() {
		x.table.release()
		if !x.retained {
			x.tftp.Abort()
			x.http.Abort()
		}
	})
}

// Retire implements provider.Provider. Transfers under way hold their own file,
// so a tree may go while one of its files is still being sent.
func (p *Provider) Retire(_ context.Context, live provider.Live) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	next, dropped := p.pub.Load().Keep(func(gen uint64, _ *table) bool { return live.Generations[gen] })
	keepTFTP, keepHTTP := map[netip.AddrPort]bool{}, map[netip.AddrPort]bool{}
	for _, t := range next.ByGen {
		maps.Copy(keepTFTP, t.tftp)
		maps.Copy(keepHTTP, t.http)
	}
	p.pub.Store(next)
	for _, t := range dropped {
		t.release()
	}
	p.tftp.Retire(keepTFTP)
	p.http.Retire(keepHTTP)
	return nil
}
