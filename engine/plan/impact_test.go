package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/schema"
)

func lease(mac, address string) Observation {
	return Observation{Kind: SawLease, MAC: mac, Address: address, Subnet: addr("subnet.lan")}
}

func TestImpact(t *testing.T) {
	const (
		mac1 = "52:54:00:00:00:01"
		mac9 = "52:54:00:00:00:09"
	)
	both := []string{"host.render01", "host.render02"}
	for _, tc := range []struct {
		name string
		edit func(*site)
		obs  []Observation
		on   string
		want []Impact
	}{
		{"image, a machine without a host block",
			func(s *site) { s.recipe = recipe2 }, []Observation{up("", mac9, artifact1)}, "image.arch",
			[]Impact{
				{Effect: EffectNextBoot, Machines: []string{mac9, "host.render01", "host.render02"}},
				{Effect: EffectKeeps, Machines: []string{mac9}, Artifact: artifact1, Detail: "until it reboots"},
			}},
		{"image, a machine in the middle of its boot",
			func(s *site) { s.recipe = recipe2 }, []Observation{{Kind: SawNode, Host: addr("host.render01"), MAC: mac1, Generation: 3, State: "booting", Subnet: addr("subnet.lan")}}, "image.arch",
			[]Impact{
				{Effect: EffectNextBoot, Machines: both},
				{Effect: EffectKeeps, Machines: []string{"host.render01"}, Artifact: artifact1, Detail: "until it reboots"},
			}},
		{"image, a machine on something older still",
			func(s *site) { s.recipe = recipe2 }, []Observation{up("host.render01", mac1, artifact2)}, "image.arch",
			[]Impact{
				{Effect: EffectNextBoot, Machines: both},
				{Effect: EffectKeeps, Machines: []string{"host.render01"}, Artifact: artifact2, Detail: "until it reboots"},
			}},
		{"image, a machine that is gone, and an overlay",
			func(s *site) { s.recipe = recipe2 }, []Observation{
				{Kind: SawNode, Host: addr("host.render01"), MAC: mac1, State: "gone"},
				{Kind: SawOverlay, Host: addr("host.render01"), MAC: mac1, Bytes: 1 << 20},
			}, "image.arch",
			[]Impact{{Effect: EffectNextBoot, Machines: both}}},
		{"image, only a connection is seen",
			func(s *site) { s.recipe = recipe2 }, []Observation{{Kind: SawConnection, Address: "10.0.0.77", Export: "arch@77aabbccddee", Artifact: artifact1}}, "image.arch",
			[]Impact{
				{Effect: EffectNextBoot, Machines: []string{"10.0.0.77", "host.render01", "host.render02"}},
				{Effect: EffectKeeps, Machines: []string{"10.0.0.77"}, Artifact: artifact1, Detail: "until it reboots"},
			}},
		{"export, mode",
			func(s *site) { s.mode = schema.ReadOnly }, nil, "export.nbd.arch",
			[]Impact{{Effect: EffectNextBoot, Machines: both}}},
		{"export, mode, of a machine that runs: it keeps the mode that it booted with",
			func(s *site) { s.mode = schema.ReadOnly }, []Observation{up("host.render01", mac1, artifact1)}, "export.nbd.arch",
			[]Impact{{Effect: EffectNextBoot, Machines: both}}},
		{"export, a machine shut out",
			func(s *site) { s.allow = []string{"host.render02"} },
			[]Observation{up("host.render01", mac1, artifact1), up("host.render02", "52:54:00:00:00:02", artifact1)}, "export.nbd.arch",
			[]Impact{
				{Effect: EffectLive, Machines: both, Detail: "at its next connection"},
				{Effect: EffectInterrupts, Machines: []string{"host.render01"}, Artifact: artifact1, Detail: "its next connection is refused"},
			}},
		{"export, its subnet allowed",
			func(s *site) { s.allow = []string{"subnet.lan"} }, []Observation{up("host.render01", mac1, artifact1), up("", mac9, artifact1)}, "export.nbd.arch",
			[]Impact{{Effect: EffectLive, Machines: []string{mac9, "host.render01", "host.render02"}, Detail: "at its next connection"}}},
		{"entry, arguments",
			func(s *site) { s.args = []string{"quiet"} }, []Observation{up("host.render01", mac1, artifact1)}, "entry.arch",
			[]Impact{{Effect: EffectNextBoot, Machines: both}}},
		{"entry and image at once: the image tells who keeps what",
			func(s *site) { s.args, s.recipe = []string{"quiet"}, recipe2 }, []Observation{up("host.render01", mac1, artifact1)}, "entry.arch",
			[]Impact{{Effect: EffectNextBoot, Machines: both}}},
		{"image, a machine that boots on an earlier generation",
			func(s *site) { s.recipe = recipe2 }, []Observation{{Kind: SawNode, Host: addr("host.render01"), MAC: mac1, Generation: 2, State: "booting", Subnet: addr("subnet.lan")}}, "image.arch",
			[]Impact{{Effect: EffectNextBoot, Machines: both}}},
		{"subnet, lease option",
			func(s *site) { s.dns = "10.0.0.2" }, []Observation{lease(mac9, "10.0.0.200")}, "subnet.lan",
			[]Impact{{Effect: EffectLive, Machines: []string{mac9, "host.render01", "host.render02"}, Detail: "at its next renewal"}}},
		{"subnet, pool shrunk",
			func(s *site) { s.pool = [2]string{"10.0.0.128", "10.0.0.150"} },
			[]Observation{lease(mac9, "10.0.0.200"), lease("52:54:00:00:00:08", "10.0.0.140"), lease(mac1, "10.0.0.21")}, "subnet.lan",
			[]Impact{{Effect: EffectKeeps, Machines: []string{mac9}, Detail: "10.0.0.200 until its lease ends"}}},
		{"host, arguments, while it runs",
			func(s *site) { s.hosts[0].args = []string{"debug"} }, []Observation{up("host.render01", mac1, artifact1)}, "host.render01",
			[]Impact{{Effect: EffectNextBoot, Machines: []string{"host.render01"}}}},
		{"host, address moved to one that is leased",
			func(s *site) { s.hosts[0].address = "10.0.0.200" }, []Observation{lease(mac9, "10.0.0.200")}, "host.render01",
			[]Impact{
				{Effect: EffectLive, Machines: []string{"host.render01"}, Detail: "10.0.0.21 -> 10.0.0.200 when its lease of the old one ends"},
				{Effect: EffectLive, Machines: []string{"host.render01"}, Detail: "a pool address while 52:54:00:00:00:09 has the lease of 10.0.0.200"},
				{Effect: EffectKeeps, Machines: []string{mac9}, Detail: "10.0.0.200 until its lease ends"},
			}},
		{"host, another machine",
			func(s *site) { s.hosts[0].mac = "52:54:00:00:00:0a" }, []Observation{up("host.render01", mac1, artifact2)}, "host.render01",
			[]Impact{
				{Effect: EffectNextBoot, Machines: []string{"host.render01"}, Detail: "is 52:54:00:00:00:0a now"},
				{Effect: EffectKeeps, Machines: []string{"host.render01"}, Artifact: artifact2, Detail: "until it reboots"},
			}},
		{"host, removed while it runs something older",
			func(s *site) { s.hosts = s.hosts[1:] }, []Observation{up("host.render01", mac1, artifact2)}, "host.render01",
			[]Impact{
				{Effect: EffectNextBoot, Machines: []string{"host.render01"}, Detail: "boots as a machine without a host block"},
				{Effect: EffectKeeps, Machines: []string{"host.render01"}, Artifact: artifact2, Detail: "until it reboots"},
			}},
		{"host, renamed",
			func(s *site) { s.hosts[0].name = "farm01" }, nil, "host.render01",
			[]Impact{{Effect: EffectNextBoot, Machines: []string{"host.render01"}, Detail: "boots as host.farm01"}}},
		{"host, created for a machine that runs already",
			func(s *site) { s.hosts = append(s.hosts, hostSpec{"new", mac9, "10.0.0.30", nil}) }, []Observation{up("", mac9, artifact2)}, "host.new",
			[]Impact{
				{Effect: EffectNextBoot, Machines: []string{"host.new"}},
				{Effect: EffectKeeps, Machines: []string{mac9}, Artifact: artifact2, Detail: "until it reboots"},
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := compute(t, tc.obs, tc.edit)
			if d := cmp.Diff(tc.want, change(t, p, tc.on).Impact); d != "" {
				t.Errorf("impact of %s (-want +got):\n%s", tc.on, d)
			}
		})
	}
}

