package engine

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/schema"
)

// Own gives the part of a desired state that the named server serves. With one
// server in d, or none, that is all of it and the name may be "". Of nothing at all,
// every server's part is nothing: it is the policy that keeps a tree from being
// emptied by mistake. Policy and Moved are everybody's.
func Own(d *schema.Desired, name string) (*schema.Desired, error) {
	if name == "" && len(d.Servers) <= 1 || len(d.Resources) == 0 {
		return d, nil
	}
	var own *schema.Server
	for _, s := range d.Servers {
		if s.Addr.Name == name {
			own = s
		}
	}
	if own == nil {
		diag := &hcl.Diagnostic{
			Severity: hcl.DiagError,
			Summary:  "No server block is this daemon's own",
			Detail:   "The repo declares several servers, and each daemon serves one. Say which with --server NAME, or `server = \"NAME\"` in daemon.hcl.",
		}
		if name != "" {
			diag.Detail = "The daemon was started as server \"" + name + "\", and the repo declares no such server block. Add server \"" + name + "\", or correct --server."
		}
		if len(d.Servers) > 0 {
			r := d.Servers[0].Range
			diag.Subject = new(r.HCL())
		}
		return nil, hcl.Diagnostics{diag}
	}
	if len(d.Servers) == 1 {
		return d, nil
	}
	out := ownPart(d, own)
	if diags := foreignRoots(d, out); diags.HasErrors() {
		return nil, diags
	}
	return out, nil
}

// foreignRoots refuses entries of ours whose root another server exports. Each
// daemon builds its own images, so the wire name of that export is not known here.
func foreignRoots(d, own *schema.Desired) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, en := range own.Entries {
		for _, ex := range d.Exports {
			if ex.Addr != en.Root || ex.Server == own.Servers[0].Addr {
				continue
			}
			r := en.At("root")
			diags = append(diags, &hcl.Diagnostic{
				Severity: hcl.DiagError,
				Summary:  fmt.Sprintf("The root of %s is on another server", en.Addr),
				Detail: fmt.Sprintf("Machines of %s boot %s, and %s is exported by %s. A machine's root must come from the server it boots from: export the image on %s too, and give the machines an entry with that root.",
					own.Servers[0].Addr, en.Addr, ex.Addr, ex.Server, own.Servers[0].Addr),
				Subject: new(r.HCL()),
			})
		}
	}
	return diags
}

// ownPart takes what own serves and all that this names: a group that only machines of
// other servers are in is theirs.
func ownPart(d *schema.Desired, own *schema.Server) *schema.Desired {
	keep := map[schema.Addr]bool{own.Addr: true}
	use := func(list ...schema.Addr) {
		for _, a := range list {
			keep[a] = true
		}
	}
	out := &schema.Desired{Servers: []*schema.Server{own}, Policy: d.Policy, Moved: d.Moved, Variables: d.Variables, Files: d.Files}
	for _, s := range d.Subnets {
		if s.Server == own.Addr {
			out.Subnets = append(out.Subnets, s)
			use(s.Addr)
			use(s.Boot...)
		}
	}
	for _, h := range d.Hosts {
		// A host without an address may turn up on any subnet.
		if h.Subnet.IsZero() || keep[h.Subnet] {
			out.Hosts = append(out.Hosts, h)
			use(h.Addr, h.Group, h.Entry)
			use(h.Boot...)
		}
	}
	for _, g := range d.Groups {
		if keep[g.Addr] {
			out.Groups = append(out.Groups, g)
			use(g.Entry)
			use(g.Boot...)
		}
	}
	for _, b := range d.Bootloaders {
		if keep[b.Addr] {
			out.Bootloaders = append(out.Bootloaders, b)
			use(b.Entries...)
		}
	}
	for _, en := range d.Entries {
		if keep[en.Addr] {
			out.Entries = append(out.Entries, en)
			keep[en.Image] = true
		}
	}
	for _, ex := range d.Exports {
		if ex.Server == own.Addr {
			out.Exports = append(out.Exports, ex)
			keep[ex.Addr], keep[ex.Image] = true, true
		}
	}
	for _, im := range d.Images {
		if keep[im.Addr] {
			out.Images = append(out.Images, im)
		}
	}
	for _, r := range d.Resources {
		if keep[r.Addr] {
			out.Resources = append(out.Resources, r)
		}
	}
	return out
}
