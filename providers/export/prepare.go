package export

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/internal/published"
	"github.com/dlreconcile/dlreconcile/providers/internal/sock"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Prepare implements provider.Provider: it opens every root that will be served
// and binds sockets that are not bound yet. Those of a retained generation are bound
// once it and a current one are committed, if they can be.
func (p *Provider) Prepare(ctx context.Context, in provider.Input) (provider.Txn, error) {
	t, err := newTable(in, p.blobs)
	if err != nil {
		return nil, err
	}
	if err := p.mayRequireTLS(t, in.Offline); err != nil {
		t.release()
		return nil, err
	}
	x := &txn{p: p, table: t, retained: in.Retained}
	if !in.Retained {
		keys := slices.SortedFunc(maps.Keys(t.listen), netip.AddrPort.Compare)
		if x.socks, err = p.socks.Prepare(ctx, keys); err != nil {
			t.release()
			return nil, fmt.Errorf("export: %w", err)
		}
	}
	return x, nil
}

// mayRequireTLS refuses exports that need a TLS which this server does not have. What
// was served before, and is prepared from a record, is not refused for that: the others
// beside it are wanted, and nobody gets to those in the clear.
func (p *Provider) mayRequireTLS(t *table, offline bool) error {
	var diags hcl.Diagnostics
	for _, s := range t.sorted() {
		if s.Decl.TLS != schema.TLSRequired {
			continue
		}
		switch {
		case p.tls == nil && offline:
			if p.toldOf(s.Decl.Addr) {
				continue
			}
			p.log.Error("an export requires TLS, and there is no certificate: nobody can attach to it", "export", s.Decl.Addr.String(), "fix", "write tls_cert and tls_key in the nbd block of daemon.hcl")
		case p.tls == nil:
			diags = append(diags, refuse(s.Decl.At("tls"), "The daemon has no certificate", fmt.Sprintf(
				"%s requires TLS, and nobody could attach to it: the daemon speaks none. Write nbd { tls_cert = … tls_key = … } in its daemon.hcl and restart it, or take tls away here.", s.Decl.Addr))...)
		default:
			if err := p.tls.Usable(); err != nil && !offline {
				return fmt.Errorf("%s requires TLS: %w", s.Decl.Addr, err)
			}
		}
	}
	if diags.HasErrors() {
		return diags
	}
	return nil
}

// toldOf reports whether the log was told that nobody can attach to an export, and notes
// that it is now: every generation that is kept has it, and each is prepared at the start.
func (p *Provider) toldOf(a schema.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	told := p.barred[a]
	p.barred[a] = true
	return told
}

// unbound is told that a listener of an earlier generation is not there.
func (p *Provider) unbound(_ netip.AddrPort, err error) {
	p.log.Warn("machines that booted with an earlier configuration cannot reach their root: its listener cannot be bound", "err", err)
}

// txn is one prepared generation.
type txn struct {
	p        *Provider
	table    *table
	socks    *sock.Pending[netip.AddrPort, net.Listener] // nil when retained
	retained bool
	once     sync.Once
}

// Outputs implements provider.Txn.
func (x *txn) Outputs() map[schema.Addr]provider.Output {
	out := make(map[schema.Addr]provider.Output, len(x.table.byAddr))
	for a, s := range x.table.byAddr {
		e := s.Export
		out[a] = provider.Output{Export: &e}
	}
	return out
}

// Answer implements provider.Txn.
func (x *txn) Answer(q provider.Query) []provider.Answer {
	return x.table.answer(x.p.pub.Load().With(x.table.gen, x.table, x.retained), q)
}

// Commit implements provider.Txn.
func (x *txn) Commit() {
	x.once.Do(func() {
		p := x.p
		var was *table
		defer func() {
			if was != nil { // the same generation, prepared anew
				was.release()
			}
		}()
		p.mu.Lock()
		defer p.mu.Unlock()
		failpoint.Hit("export.commit.publish")
		var next *published.Tables[*table]
		next, was = p.pub.Publish(x.table.gen, x.table, x.retained)
		failpoint.Hit("export.commit.published")
		if x.socks != nil {
			x.socks.Commit()
		}
		p.limitOverlays()
		if next.Current == 0 {
			return // the sockets of the current generation come before all others
		}
		select {
		case <-p.serving:
		default:
			close(p.serving)
		}
		for _, t := range next.ByGen {
			p.socks.Want(slices.Collect(maps.Keys(t.listen)), p.unbound)
		}
	})
}

// Abort implements provider.Txn.
func (x *txn) Abort() {
	x.once.Do(func() {
		x.table.release()
		if x.socks != nil {
			x.socks.Abort()
		}
	})
}
