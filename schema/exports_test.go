package schema

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
)

// TestExports holds what is handed to the rest of the system against what is written.
func TestExports(t *testing.T) {
	tree, opts := open(t, "../testdata/valid/nfs.hcl")
	d := mustLoad(t, tree, opts)
	for name, want := range map[string]Export{
		"export.nfs.debian": {Mode: ReadOnly, Path: "/debian", Options: []string{"no_root_squash"}},
		"export.nfs.shared": {Mode: ReadWrite, Path: "/srv/shared", Clients: []string{"10.0.0.0/24", "10.0.1.7"},
			Options: []string{"insecure", "no_root_squash", "no_subtree_check", "sec=sys", "sync"}},
		`export.nbd.room["a"]`: {Mode: CopyOnWrite, Keep: KeepConnection},
		`export.nbd.room["b"]`: {Mode: CopyOnWrite, Keep: KeepHost},
	} {
		got := *find(t, d.Exports, func(e *Export) Addr { return e.Addr }, name)
		got.Meta, got.Server, got.Image = Meta{}, Addr{}, Addr{}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for name, want := range map[string]string{"main": "10.0.0.1:2049 false", "other": "10.1.0.1:20049 false", "none": "10.2.0.1:2049 true"} {
		s := find(t, d.Servers, func(s *Server) Addr { return s.Addr }, "server."+name)
		if got := fmt.Sprint(s.NFS.Listen, s.NFS.Disabled); got != want {
			t.Errorf("NFS of %s is %s, want %s", s.Addr, got, want)
		}
	}
}

// TestNoNFSUnasked: a server that says nothing of NFS has it when an export needs it,
// and then only.
func TestNoNFSUnasked(t *testing.T) {
	const nfs = "export \"nfs\" \"b\" {\n image = image.a\n}\n"
	without, with := mustLoad(t, files("a.hcl", site), Options{}), mustLoad(t, files("a.hcl", site+nfs), Options{})
	if !without.Servers[0].NFS.Disabled || with.Servers[0].NFS.Disabled {
		t.Errorf("disabled: %t without an export, %t with one", without.Servers[0].NFS.Disabled, with.Servers[0].NFS.Disabled)
	}
	if got := string(outline(without)); strings.Contains(got, "nfs") {
		t.Errorf("the plan of a site without NFS tells of it:\n%s", got)
	}
	if got := string(outline(with)); !strings.Contains(got, `nfs.listen = "10.0.0.1:2049"`) {
		t.Errorf("the plan does not tell of the socket:\n%s", got)
	}
}

// TestUnserved: what the language has and nothing serves is told with its place.
func TestUnserved(t *testing.T) {
	tree, opts := open(t, "../testdata/valid/design")
	var got []string
	for _, u := range mustLoad(t, tree, opts).Unserved() {
		got = append(got, fmt.Sprintf("%s %s", u.Range, u.Addr))
	}
	want := []string{
		"site.hcl:7,3 image.arch", "site.hcl:12,3 image.arch", "site.hcl:19,13 image.arch", "site.hcl:41,1 export.nfs.arch",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestWireNames: modules and keys can spell one name in several ways.
func TestWireNames(t *testing.T) {
	export := func(module, kind, name, key string) Addr {
		return Addr{Module: module, Kind: "export", Type: kind, Name: name, Key: key}
	}
	for _, c := range []struct {
		name string
		a, b Addr
		same bool
	}{
		{"a key, and a module", export("", NBD, "a", "b"), export("module.a", NBD, "b", ""), true},
		{"a module's key, and a block's", export(`module.m["a"]`, NBD, "b", ""), export("module.m", NBD, "a", "b"), true},
		{"a module in a module, and a key", export("module.m.module.a", NBD, "b", ""), export(`module.m["a"]`, NBD, "b", ""), true},
		{"of two types", export("", NBD, "a", "b"), export("module.a", NFS, "b", ""), false},
		{"other keys", export("", NBD, "a", "b"), export("", NBD, "a", "c"), false},
		{"an entry", Addr{Kind: "entry", Name: "a", Key: "b"}, Addr{Module: "module.a", Kind: "entry", Name: "b"}, true},
		{"an entry and an export", Addr{Kind: "entry", Name: "a", Key: "b"}, export("module.a", NBD, "b", ""), false},
	} {
		l := newLoader(files(), Options{})
		for i, a := range []Addr{c.a, c.b} {
			l.made[a.String()] = &made{addr: a, block: &block{at: hcl.Range{Filename: "a.hcl", Start: hcl.Pos{Line: i + 1, Column: 1}}}}
			if a.Kind == "export" {
				l.out.Exports = append(l.out.Exports, &Export{Meta: Meta{Addr: a}})
			} else {
				l.out.Entries = append(l.out.Entries, &Entry{Meta: Meta{Addr: a}})
			}
		}
		l.checkWire()
		if got := l.diags.HasErrors(); got != c.same {
			t.Errorf("%s: refused: %t, want %t", c.name, got, c.same)
		}
		if c.same && (l.diags[0].Subject.Start.Line != 2 || !strings.Contains(l.diags[0].Detail, c.a.Wire()) || !strings.Contains(l.diags[0].Detail, "a.hcl:1,1")) {
			t.Errorf("%s: %s", c.name, l.diags[0].Detail)
		}
	}
}
