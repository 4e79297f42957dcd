package export

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/providers/export/nbd"
	"github.com/dlreconcile/dlreconcile/providers/internal/published"
	"github.com/dlreconcile/dlreconcile/schema"
)

// denial is why a client does not get what it asked for. The client is told less:
// see nbd.ErrForbidden and nbd.ErrTLSRequired, of which told is one.
type denial struct {
	reason string
	told   error
}

func (d *denial) Error() string { return d.reason }
func (d *denial) Unwrap() error { return d.told }
func denied(format string, a ...any) error {
	return &denial{fmt.Sprintf(format, a...), nbd.ErrForbidden}
}

// from is where a client comes from.
type from struct {
	addr    netip.Addr
	secured bool // over TLS
}

func whence(peer nbd.Peer) from { return from{peer.Remote.Addr(), peer.TLS != nil} }

// instanceName is what a client may call its boot. A boot id has 36 characters.
var instanceName = regexp.MustCompile(`^[0-9a-zA-Z-]{1,64}$`)

// request is a name as a client sent it, taken apart.
type request struct {
	Name     string // "arch@3f2a9c1d7e08", or the alias "arch"
	Family   string // "arch"
	Instance string // "" when the client named none
	Looks    bool   // it asks what there is, not for this: nothing is noted of it
}

func parseName(raw string) (request, error) {
	name, instance, named := strings.Cut(raw, "+")
	if named && !instanceName.MatchString(instance) {
		return request{}, denied("what follows the + is not a boot instance")
	}
	family, _, _ := strings.Cut(name, "@")
	if !familyName.MatchString(family) {
		return request{}, denied("that is not the name of an export")
	}
	return request{Name: name, Family: family, Instance: instance}, nil
}

// target is what a name stands for, for one client.
type target struct {
	Name       string // wire name
	Family     string
	keeps      keeps
	limit      int64 // bytes that its overlay may hold; 0: none
	Root       provider.Blob
	Filesystem string
	Image      schema.Addr
	Generation uint64
	served     *served // nil: known only from the record of the client's overlay
	mine       bool    // this boot has an overlay of it
}

// keeps says what becomes of what a machine writes.
type keeps string

const (
	keepsNothing    keeps = "" // it cannot write
	keepsBoot       keeps = "boot"
	keepsHost       keeps = "host"
	keepsConnection keeps = "connection"
	keepsCopy       keeps = "write" // the one working copy of a read-write export
)

func keepsOf(e *schema.Export) keeps {
	switch {
	case e.Mode == schema.ReadWrite:
		return keepsCopy
	case e.Mode != schema.CopyOnWrite:
		return keepsNothing
	case e.Keep == schema.KeepHost:
		return keepsHost
	case e.Keep == schema.KeepConnection:
		return keepsConnection
	}
	return keepsBoot
}

// mode gives the mode of an export that keeps so.
func (k keeps) mode() schema.ExportMode {
	switch k {
	case keepsNothing:
		return schema.ReadOnly
	case keepsCopy:
		return schema.ReadWrite
	}
	return schema.CopyOnWrite
}

func (s *served) target(gen uint64) target {
	return target{
		Name: s.Name, Family: s.Family, keeps: keepsOf(s.Decl), limit: s.Decl.Limit, Root: s.Artifact.Root,
		Filesystem: s.Filesystem, Image: s.Image, Generation: gen, served: s,
	}
}

// resolve finds what r stands for, for client c at a place, and checks that it may
// have it. boot is the client's.
func (p *Provider) resolve(pub *published.Tables[*table], r request, c provider.Client, at from, boot cow.Key) (target, error) {
	mine, hasOverlay := p.overlayOf(boot)
	name := r.Name
	if name == r.Family {
		if hasOverlay { // what this boot began with, whatever is current now
			name = mine.Name
		} else if s := alias(pub, r.Family, c); s != nil {
			name = s.Name
		}
	}
	hasOverlay = hasOverlay && mine.Name == name
	for _, t := range order(pub, c.Generation) {
		s := t.byName[name]
		// A root that was attached writable stays so while the boot lasts, even
		// when the mode of the export, or what it keeps, was edited meanwhile.
		if s == nil || hasOverlay && keepsOf(s.Decl) != mine.keeps {
			continue
		}
		if err := access(pub, s, t, c, at); err != nil {
			return target{}, err
		}
		found := s.target(t.gen)
		found.mine, found.limit = hasOverlay, limitNow(pub, found)
		return found, nil
	}
	if hasOverlay {
		if now, t := latest(pub, mine.Family); now != nil {
			if err := allowed(now, t, c, at); err != nil {
				return target{}, err
			}
		}
		mine.mine, mine.limit = true, limitNow(pub, mine)
		return mine, nil
	}
	return target{}, denied("there is no such export")
}

// access says why a client may not attach to s of table t; nil means that it may.
// Which bytes a name stands for is settled by the generation that the client is
// pinned to; who may have them, by the current one: access that was taken away is
// gone for those who booted before, too. An export that the current generation
// does not have keeps the list it had.
func access(pub *published.Tables[*table], s *served, t *table, c provider.Client, at from) error {
	if now, current := latest(pub, s.Family); now != nil {
		s, t = now, current
	}
	return allowed(s, t, c, at)
}

// latest gives the export of that family in the current generation, and its table;
// nil when there is none.
func latest(pub *published.Tables[*table], family string) (*served, *table) {
	t, ok := pub.Of(0)
	if !ok {
		return nil, nil
	}
	return t.byFamily[family], t
}

// limitNow gives how much an overlay may hold: what the current generation says of the
// export; when it has none that is copy-on-write, what the target's own says.
func limitNow(pub *published.Tables[*table], t target) int64 {
	if now, _ := latest(pub, t.Family); now != nil && now.Mode == schema.CopyOnWrite {
		return now.Decl.Limit
	}
	return t.limit
}

// alias gives what the undigested name stands for.
func alias(pub *published.Tables[*table], family string, c provider.Client) *served {
	t, ok := pub.Of(c.Generation)
	if !ok {
		if t, ok = pub.Of(0); !ok {
			return nil
		}
	}
	return t.byFamily[family]
}

// order gives the tables in the order in which names are looked for: pinned,
// current, the others from new to old.
func order(pub *published.Tables[*table], pinned uint64) []*table {
	rank := func(t *table) uint64 {
		switch t.gen {
		case pinned:
			return 0
		case pub.Current:
			return 1
		}
		return ^t.gen // far above 1
	}
	out := make([]*table, 0, len(pub.ByGen))
	for _, t := range pub.ByGen {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *table) int {
		if rank(a) < rank(b) {
			return -1
		}
		return 1
	})
	return out
}
