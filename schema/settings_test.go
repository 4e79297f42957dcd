package schema

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func find[T any](t *testing.T, all []T, addr func(T) Addr, want string) T {
	t.Helper()
	for _, r := range all {
		if addr(r).String() == want {
			return r
		}
	}
	t.Fatalf("there is no %s", want)
	return all[0]
}

// TestSettings holds what is handed to the rest of the system against what is
// written; the golden files show only what plans see.
func TestSettings(t *testing.T) {
	tree, opts := open(t, "../testdata/valid/groups")
	d := mustLoad(t, tree, opts)
	entry := d.Entries[0]
	room := find(t, d.Groups, func(g *Group) Addr { return g.Addr }, `group.room["b"]`)
	ws := find(t, d.Hosts, func(h *Host) Addr { return h.Addr }, `host.ws["ws01"]`)

	at := func(line int) Range { return Range{File: "site.hcl", Line: line, Column: 3} }
	if diff := cmp.Diff([]Mount{
		{Range: at(30), Path: "/", Type: "btrfs", Options: []string{"rw", "noatime", "compress=lzo"}},
		{Range: at(34), Path: "/var/log", Type: "tmpfs", Device: "tmpfs", Options: []string{"nodev", "nosuid"}},
	}, entry.Mounts); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]State{{Range: at(38), Path: "/var/lib/puppet", Per: "host"}}, entry.States); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Mount{
		{Range: at(68), Path: "/home", Type: "nfs4", Device: "10.0.0.1:/home"},
		{Range: at(63), Path: "/srv/scratch", Type: "none", Device: "/var/tmp", Options: []string{"bind"}},
	}, room.Mounts); diff != "" {
		t.Error(diff)
	}
	want := map[string]HostFile{
		"/etc/motd":   {Content: "room b\n", Permissions: 0o600, Owner: 1000, Group: 1000},
		"/etc/keys":   {Content: "ssh-ed25519 AAAA\n", Permissions: 0o644},
		"/etc/binary": {Content: "\xff\xfe\x00\x01", Permissions: 0o644},
		"/etc/exact":  {Content: strings.Repeat("exac", 64), Permissions: 0o644},
		"/etc/long":   {Content: strings.Repeat("long", 64) + "!", Permissions: 0o644},
		"/etc/empty":  {Permissions: 0o644},
	}
	last := ""
	for _, f := range room.Files {
		got := *f
		if got.Digest != digestOfText(got.Content) || got.Range.File == "" || got.Path <= last {
			t.Errorf("%s at %s has digest %s", got.Path, got.Range, got.Digest)
		}
		last = got.Path
		got.Path, got.Digest, got.Range = "", "", Range{}
		if diff := cmp.Diff(want[f.Path], got); diff != "" {
			t.Errorf("%s: %s", f.Path, diff)
		}
	}
	if len(room.Files) != len(want) {
		t.Errorf("%d files", len(room.Files))
	}
	for _, f := range ws.Files {
		if f.Sensitive != strings.Contains(f.Path, "password") {
			t.Errorf("%s: sensitive %t", f.Path, f.Sensitive)
		}
	}
	if ws.Group.String() != `group.room["a"]` {
		t.Errorf("the group of %s is %s", ws.Addr, ws.Group)
	}
	// What is sensitive is in no attribute that may be shown.
	for _, r := range d.Resources {
		for _, a := range r.Attrs {
			if !a.Sensitive && strings.Contains(a.Value, "hunter2") {
				t.Errorf("%s %s shows a secret", r.Addr, a.Name)
			}
		}
	}
	if got := asJSON(t, d.Variables); strings.Contains(got, "hunter2") {
		t.Error(got)
	}
}

func digestOfText(s string) string {
	t := newTree(files("x", s), nil)
	f, err := t.digest("x")
	if err != nil {
		return err.Error()
	}
	return f.Digest
}

// TestSourceSizes tries files of the repo at the limit, and one byte beyond.
func TestSourceSizes(t *testing.T) {
	config := func(names ...string) string {
		out := "group \"g\" {\n"
		for _, n := range names {
			out += "file \"/" + n + "\" {\n source = \"" + n + "\"\n}\n"
		}
		return out + "}\n"
	}
	load := func(names ...string) fstest.MapFS {
		fsys := files("a.hcl", config(names...), "over", strings.Repeat("x", maxHostFile+1), "one", "x")
		for _, n := range []string{"a", "b", "c", "d"} {
			fsys[n] = &fstest.MapFile{Data: []byte(strings.Repeat(n, maxHostFile))}
		}
		return fsys
	}
	d := mustLoad(t, load("a", "b", "c", "d"), Options{})
	if n := len(d.Groups[0].Files); n != 4 {
		t.Errorf("%d files", n)
	}
	if got := mustFail(t, load("over"), Options{}); !strings.Contains(got, `"over" is too large`) {
		t.Error(got)
	}
	if got := mustFail(t, load("a", "b", "c", "d", "one"), Options{}); !strings.Contains(got, "too large together") {
		t.Error(got)
	}
}

