package schema

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const settled = `
server "main" {
  address = "10.0.0.1"
}

image "a" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "btrfs" {
    size = "1GiB"
  }
}

export "nbd" "a" {
  image = image.a
}

entry "a" {
  image = image.a
  root  = export.nbd.a
  args  = ["entry"]
  mount "/z" {
    type = "tmpfs"
  }
  mount "/" {
    options = ["noatime"]
  }
  file "/etc/entry" {
    content = "entry"
  }
  file "/etc/motd" {
    content = "entry"
  }
  state "/var/lib/a" {}
}

entry "b" {
  image = image.a
  root  = export.nbd.a
}

bootloader "ipxe" "menu" {
  entries = [entry.a]
}

bootloader "grub" "menu" {
  entries = [entry.b, entry.a]
}

bootloader "pxelinux" "menu" {
  entries = [entry.a]
}

subnet "lan" {
  cidr = "10.0.0.0/24"
  boot = [bootloader.pxelinux.menu, bootloader.ipxe.menu]
}

group "g" {
  entry = entry.b
  boot  = bootloader.grub.menu
  args  = ["group"]
  mount "/" {
    options = ["ro"]
  }
  file "/etc/motd" {
    content = "group"
  }
  file "/etc/group" {
    content = "group"
  }
}

host "alone" {
  mac = "52:54:00:00:00:01"
}

host "member" {
  mac   = "52:54:00:00:00:02"
  group = group.g
}

host "own" {
  mac   = "52:54:00:00:00:03"
  group = group.g
  entry = entry.a
  boot  = [bootloader.ipxe.menu, bootloader.grub.menu]
  args  = ["host"]
  file "/etc/motd" {
    content = "host"
  }
  state "/var/lib/b" {}
}
`

// TestWayOf lays hosts over groups, and groups over subnets.
func TestWayOf(t *testing.T) {
	d := mustLoad(t, files("a.hcl", settled), Options{})
	lan := d.Subnets[0]
	for _, c := range []struct{ host, boot, entry, args, group string }{
		{"", "bootloader.pxelinux.menu bootloader.ipxe.menu", "", "", ""},
		{"alone", "bootloader.pxelinux.menu bootloader.ipxe.menu", "", "", ""},
		{"member", "bootloader.grub.menu", "entry.b", "group", "group.g"},
		{"own", "bootloader.ipxe.menu bootloader.grub.menu", "entry.a", "group host", "group.g"},
	} {
		var h *Host
		if i := slices.IndexFunc(d.Hosts, func(h *Host) bool { return h.Addr.Name == c.host }); i >= 0 {
			h = d.Hosts[i]
		}
		w := d.WayOf(h, lan)
		group := ""
		if w.Group != nil {
			group = w.Group.Addr.String()
		}
		got := []string{strings.Join(addrTexts(w.Boot), " "), w.Entry.String(), strings.Join(w.Args, " "), group}
		if diff := cmp.Diff([]string{c.boot, c.entry, c.args, c.group}, got); diff != "" {
			t.Errorf("host %q: %s", c.host, diff)
		}
		if w.Host != h {
			t.Errorf("host %q: it is %v", c.host, w.Host)
		}
	}
	// The group's arguments are shared by its hosts: adding to a way must not reach them.
	for _, h := range d.Hosts {
		_ = append(d.WayOf(h, lan).Args, "more")
	}
	if diff := cmp.Diff([]string{"group"}, d.Groups[0].Args); diff != "" {
		t.Error(diff)
	}
}

