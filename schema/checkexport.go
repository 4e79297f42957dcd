package schema

import (
	"fmt"
	"slices"
	"strings"
)

// nfsListeners switches NFS on where it is needed and the server says nothing of it.
// The other protocols are there unless a server says that they are not; NFS has
// ports of its own that most sites have another server on.
func (l *loader) nfsListeners() {
	for _, s := range l.out.Servers {
		m := l.made[s.Addr.String()]
		_, written := m.block.ranges[NFS]
		here := func(e *Export) bool { return e.Addr.Type == NFS && e.Server == s.Addr }
		if written || !slices.ContainsFunc(l.out.Exports, here) {
			continue
		}
		s.NFS.Disabled = false
		m.attrs = append(m.attrs,
			Attr{Name: "nfs.enabled", Value: canonical(true)},
			Attr{Name: "nfs.listen", Value: canonical(s.NFS.Listen.String())})
	}
}

// checkExports refuses exports that their server could not serve: because it does not
// speak the protocol, because another one is at the path, or because the image cannot
// be written to.
func (l *loader) checkExports() {
	servers := byAddr(l.out.Servers, func(s *Server) Addr { return s.Addr })
	images := byAddr(l.out.Images, func(i *Image) Addr { return i.Addr })
	for _, e := range l.out.Exports {
		if s := servers[e.Server]; s != nil && s.listener(e.Addr.Type).Disabled {
			l.wrong(e.Addr, "server", fmt.Sprintf("%s is on a server without %s", e.Addr, strings.ToUpper(e.Addr.Type)), fmt.Sprintf("%s says %s { enabled = false }. Enable it, or take the export away.", s.Addr, e.Addr.Type))
		}
		if img := images[e.Image]; img != nil && img.Filesystem.Type == "squashfs" && e.Addr.Type == NBD && e.Mode != ReadOnly {
			l.wrong(e.Addr, "mode", "squashfs cannot be written to", fmt.Sprintf("%s is a squashfs, which has no writes that a copy could take. Write mode = %q: machines then keep their changes in memory. Or use ext4 or btrfs.", img.Addr, ReadOnly))
		}
	}
	l.checkExportPaths()
}

// checkExportPaths refuses two NFS exports of a server at one path, and one below
// another: a machine that mounts the upper one would not see the lower one, or see it
// in place of what the image has there.
func (l *loader) checkExportPaths() {
	type place struct {
		server Addr
		path   string
	}
	at := map[place]*Export{}
	for _, e := range l.out.Exports {
		if e.Addr.Type != NFS {
			continue
		}
		if other := at[place{e.Server, e.Path}]; other != nil {
			l.wrong(e.Addr, "path", fmt.Sprintf("%s has the path of %s", e.Addr, other.Addr), fmt.Sprintf("%s is at %q of %s (%s). Give one of them another path.", other.Addr, other.Path, e.Server, other.At("path")))
			continue
		}
		at[place{e.Server, e.Path}] = e
	}
	for _, e := range l.out.Exports {
		for i, c := range e.Path {
			if i == 0 || c != '/' {
				continue
			}
			if other := at[place{e.Server, e.Path[:i]}]; other != nil {
				l.wrong(e.Addr, "path", fmt.Sprintf("%s is below %s", e.Addr, other.Addr), fmt.Sprintf("At %q begins the image of %s (%s), and nothing else can be in it. Give one of them another path.", other.Path, other.Addr, other.At("path")))
				break
			}
		}
	}
}

// checkWire refuses two resources that machines would know by one name; see
// Addr.Wire. In one module no two are alike.
func (l *loader) checkWire() {
	type name struct{ kind, kindOf, wire string }
	first := map[name]Addr{}
	check := func(a Addr) {
		n := name{a.Kind, a.Type, a.Wire()}
		if len(n.wire) > maxWire {
			l.wrong(a, "", fmt.Sprintf("The name of %s is too long", a), fmt.Sprintf("Machines know it by the names of modules, the block's own and the keys, with dots between: %d bytes, of at most %d. Use shorter ones, or fewer modules in each other.", len(n.wire), maxWire))
		}
		other, taken := first[n]
		if !taken {
			first[n] = a
			return
		}
		l.wrong(a, "", fmt.Sprintf("%s is called like %s", a, other), fmt.Sprintf("Machines know both by the name %q (%s): the names of modules, the block's own and the keys, with dots between. Rename one of them.", n.wire, rangeOf(l.where(other, ""))))
	}
	for _, e := range l.out.Exports {
		check(e.Addr)
	}
	for _, e := range l.out.Entries {
		check(e.Addr)
	}
}
