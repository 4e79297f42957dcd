package engine

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/schema"
)

const twoServers = `
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
  mac = "52:54:00:00:00:03"
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
		"bootloader.ipxe.north", "entry.north", "export.nbd.north", "host.anywhere", "host.n", "image.debian", "server.north", "subnet.north",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if len(own.Servers) != 1 || len(own.Images) != 1 || len(own.Exports) != 1 || len(own.Entries) != 1 || len(own.Bootloaders) != 1 || len(own.Subnets) != 1 || len(own.Hosts) != 2 {
		t.Errorf("%+v", own)
	}
	if len(d.Servers) != 2 || len(d.Hosts) != 3 {
		t.Error("the whole was changed")
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
	if !errors.As(err, &diags) || len(diags) != 1 || diags[0].Subject.Start.Line != 40 || !strings.Contains(diags[0].Detail, "export.nbd.south is exported by server.south") {
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
		{&schema.Desired{}, "main", `"main"`},
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
