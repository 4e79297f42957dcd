package schema

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// exportUses says which type of export has a use for an attribute, and why the other
// has none. Attributes that are not here are for both.
var exportUses = []struct{ attr, kind, why string }{
	{"keep", NFS, "Machines that write to it write to one working copy, which lives as long as the image is the same; there are no overlays that could be kept."},
	{"limit", NFS, "What machines write to it is one working copy, as large as its file system."},
	{"tls", NFS, "TLS is of the NBD protocol here."},
	{"path", NBD, "A machine asks for a block device by the export's name."},
	{"clients", NBD, "Say in allow which subnets and hosts may attach."},
	{"options", NBD, "They are those of an NFS export: a block device has no users."},
}

func (l *loader) export(it *item) {
	kind := it.made.addr.Type
	e := &Export{
		Server: it.server(),
		Image:  it.ref("image", "image"),
		Mode:   ExportMode(it.text("mode", string(ReadOnly), checkMode(kind))),
		Allow:  it.refs("allow", false, "subnet", "host"),
	}
	if kind == NBD {
		e.TLS = read(it, "tls", TLSOffered, parseTLS, func(t TLS) any { return string(t) })
	}
	it.needed("image")
	for _, u := range exportUses {
		if u.kind != kind {
			continue
		}
		if _, _, written := it.value(u.attr); written {
			it.fail(it.place(u.attr), fmt.Sprintf("An %s export has no %s", strings.ToUpper(kind), u.attr), u.why+" Take the line away.")
		}
	}
	if kind == NFS {
		it.nfs(e)
	} else if e.Mode == CopyOnWrite {
		e.Keep = Keep(it.text("keep", string(KeepBoot), oneOf([]string{string(KeepConnection), string(KeepBoot), string(KeepHost)})))
		e.Limit = read(it, "limit", 0, parseLimit, showSize)
	} else {
		for _, a := range [...]struct{ attr, what string }{{"keep", "kept"}, {"limit", "limited"}} {
			if _, _, written := it.value(a.attr); written {
				it.fail(it.place(a.attr), a.attr+" without copy-on-write", fmt.Sprintf("A %s export has no overlays that could be %s. Take the line away, or write mode = %q.", e.Mode, a.what, CopyOnWrite))
			}
		}
	}
	if it.made.failed {
		return
	}
	e.Meta = it.meta()
	l.out.Exports = append(l.out.Exports, e)
}

// checkMode checks what clients may do to an export of a kind.
func checkMode(kind string) func(string) error {
	modes := []string{string(ReadOnly), string(CopyOnWrite), string(ReadWrite)}
	if kind == NFS {
		modes = []string{string(ReadOnly), string(ReadWrite)}
	}
	known := oneOf(modes)
	return func(s string) error {
		if s == string(CopyOnWrite) && !slices.Contains(modes, s) {
			return errors.New(`Overlays are made of blocks, and NFS has files. Write mode = "read-only", with which machines keep their changes in memory, or "read-write", with which all of them share one working copy; or export the image with export "nbd".`)
		}
		return known(s)
	}
}

// parseTLS reads whether an export is served in the clear.
func parseTLS(s string) (TLS, error) {
	const offered = "offered"
	if err := oneOf([]string{offered, string(TLSRequired)})(s); err != nil {
		return TLSOffered, err
	}
	if s == offered {
		return TLSOffered, nil
	}
	return TLS(s), nil
}