func TestImpactOfRemoval(t *testing.T) {
	p := Compute(Input{
		Want:         &schema.Desired{},
		Applied:      &Applied{Generation: 3, Desired: newSite(), Artifacts: map[string]string{recipe1: artifact1}},
		Observations: []Observation{up("host.render01", "52:54:00:00:00:01", artifact1), lease("52:54:00:00:00:09", "10.0.0.200")},
	})
	keeps := Impact{Effect: EffectKeeps, Machines: []string{"host.render01"}, Artifact: artifact1, Detail: "until it reboots"}
	for on, want := range map[string][]Impact{
		"image.arch":      {keeps},
		"export.nbd.arch": {keeps},
		"subnet.lan":      {{Effect: EffectKeeps, Machines: []string{"52:54:00:00:00:09"}, Detail: "10.0.0.200 until its lease ends"}, keeps},
		"host.render01": {
			{Effect: EffectNextBoot, Machines: []string{"host.render01"}, Detail: "boots nothing from here"}, keeps,
		},
	} {
		if d := cmp.Diff(want, change(t, p, on).Impact); d != "" {
			t.Errorf("impact of %s (-want +got):\n%s", on, d)
		}
	}
	if p.Summary.Delete != 8 {
		t.Errorf("summary %+v", p.Summary)
	}
}
