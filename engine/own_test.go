package engine

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/schema"
)

const twoServers = `
policy {
  max_delete = 7
}

moved {
  from = host.rack
  to   = host.r
}

server "north" {
  address = "10.0.0.1"
}

server "south" {
  address = "10.1.0.1"
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "1GiB"
  }
}

image "rescue" {
  debootstrap {
    suite = "trixie"
  }
  filesystem "ext4" {
    size = "1GiB"
  }
}

export "nbd" "north" {
  server = server.north
  image  = image.debian
}

export "nbd" "south" {
  server = server.south
  image  = image.rescue
}

entry "north" {
  image = image.debian
  root  = export.nbd.north
}

entry "south" {
  image = image.rescue
  root  = export.nbd.south
}

bootloader "ipxe" "north" {
  entries = [entry.north]
}

bootloader "ipxe" "south" {
  entries = [entry.south]
}

subnet "north" {
  server = server.north
  cidr   = "10.0.0.0/24"
  boot   = bootloader.ipxe.north
}

subnet "south" {
  server = server.south
  cidr   = "10.1.0.0/24"
  boot   = bootloader.ipxe.south
}

host "n" {
  mac     = "52:54:00:00:00:01"
  address = "10.0.0.21"
}

host "s" {
  mac     = "52:54:00:00:00:02"
  address = "10.1.0.21"
}

host "anywhere" {
  mac   = "52:54:00:00:00:03"
  group = group.both
}

group "both" {
  args = ["quiet"]
}

entry "rack" {
  image = image.debian
  root  = export.nbd.north
}

bootloader "ipxe" "rack" {
  entries = [entry.rack]
}

group "rack" {
  entry = entry.rack
  boot  = bootloader.ipxe.rack
  args  = ["debug"]
}

host "r" {
  mac     = "52:54:00:00:00:04"
  address = "10.0.0.22"
  group   = group.rack
}
`

