package plan_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/schema"
)

// An NBD and an NFS export may have one name. Which of the two a machine was taken to
// run depended on the order of a map, and so did the plan.
func TestExportsOfTwoTypesWithOneName(t *testing.T) {
	load := func(listen string) *schema.Desired {
		d, diags := schema.Load(fstest.MapFS{"site.hcl": {Data: []byte(`
server "main" {
  address = "10.0.0.1"
  nfs {
    listen = "` + listen + `"
  }
}
image "arch" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "1GiB"
  }
}
export "nbd" "arch" {
  image = image.arch
}
export "nfs" "arch" {
  image = image.arch
}
entry "arch" {
  image = image.arch
  root  = export.nbd.arch
}
bootloader "ipxe" "menu" {
  entries = [entry.arch]
}
subnet "lan" {
  cidr = "10.0.0.0/24"
  boot = bootloader.ipxe.menu
}
host "a" {
  mac     = "52:54:00:00:00:01"
  address = "10.0.0.11"
}
`)}}, schema.Options{})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		return d
	}
	have, want := load(":2049"), load(":2050")
	host, err := schema.ParseAddr("host.a")
	if err != nil {
		t.Fatal(err)
	}
	digest := "sha256:" + strings.Repeat("7", 64)
	built := map[string]string{have.Images[0].Recipe: digest}
	for range 50 {
		p := plan.Compute(plan.Input{
			Want: want, Applied: &plan.Applied{Generation: 1, Desired: have, Artifacts: built}, Built: built,
			Observations: []plan.Observation{{
				Kind: plan.SawNode, Host: host, MAC: "52:54:00:00:00:01", Address: "10.0.0.11", Generation: 1,
				Image: have.Images[0].Addr, Export: "arch@777777777777", Artifact: digest, State: "up",
			}},
		})
		for _, c := range p.Changes {
			for _, im := range c.Impact {
				if im.Effect == plan.EffectKeeps {
					t.Fatalf("the listener of NFS changes, and a machine that runs from NBD is told to keep it: %+v", im)
				}
			}
		}
	}
}
