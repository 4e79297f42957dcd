package export

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/internal/blob"
	"github.com/dlreconcile/dlreconcile/schema"
)

// table is what one generation serves. It is never changed after newTable, except
// that its blobs are released once, by whoever drops it.
type table struct {
	gen      uint64
	want     *schema.Desired
	byName   map[string]*served // wire name
	byFamily map[string]*served // the name without digest: the alias
	byAddr   map[schema.Addr]*served
	listen   map[netip.AddrPort]bool // sockets that the generation declares
	index
}

// served is one export of a table.
type served struct {
	provider.Export
	Family string // name without digest
	Image  schema.Addr
	Decl   *schema.Export
	allow  map[schema.Addr]bool // Decl.Allow: hosts and subnets; empty: every known client
	blob   *blob.File
}

// familyName is what an export may be called on the wire, before its digest.
// Names of blocks are like that; keys of for_each need not be.
var familyName = regexp.MustCompile(`^[0-9A-Za-z_-][0-9A-Za-z._-]{0,99}$`)

// newTable compiles the exports of in, and opens what they serve. The caller
// releases the table's blobs.
func newTable(in provider.Input, blobs *blob.Cache) (*table, error) {
	t := &table{
		gen: in.Generation, want: in.Want,
		byName: map[string]*served{}, byFamily: map[string]*served{},
		byAddr: map[schema.Addr]*served{}, listen: map[netip.AddrPort]bool{},
		index: newIndex(in.Want),
	}
	for _, s := range in.Want.Servers {
		if !s.NBD.Disabled {
			t.listen[s.NBD.Listen] = true
		}
	}
	var diags hcl.Diagnostics
	for _, e := range in.Want.Exports {
		if e.Addr.Type != wireProtocol {
			continue
		}
		s, more, err := newServed(in, e)
		diags = append(diags, more...)
		if err != nil {
			t.release()
			return nil, err
		}
		if s == nil {
			continue
		}
		if s.blob, err = blobs.Get(s.Artifact.Root); err != nil {
			t.release()
			return nil, fmt.Errorf("%s: %w", e.Addr, err)
		}
		t.byName[s.Name], t.byFamily[s.Family], t.byAddr[e.Addr] = s, s, s
	}
	if diags.HasErrors() {
		t.release()
		return nil, diags
	}
	return t, nil
}

// newServed compiles one export, its blob left out.
func newServed(in provider.Input, e *schema.Export) (*served, hcl.Diagnostics, error) {
	s := &served{Family: e.WireFamily(), Image: e.Image, Decl: e, allow: map[schema.Addr]bool{}}
	for _, a := range e.Allow {
		s.allow[a] = true
	}
	if !familyName.MatchString(s.Family) {
		return nil, refuse(e.Range, "An export cannot be called that on the wire",
			fmt.Sprintf("%q would be part of the kernel line, so it may hold only letters, digits, dots, dashes and underscores, 100 at most. Use another for_each key.", s.Family)), nil
	}
	i := slices.IndexFunc(in.Want.Servers, func(x *schema.Server) bool { return x.Addr == e.Server })
	if i < 0 {
		return nil, nil, fmt.Errorf("%s: there is no %s", e.Addr, e.Server)
	}
	server := in.Want.Servers[i]
	if server.NBD.Disabled {
		return nil, refuse(e.At("server"), "NBD is switched off on the export's server",
			fmt.Sprintf("%s is served by %s, which says nbd { enabled = false }. Enable it there, or remove the export.", e.Addr, e.Server)), nil
	}
	a := in.Built[e.Image].Artifact
	if a == nil {
		return nil, nil, fmt.Errorf("%s: nothing was built for %s", e.Addr, e.Image)
	}
	s.Export = provider.Export{
		Name:       s.Family + "@" + a.Short(),
		Server:     netip.AddrPortFrom(server.Address, server.NBD.Listen.Port()),
		Artifact:   *a,
		Mode:       e.Mode,
		Keep:       e.Keep,
		Filesystem: a.Filesystem,
	}
	return s, nil, nil
}

// refuse makes a diagnostic.
func refuse(r schema.Range, summary, detail string) hcl.Diagnostics {
	d := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail}
	if r.File != "" {
		d.Subject = new(r.HCL())
	}
	return hcl.Diagnostics{d}
}

// release gives the table's blobs back. The caller sees to it that nobody finds
// the table any more.
func (t *table) release() {
	for _, s := range t.byAddr {
		if s.blob != nil {
			s.blob.Release()
		}
	}
}

// sorted gives the exports in order of wire name.
func (t *table) sorted() []*served {
	out := make([]*served, 0, len(t.byAddr))
	for _, s := range t.byAddr {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *served) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