// TestSettingsOfAWay lays the settings of entry, group and host over each other, by
// path.
func TestSettingsOfAWay(t *testing.T) {
	d := mustLoad(t, files("a.hcl", settled), Options{})
	describe := func(s Settings) []string {
		var out []string
		for _, m := range s.Mounts {
			out = append(out, "mount "+m.Path+" "+strings.Join(m.Options, ","))
		}
		for _, f := range s.Files {
			out = append(out, "file "+f.Path+" "+f.Content)
		}
		for _, x := range s.States {
			out = append(out, "state "+x.Path)
		}
		return out
	}
	before := asJSON(t, d)
	for _, h := range d.Hosts {
		want := map[string][]string{
			"alone":  {"mount / noatime", "mount /z ", "file /etc/entry entry", "file /etc/motd entry", "state /var/lib/a"},
			"member": {"mount / ro", "mount /z ", "file /etc/entry entry", "file /etc/group group", "file /etc/motd group", "state /var/lib/a"},
			"own":    {"mount / ro", "mount /z ", "file /etc/entry entry", "file /etc/group group", "file /etc/motd host", "state /var/lib/a", "state /var/lib/b"},
		}[h.Addr.Name]
		if diff := cmp.Diff(want, describe(d.WayOf(h, d.Subnets[0]).Settings(d.Entries[0]))); diff != "" {
			t.Errorf("%s: %s", h.Addr, diff)
		}
	}
	if after := asJSON(t, d); after != before {
		t.Error("laying settings over each other changed them")
	}
}

// TestOpen tells where machines without a reservation turn up, and whose leases count.
func TestOpen(t *testing.T) {
	d := mustLoad(t, files("a.hcl", `
server "a" {
  address = "10.0.0.1"
}

server "b" {
  address = "10.0.0.2"
  dhcp {
    enabled = false
  }
}

subnet "foreign" {
  server = server.b
  cidr   = "10.1.0.0/24"
}

subnet "pool" {
  server = server.a
  cidr   = "10.2.0.0/24"
  pool {
    range = "10.2.0.10-10.2.0.20"
  }
}

subnet "proxied" {
  server = server.a
  cidr   = "10.3.0.0/24"
  mode   = "proxy"
}

subnet "reserved" {
  server = server.a
  cidr   = "10.4.0.0/24"
}
`), Options{})
	var got []string
	for _, s := range d.Subnets {
		got = append(got, fmt.Sprintf("%s %t %t", s.Addr.Name, d.Open(s), d.Leases(s)))
	}
	if diff := cmp.Diff([]string{"foreign true false", "pool true true", "proxied true false", "reserved false true"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestGroupLookup finds groups by address, whatever their keys sort like.
func TestGroupLookup(t *testing.T) {
	d := mustLoad(t, files("a.hcl", "group \"b\" {}\ngroup \"a\" {\n for_each = toset([\"9\", \"10\", \"a b\", \"ä\"])\n}\ngroup \"a-b\" {}"), Options{})
	if len(d.Groups) != 6 {
		t.Fatalf("%d groups", len(d.Groups))
	}
	for _, g := range d.Groups {
		if got := d.Group(g.Addr); got != g {
			t.Errorf("%s is found as %v", g.Addr, got)
		}
	}
	if g := d.Group(Addr{Kind: "group", Name: "c"}); g != nil {
		t.Errorf("found %s", g.Addr)
	}
	if g := d.Group(Addr{}); g != nil {
		t.Errorf("the zero address is %s", g.Addr)
	}
}

// TestClientArchs holds the registry against what the rest relies on.
func TestClientArchs(t *testing.T) {
	all := ClientArchs()
	for i, a := range all {
		if int(a.Number) != i {
			t.Errorf("number %d is at place %d", a.Number, i)
		}
		if ClientArchOf(a.Number) != a || a.Name == "" {
			t.Errorf("%d is %+v", a.Number, a)
		}
	}
	if a := ClientArchOf(0xffff); a.Platform != "" || a.Number != 0xffff || !strings.Contains(a.Name, "65535") {
		t.Errorf("an unregistered number is %+v", a)
	}
	for _, loader := range language["bootloader"].values {
		platforms := LoaderPlatforms(loader)
		if len(platforms) == 0 {
			t.Errorf("%s is for no platform", loader)
		}
		for _, p := range platforms {
			if !slices.ContainsFunc(all, func(a ClientArch) bool { return a.Platform == p }) {
				t.Errorf("%s is for %s, which no client says", loader, p)
			}
			if !slices.ContainsFunc(debianArchitectures, p.Boots) {
				t.Errorf("%s runs no kernel", p)
			}
		}
	}
}
