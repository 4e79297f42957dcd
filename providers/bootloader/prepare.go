package bootloader

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/internal/sock"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Prepare implements provider.Provider: it writes every script, opens every file
// that will be served, and binds sockets that are not bound yet. Those of a retained
// generation are bound once it and a current one are committed, if they can be.
func (p *Provider) Prepare(ctx context.Context, in provider.Input) (provider.Txn, error) {
	t, err := compile(ctx, in, p.loaders, slices.Collect(maps.Values(p.pub.Load().ByGen)))
	if err != nil {
		return nil, err
	}
	if !in.Offline {
		if err := p.complete(t); err != nil {
			return nil, err
		}
	}
	if err := t.openBlobs(p.blobs); err != nil {
		return nil, err
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

// complete refuses bootloaders that have no program at all for BIOS or for UEFI
// x86-64, though they are made for it, because its package is nowhere: machines that
// booted so far would be told nothing, and the plan would not have said so. That is
// for this machine's administrator to mend, and not for the author.
func (p *Provider) complete(t *table) error {
	type want struct{ boot, pkg string }
	lacks := map[want][]string{}
	for _, offers := range t.offers {
		for _, o := range offers {
			for _, w := range o.lacks {
				if w.rare || o.bootsOn(w.platform) || o.boot.Addr.Type == schema.IPXE && w.platform == "" {
					continue
				}
				key := want{o.boot.Addr.String(), w.pkg}
				if !slices.Contains(lacks[key], w.name) {
					lacks[key] = append(lacks[key], w.name)
				}
			}
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	var whys []string
	for w, names := range lacks {
		slices.Sort(names)
		whys = append(whys, fmt.Sprintf("%s has no %s: install the package %s on this machine, or in the image", w.boot, strings.Join(names, ", "), w.pkg))
	}
	slices.Sort(whys)
	return fmt.Errorf("boot programs are missing: %s", strings.Join(whys, "; "))
}

// bootsOn reports whether firmware of a platform is told a program; with "" any
// firmware.
func (o *offer) bootsOn(p schema.Platform) bool {
	return slices.ContainsFunc(o.out.Targets, func(t provider.Target) bool {
		return t.Class == "" && (p == "" || schema.ClientArchOf(t.Arch).Platform == p)
	})
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
		failpoint.Hit("bootloader.commit.publish")
		next, was := p.pub.Publish(x.table.gen, x.table, x.retained)
		failpoint.Hit("bootloader.commit.published")
		if was != nil { // the same generation, prepared anew
			defer was.release()
		}
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
	next, dropped := p.pub.Drop(func(gen uint64, _ *table) bool { return live.Generations[gen] })
	keepTFTP, keepHTTP := map[netip.AddrPort]bool{}, map[netip.AddrPort]bool{}
	for _, t := range next.ByGen {
		maps.Copy(keepTFTP, t.tftp)
		maps.Copy(keepHTTP, t.http)
	}
	for _, t := range dropped {
		t.release()
	}
	p.tftp.Retire(keepTFTP)
	p.http.Retire(keepHTTP)
	return nil
}
