package schema

import (
	"cmp"
	"fmt"
	"slices"
)

// Unserved is something that the language has and no provider serves yet.
type Unserved struct {
	Addr    Addr
	Range   Range
	Summary string
	Detail  string
}

// Unserved lists, sorted by place, what of d no provider serves yet: plans show it,
// and apply refuses it.
func (d *Desired) Unserved() []Unserved {
	var out []Unserved
	add := func(m *Meta, attr, what, detail string) {
		out = append(out, Unserved{m.Addr, m.At(attr), fmt.Sprintf("%s is not served by this version yet", what), detail})
	}
	for _, im := range d.Images {
		switch im.Source {
		case SourcePacstrap, SourceOCI, SourceDirectory, SourceDisk:
			add(&im.Meta, string(im.Source), fmt.Sprintf("An image made by %s", im.Source),
				fmt.Sprintf("%s can be planned. To boot today, make it by %s or %s.", im.Addr, SourceDebootstrap, SourceTar))
		}
		if len(im.Copies) > 0 {
			add(&im.Meta, fmt.Sprintf("copy[%q]", im.Copies[0].Path), "copy",
				fmt.Sprintf("%s can be planned. To boot today, put the file into the image with a file block.", im.Addr))
		}
		_, written := im.Attrs["initramfs.generator"]
		told := len(out) > 0 && out[len(out)-1].Addr == im.Addr
		switch im.Initramfs.Generator {
		case Mkinitcpio, Dracut:
			if !written && told {
				break // it comes with the source
			}
			add(&im.Meta, "initramfs.generator", fmt.Sprintf("An initramfs by %s", im.Initramfs.Generator),
				fmt.Sprintf("%s can be planned. To boot today, use initramfs-tools.", im.Addr))
		}
	}
	for _, s := range d.Servers {
		used := slices.ContainsFunc(d.Exports, func(e *Export) bool { return e.Addr.Type == NFS && e.Server == s.Addr }) // and told there
		if _, written := s.Attrs[NFS]; written && !s.NFS.Disabled && !used {
			add(&s.Meta, NFS, "A listener of NFS", fmt.Sprintf("%s can be planned. Until NFS is served, write nfs { enabled = false }, or nothing.", s.Addr))
		}
	}
	for _, e := range d.Exports {
		if e.Addr.Type == NFS {
			add(&e.Meta, "", "NFS", fmt.Sprintf("%s can be planned. To boot today, export the image with export \"nbd\".", e.Addr))
		}
	}
	slices.SortFunc(out, func(a, b Unserved) int {
		return cmp.Or(cmp.Compare(a.Range.File, b.Range.File), cmp.Compare(a.Range.Line, b.Range.Line), cmp.Compare(a.Range.Column, b.Range.Column), a.Addr.Compare(b.Addr))
	})
	return out
}