func loadSite(t *testing.T, text string) *schema.Desired {
	t.Helper()
	d, diags := schema.Load(fstest.MapFS{"site.hcl": &fstest.MapFile{Data: []byte(text)}}, schema.Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return d
}

func TestOwn(t *testing.T) {
	d := loadSite(t, twoServers)
	own, err := Own(d, "north")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range own.Resources {
		got = append(got, r.Addr.String())
	}
	want := []string{
		"bootloader.ipxe.north", "bootloader.ipxe.rack", "entry.north", "entry.rack", "export.nbd.north", "group.both", "group.rack",
		"host.anywhere", "host.n", "host.r", "image.debian", "server.north", "subnet.north",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if len(own.Servers) != 1 || len(own.Images) != 1 || len(own.Exports) != 1 || len(own.Entries) != 2 || len(own.Bootloaders) != 2 || len(own.Subnets) != 1 || len(own.Groups) != 2 || len(own.Hosts) != 3 {
		t.Errorf("%+v", own)
	}
	// The part says the same of a machine as the whole.
	for _, h := range own.Hosts {
		var whole *schema.Host
		for _, o := range d.Hosts {
			if o.Addr == h.Addr {
				whole = o
			}
		}
		if a, b := d.WayOf(whole, own.Subnets[0]), own.WayOf(h, own.Subnets[0]); !reflect.DeepEqual(a, b) {
			t.Errorf("%s: %+v of the whole, %+v of the part", h.Addr, a, b)
		}
	}
	if own.Policy.MaxDelete == nil || own.Policy.MaxDelete.Count != 7 || len(own.Moved) != 1 {
		t.Errorf("policy %+v, moved %+v", own.Policy, own.Moved)
	}
	south, err := Own(d, "south")
	if err != nil {
		t.Fatal(err)
	}
	if len(south.Groups) != 1 || south.Groups[0].Addr.Name != "both" || len(south.Bootloaders) != 1 {
		t.Errorf("%+v", south)
	}
	if len(d.Servers) != 2 || len(d.Hosts) != 4 {
		t.Error("the whole was changed")
	}
}

// What is in modules is the part of the server that they were given, and an empty
// tree is everybody's.
func TestOwnOfModules(t *testing.T) {
	d, diags := schema.Load(fstest.MapFS{
		"site.hcl": &fstest.MapFile{Data: []byte(`
server "north" {
  address = "10.0.0.1"
}

server "south" {
  address = "10.1.0.1"
}

module "site" {
  source   = "./site"
  for_each = { north = server.north, south = server.south }
  server   = each.value
  octet    = each.key == "north" ? 0 : 1
}
`)},
		"site/site.hcl": &fstest.MapFile{Data: []byte(`
variable "server" {
}

variable "octet" {
}

image "debian" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "1GiB"
  }
}

export "nbd" "root" {
  server = var.server
  image  = image.debian
}

entry "linux" {
  image = image.debian
  root  = export.nbd.root
}

bootloader "ipxe" "menu" {
  entries = [entry.linux]
}

subnet "lan" {
  server = var.server
  cidr   = "10.${var.octet}.0.0/24"
  boot   = bootloader.ipxe.menu
}

host "a" {
  mac     = "52:54:00:00:00:0${var.octet}"
  address = "10.${var.octet}.0.21"
}
`)},
	}, schema.Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	own, err := Own(d, "south")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range own.Resources {
		got = append(got, r.Addr.String())
	}
	want := []string{
		"server.south", `module.site["south"].bootloader.ipxe.menu`, `module.site["south"].entry.linux`, `module.site["south"].export.nbd.root`,
		`module.site["south"].host.a`, `module.site["south"].image.debian`, `module.site["south"].subnet.lan`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	empty, _ := schema.Load(fstest.MapFS{"policy.hcl": &fstest.MapFile{Data: []byte("policy {\n  allow_empty = true\n}\n")}}, schema.Options{})
	if own, err := Own(empty, "south"); err != nil || !own.Policy.AllowEmpty {
		t.Errorf("of an empty tree: %v", err)
	}
}

// A root that another server exports cannot be booted from here.
func TestOwnRefusesForeignRoots(t *testing.T) {
	text := strings.Replace(twoServers, "root  = export.nbd.north", "root  = export.nbd.south", 1)
	d := loadSite(t, strings.ReplaceAll(text, "image.rescue", "image.debian"))
	if _, err := Own(d, "south"); err != nil {
		t.Error(err)
	}
	_, err := Own(d, "north")
	var diags hcl.Diagnostics
	if !errors.As(err, &diags) || len(diags) != 1 || diags[0].Subject.Start.Line != 49 || !strings.Contains(diags[0].Detail, "export.nbd.south is exported by server.south") {
		t.Errorf("%v", err)
	}
}

func TestOwnMistakes(t *testing.T) {
	one := loadSite(t, site("x")["site.hcl"])
	two := loadSite(t, twoServers)
	for _, c := range []struct {
		d    *schema.Desired
		name string
		says string // "": no mistake, and all of it is ours
	}{
		{one, "", ""},
		{one, "main", ""},
		{&schema.Desired{}, "", ""},
		{one, "other", `"other"`},
		{two, "", "several servers"},
		{two, "east", `"east"`},
		{&schema.Desired{}, "main", ""},
		{loadSite(t, `group "left" {}`), "main", `"main"`},
	} {
		own, err := Own(c.d, c.name)
		if c.says == "" {
			if err != nil || own != c.d {
				t.Errorf("%q: %v", c.name, err)
			}
			continue
		}
		var diags hcl.Diagnostics
		if !errors.As(err, &diags) || !strings.Contains(diags.Error(), c.says) || (len(c.d.Servers) > 0) != (diags[0].Subject != nil) {
			t.Errorf("%q: %v", c.name, err)
		}
	}
}
