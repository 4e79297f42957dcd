package dhcp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/handover"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
	"github.com/dlreconcile/dlreconcile/providers/internal/sock"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Prepare implements provider.Provider.
func (p *Provider) Prepare(ctx context.Context, in provider.Input) (provider.Txn, error) {
	places, err := placesOf(in.Want.Servers)
	if err != nil {
		return nil, err
	}
	t, err := compile(in, places, slices.Collect(maps.Values(p.pub.Load().ByGen)))
	if err != nil {
		return nil, fmt.Errorf("dhcp: %w", err)
	}
	x := &txn{p: p, gen: in.Generation, table: t, retained: in.Retained}
	if in.Retained {
		return x, nil // the current generation says which sockets there are
	}
	eps := slices.SortedFunc(maps.Keys(t.sockets), func(a, b dhcp4.Endpoint) int {
		return strings.Compare(a.Interface+" "+a.Listen.String(), b.Interface+" "+b.Listen.String())
	})
	if x.socks, err = p.socks.Prepare(ctx, eps); err != nil {
		return nil, diagnose(t, err)
	}
	if x.advert, err = p.advert.Prepare(ctx, slices.Sorted(maps.Keys(t.advertise))); err != nil {
		x.socks.Abort()
		return nil, err
	}
	return x, nil
}

// txn is one generation that is ready to be published.
type txn struct {
	p        *Provider
	gen      uint64
	table    *table
	retained bool
	done     bool
	socks    *sock.Pending[dhcp4.Endpoint, *dhcp4.Conn] // nil when retained
	advert   *sock.Pending[string, *dhcp4.Advertiser]   // nil when retained
}

// Outputs implements provider.Txn. Nobody comes after DHCP.
func (x *txn) Outputs() map[schema.Addr]provider.Output { return nil }

// Answer implements provider.Txn.
func (x *txn) Answer(q provider.Query) []provider.Answer { return x.p.answer(x.table, q) }

// Commit implements provider.Txn. Sockets come last, so that the first packet on
// one finds the table that declares it.
func (x *txn) Commit() {
	if x.done {
		return
	}
	x.done = true
	failpoint.Hit("dhcp.commit.publish")
	x.p.pub.Publish(x.gen, x.table, x.retained)
	failpoint.Hit("dhcp.commit.published")
	if x.socks != nil {
		x.socks.Commit()
		x.advert.Commit()
	}
}

// Abort implements provider.Txn.
func (x *txn) Abort() {
	if x.done {
		return
	}
	x.done = true
	if x.socks != nil {
		x.socks.Abort()
		x.advert.Abort()
	}
}

// bindError says which socket could not be had.
type bindError struct {
	ep  dhcp4.Endpoint
	err error
}

func (e *bindError) Error() string { return e.err.Error() }
func (e *bindError) Unwrap() error { return e.err }

// keptName is what the socket of an endpoint is called in the store.
func keptName(ep dhcp4.Endpoint) string {
	return handover.Name("dhcp", ep.Listen.String(), ep.Interface)
}

func (p *Provider) listen(ctx context.Context, ep dhcp4.Endpoint) (*dhcp4.Conn, error) {
	adopt := func(f *os.File) (*dhcp4.Conn, error) {
		udp, err := handover.UDP(ep.Listen, ep.Interface)(f)
		if err != nil {
			return nil, err
		}
		return dhcp4.Adopt(ep, udp)
	}
	c, err := handover.Open(ctx, p.kept, keptName(ep), adopt, func() (*dhcp4.Conn, error) { return dhcp4.Listen(ctx, ep) })
	if err != nil {
		return nil, &bindError{ep, err}
	}
	return c, nil
}

// diagnose points at what declares the socket.
func diagnose(t *table, err error) error {
	var b *bindError
	if !errors.As(err, &b) || t.sockets[b.ep].server == nil {
		return err
	}
	s, proxied := t.sockets[b.ep].server, t.sockets[b.ep].subnet
	d := &hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  "Cannot listen for DHCP",
		Detail:   fmt.Sprintf("%s: %s on interface %q: %v. Is another DHCP server running, and does the address belong to this machine?", s.Addr, b.ep.Listen, b.ep.Interface, b.err),
	}
	at := s.At("dhcp.listen")
	if proxied != nil {
		at = proxied.At("mode")
		d.Summary = "Cannot listen for proxyDHCP"
		d.Detail = fmt.Sprintf("%s: %s on interface %q: %v. Firmware asks there for its boot file. Is another proxyDHCP or boot server running on this machine?", proxied.Addr, b.ep.Listen, b.ep.Interface, b.err)
	}
	if b.ep.Interface != "" {
		if _, err := net.InterfaceByName(b.ep.Interface); err != nil {
			at = s.At("interface")
			d.Summary = "No such network interface"
			d.Detail = fmt.Sprintf("%s: this machine has no interface %q; `ip link` lists those that it has.", s.Addr, b.ep.Interface)
		}
	}
	d.Subject = new(at.HCL())
	return hcl.Diagnostics{d}
}
