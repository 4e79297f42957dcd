package bootloader

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/internal/blob"
	"github.com/dlreconcile/dlreconcile/schema"
)

// table is what one generation serves. After Prepare it is not changed, except
// that its blobs are released once, by whoever drops it.
type table struct {
	gen     uint64
	offers  map[provider.TreeKey][]*offer // in order of preference
	trees   map[string]*tree
	outputs map[schema.Addr]provider.Output

	want    *schema.Desired
	hosts   map[schema.Addr]*schema.Host
	byMAC   map[provider.MAC]*schema.Host
	byAddr  map[netip.Addr]*schema.Host // by reserved address
	subnets []*schema.Subnet
	given   map[schema.Addr]bool // subnets where our DHCP gives out the addresses

	tftp, http map[netip.AddrPort]bool // sockets that the generation declares

	mu       sync.RWMutex // guards below
	blobs    map[string]*blob.File
	released bool
}

// newTable makes the table of in without its offers.
func newTable(in provider.Input) *table {
	t := &table{
		gen: in.Generation, want: in.Want, offers: map[provider.TreeKey][]*offer{}, trees: map[string]*tree{},
		outputs: map[schema.Addr]provider.Output{}, hosts: map[schema.Addr]*schema.Host{},
		byMAC: map[provider.MAC]*schema.Host{}, byAddr: map[netip.Addr]*schema.Host{}, subnets: in.Want.Subnets, given: map[schema.Addr]bool{},
		tftp: map[netip.AddrPort]bool{}, http: map[netip.AddrPort]bool{}, blobs: map[string]*blob.File{},
	}
	for _, s := range in.Want.Servers {
		if !s.TFTP.Disabled {
			t.tftp[s.TFTP.Listen] = true
		}
		if !s.HTTP.Disabled {
			t.http[s.HTTP.Listen] = true
		}
	}
	for _, sub := range in.Want.Subnets {
		t.given[sub.Addr] = sub.Mode != schema.ModeProxy && !slices.ContainsFunc(in.Want.Servers, func(s *schema.Server) bool {
			return s.Addr == sub.Server && s.DHCP.Disabled
		})
	}
	for _, h := range in.Want.Hosts {
		t.hosts[h.Addr] = h
		if mac, err := provider.ParseMAC(h.MAC); err == nil {
			t.byMAC[mac] = h
		}
		if h.Address.IsValid() {
			t.byAddr[h.Address] = h
		}
	}
	return t
}

// openBlobs opens every blob of every tree. When one cannot be opened, none is.
func (t *table) openBlobs(cache *blob.Cache) error {
	for _, tr := range t.trees {
		for _, f := range tr.files {
			if f.inMemory() || t.blobs[f.digest] != nil {
				continue
			}
			b, err := cache.Get(provider.Blob{Digest: f.digest, Size: f.size})
			if err != nil {
				t.release()
				return err
			}
			t.blobs[f.digest] = b
		}
	}
	return nil
}

// open gives a file of a tree; nil when the table has no such file, or was released
// meanwhile.
func (t *table) open(id, name string) *openFile {
	tr := t.trees[id]
	if tr == nil {
		return nil
	}
	f := tr.file(name)
	if f == nil && tr.family != nil {
		f = tr.family.within(tr, name)
	}
	if f == nil {
		return nil
	}
	return t.hold(tr, f)
}

// hold opens a file of a tree that the table has, or one that leads into it. It gives
// nil when the table was released meanwhile.
func (t *table) hold(tr *tree, f *file) *openFile {
	of := &openFile{file: f, tree: tr.id}
	switch {
	case f.made != nil:
		of.bytes = f.made.hold()
		return of
	case f.inMemory():
		of.bytes = f.text
		return of
	}
	b := t.holdBlob(f.digest)
	if b == nil {
		return nil
	}
	if of.damaged = b.Renew(); of.damaged == nil {
		of.blob = b
	} else {
		b.Release()
	}
	return of
}

// holdBlob gives nil when the table was released.
func (t *table) holdBlob(digest string) *blob.File {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.released {
		return nil
	}
	return t.blobs[digest].Hold()
}

// release gives the table's blobs back. Files that were opened stay open.
func (t *table) release() {
	t.mu.Lock()
	was := t.released
	t.released = true
	t.mu.Unlock()
	if was {
		return
	}
	for _, b := range t.blobs {
		b.Release()
	}
}

// key says whose tree a client gets. One of which only the address is known is the
// host that has it reserved.
func (t *table) key(q provider.Query) (provider.TreeKey, *schema.Host, *schema.Subnet) {
	h := t.hosts[q.Host]
	known, byAddress := q.MAC.Address()
	if byAddress && !q.Address.IsValid() {
		q.Address = known
	}
	switch {
	case h != nil || !q.Host.IsZero():
	case byAddress || q.MAC.IsZero():
		h = t.byAddr[q.Address]
	default:
		h = t.byMAC[q.MAC]
	}
	named, addr := q.Subnet, q.Address
	var key provider.TreeKey
	if h != nil {
		key.Host = h.Addr
		if named.IsZero() {
			named = h.Subnet
		}
	}
	for _, s := range t.subnets {
		if s.Addr == named || named.IsZero() && (addr.IsValid() && s.CIDR.Contains(addr) || !addr.IsValid() && len(t.subnets) == 1) {
			key.Subnet = s.Addr
			return key, h, s
		}
	}
	return key, h, nil
}