func TestBootloaders(t *testing.T) {
	tree, opts := open(t, "../testdata/valid/loaders.hcl")
	d := mustLoad(t, tree, opts)
	for name, want := range map[string]Bootloader{
		"bootloader.ipxe.defaults":     {Fallback: FallbackRestart},
		"bootloader.ipxe.all":          {Timeout: 3, Protocol: HTTP, Fallback: FallbackLocalDisk},
		"bootloader.grub.defaults":     {},
		"bootloader.grub.all":          {Timeout: 3, Protocol: TFTP, Serial: "0,115200", SecureBoot: true},
		"bootloader.pxelinux.defaults": {},
		"bootloader.pxelinux.all":      {Timeout: 3, Protocol: HTTP, Serial: "3,9600"},
	} {
		got := *find(t, d.Bootloaders, func(b *Bootloader) Addr { return b.Addr }, name)
		got.Meta, got.Entries = Meta{}, nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for name, want := range map[string]string{
		"subnet.one":         "bootloader.grub.all",
		"subnet.list_of_one": "bootloader.grub.all",
		"subnet.several":     "bootloader.pxelinux.defaults bootloader.grub.defaults bootloader.ipxe.all",
		"subnet.chosen":      "bootloader.ipxe.all",
		"subnet.nobody":      "",
	} {
		s := find(t, d.Subnets, func(s *Subnet) Addr { return s.Addr }, name)
		if got := strings.Join(addrTexts(s.Boot), " "); got != want || s.Mode != ModeServer {
			t.Errorf("%s boots %q in mode %q", name, got, s.Mode)
		}
	}
}

func TestProxiedSubnet(t *testing.T) {
	tree, opts := open(t, "../testdata/valid/proxy.hcl")
	d := mustLoad(t, tree, opts)
	s := find(t, d.Subnets, func(s *Subnet) Addr { return s.Addr }, "subnet.theirs")
	if s.Mode != ModeProxy || len(s.Pools) > 0 || len(s.Boot) != 1 {
		t.Errorf("%+v", s)
	}
	if h := d.Hosts[0]; h.Subnet != s.Addr || h.Address.String() != "10.0.0.21" {
		t.Errorf("%+v", h)
	}
	// The same file serves addresses when its variable says so.
	again := mustLoad(t, tree, Options{Vars: map[string]string{"mode": "server"}})
	s = find(t, again.Subnets, func(s *Subnet) Addr { return s.Addr }, "subnet.theirs")
	if s.Mode != ModeServer || s.LeaseTime != defaultLease {
		t.Errorf("%+v", s)
	}
}

// TestOneMistakeAtATime has checks of machines stay silent about what they cannot
// know because a block they depend on is wrong itself.
func TestOneMistakeAtATime(t *testing.T) {
	const bare = `
image "bare" {
  tar {
    path = "root.tar"
  }
  initramfs "none" {}
  filesystem "squashfs" {}
}

export "nbd" "bare" {
  image = image.bare
}

entry "bare" {
  image = image.bare
  root  = export.nbd.bare
}

bootloader "ipxe" "bare" {
  entries = [entry.bare]
}

subnet "bare" {
  cidr = "10.1.0.0/24"
  boot = bootloader.ipxe.bare
}

host "h" {
  mac     = "52:54:00:00:00:01"
  group   = group.g
  %s
  file "/etc/motd" {
    content = "x"
  }
}
`
	server := "server \"main\" {\n  address = \"10.1.0.1\"\n}\n"
	for name, c := range map[string]struct{ more, host string }{
		"group":      {"group \"g\" {\n  entry = entry.bare\n  args  = [\"\"]\n}\n", ""},
		"subnet":     {"group \"g\" {}\nsubnet \"other\" {\n  cidr = \"10.2.0.0/99\"\n}\n", ""},
		"bootloader": {"group \"g\" {}\nbootloader \"grub\" \"b\" {\n  entries = []\n}\n", "boot = [bootloader.grub.b, bootloader.ipxe.bare]"},
	} {
		got := mustFail(t, files("a.hcl", server+strings.Replace(bare, "%s", c.host, 1)+c.more, "root.tar", "x"), Options{})
		if n := strings.Count(got, "a.hcl:"); n != 1 || strings.Contains(got, "Nothing in") {
			t.Errorf("%s: %s", name, got)
		}
	}
	// And it is told when they are right.
	got := mustFail(t, files("a.hcl", server+strings.Replace(bare, "%s", "", 1)+"group \"g\" {}\n", "root.tar", "x"), Options{})
	if !strings.Contains(got, "Nothing in image.bare would do this") {
		t.Error(got)
	}
}
