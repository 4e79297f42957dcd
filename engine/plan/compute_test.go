package plan

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/schema"
)

func TestNoChanges(t *testing.T) {
	p := compute(t, nil)
	if len(p.Changes) != 0 || p.Summary.NoOp != 8 {
		t.Errorf("changes %q, summary %+v", heads(p), p.Summary)
	}
	if got := rendered(t, p); got != "No changes. Generation 3 is what revision abc describes.\n" {
		t.Errorf("text %q", got)
	}
	p = Compute(Input{Applied: &Applied{}})
	if got := rendered(t, p); got != "No changes. Nothing is applied, and this work tree describes nothing.\n" {
		t.Errorf("text %q", got)
	}
	b, err := p.JSON()
	if err != nil || !bytes.Contains(b, []byte(`"changes": []`)) || !bytes.Contains(b, []byte(`"revision": null`)) {
		t.Errorf("JSON %s, %v", b, err)
	}
}

func TestImageChange(t *testing.T) {
	p := compute(t, []Observation{up("host.render01", "52:54:00:00:00:01", artifact1)},
		func(s *site) { s.recipe, s.size = recipe2, "4GiB" })
	want := []string{
		"bootloader.ipxe.menu update input_changed",
		"entry.arch update input_changed",
		"export.nbd.arch update input_changed",
		"image.arch update spec_changed",
	}
	if d := cmp.Diff(want, heads(p)); d != "" {
		t.Fatalf("changes (-want +got):\n%s", d)
	}
	const wantText = `~ bootloader.ipxe.menu   follows entry.arch     site.hcl:50,1

~ entry.arch   follows export.nbd.arch, image.arch     site.hcl:40,1

~ export.nbd.arch   arch@77aabbccddee -> (known after build)   follows image.arch     site.hcl:30,1

~ image.arch   recipe 3f2a9c1d7e08… -> 91bc00112233…   artifact sha256:77aabbccddee… -> (known after build)     site.hcl:20,1
  ~ filesystem.size  "2GiB" -> "4GiB"
    2 hosts: next boot; host.render01 keeps sha256:77aabbccddee… until it reboots
      next boot: host.render01, host.render02

Plan: 0 to create, 4 to update, 0 to replace, 0 to delete.
`
	if d := cmp.Diff(wantText, rendered(t, p)); d != "" {
		t.Errorf("text (-want +got):\n%s", d)
	}
	image := change(t, p, "image.arch")
	if d := cmp.Diff([]string{"artifact"}, image.AfterUnknown); d != "" {
		t.Errorf("after_unknown (-want +got):\n%s", d)
	}
}

func TestImageKnownBeforehand(t *testing.T) {
	in := Input{
		Want:    newSite(func(s *site) { s.recipe = recipe2 }),
		Applied: &Applied{Generation: 3, Desired: newSite(), Artifacts: map[string]string{recipe1: artifact1}},
		Built:   map[string]string{recipe1: artifact1, recipe2: artifact2},
	}
	// Nobody edited the block: a file of the repo did it.
	p := Compute(in)
	ch := change(t, p, "image.arch")
	if ch.Reason != InputChanged || string(ch.After["artifact"]) != `"`+artifact2+`"` || len(ch.AfterUnknown) != 0 {
		t.Errorf("change %+v", ch)
	}
	if len(ch.Impact) != 1 || ch.Impact[0].Effect != EffectNextBoot {
		t.Errorf("impact %+v, want the next boot", ch.Impact)
	}
	// Another way to the same bytes changes nothing that is served.
	in.Built[recipe2] = artifact1
	p = Compute(in)
	if d := cmp.Diff([]string{"image.arch update input_changed"}, heads(p)); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
	if n := len(change(t, p, "image.arch").Impact); n != 0 {
		t.Errorf("%d impacts of an image that stays the same", n)
	}
}

func TestImageWithoutAnEdit(t *testing.T) {
	in := Input{
		Want:    newSite(),
		Applied: &Applied{Generation: 3, Desired: newSite(), Artifacts: map[string]string{recipe1: artifact1}},
	}
	for name, tc := range map[string]struct {
		built  map[string]string
		reason Reason
	}{
		"nothing known of the store": {nil, ""},
		"built again":                {map[string]string{recipe1: artifact2}, Requested},
		"lost from the store":        {map[string]string{recipe2: artifact2}, Drift},
	} {
		t.Run(name, func(t *testing.T) {
			in.Built = tc.built
			p := Compute(in)
			if tc.reason == "" {
				if len(p.Changes) != 0 {
					t.Errorf("changes %q", heads(p))
				}
				return
			}
			if ch := change(t, p, "image.arch"); ch.Reason != tc.reason {
				t.Errorf("reason %s, want %s", ch.Reason, tc.reason)
			}
			change(t, p, "bootloader.ipxe.menu")
		})
	}
}

func TestServerMoves(t *testing.T) {
	p := compute(t, []Observation{up("host.render01", "52:54:00:00:00:01", artifact1)}, func(s *site) { s.nbdPort = 10810 })
	want := []string{
		"bootloader.ipxe.menu update input_changed",
		"entry.arch update input_changed",
		"export.nbd.arch update input_changed",
		"server.main update spec_changed",
	}
	if d := cmp.Diff(want, heads(p)); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
	if ch := change(t, p, "export.nbd.arch"); len(ch.Before)+len(ch.After)+len(ch.AfterUnknown) != 0 {
		t.Errorf("the export shows another name: %+v", ch)
	}
	if d := cmp.Diff([]Impact{
		{Effect: EffectNextBoot, Machines: []string{"host.render01", "host.render02"}},
		{Effect: EffectKeeps, Machines: []string{"host.render01"}, Detail: "10.0.0.1:10809 for its root until it reboots"},
	}, change(t, p, "server.main").Impact); d != "" {
		t.Errorf("impact (-want +got):\n%s", d)
	}
}

func TestOneHostEditedIsOneChange(t *testing.T) {
	hosts := func(s *site) {
		s.hosts = nil
		for i := range 1000 {
			s.hosts = append(s.hosts, hostSpec{fmt.Sprintf("ws%04d", i), fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&255), "", nil})
		}
	}
	in := Input{
		Want:    newSite(hosts, func(s *site) { s.hosts[500].args = []string{"debug"} }),
		Applied: &Applied{Generation: 1, Desired: newSite(hosts), Artifacts: map[string]string{recipe1: artifact1}},
	}
	p := Compute(in)
	if d := cmp.Diff([]string{"host.ws0500 update spec_changed"}, heads(p)); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
	// And one image rebuilt lists no host, but names all of them.
	in.Want = newSite(hosts, func(s *site) { s.recipe = recipe2 })
	p = Compute(in)
	if len(p.Changes) != 4 {
		t.Errorf("changes %q", heads(p))
	}
	im := change(t, p, "image.arch").Impact
	if len(im) != 1 || len(im[0].Machines) != 1000 {
		t.Errorf("impact %+v", im)
	}
	if got := rendered(t, p); !strings.Contains(got, "1000 hosts: next boot\n") || !strings.Contains(got, "host.ws0019 and 980 more\n") {
		t.Errorf("text:\n%s", got)
	}
}

func BenchmarkTenThousandHosts(b *testing.B) {
	hosts := func(s *site) {
		s.hosts = nil
		for i := range 10_000 {
			s.hosts = append(s.hosts, hostSpec{fmt.Sprintf("ws%04d", i), fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&255), "", nil})
		}
	}
	in := Input{
		Want:    newSite(hosts, func(s *site) { s.recipe = recipe2 }),
		Applied: &Applied{Generation: 1, Desired: newSite(hosts), Artifacts: map[string]string{recipe1: artifact1}},
	}
	for i := range 10_000 {
		in.Observations = append(in.Observations, up(fmt.Sprintf("host.ws%04d", i), fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&255), artifact1))
	}
	for b.Loop() {
		if p := Compute(in); len(p.Changes) != 4 {
			b.Fatal(heads(p))
		}
	}
}

func TestSensitiveValuesAreNeverShown(t *testing.T) {
	p := Compute(Input{
		Want:    newSite(func(s *site) { s.secret = "hunter2" }),
		Applied: &Applied{Generation: 1, Desired: newSite(func(s *site) { s.secret = "swordfish" })},
	})
	b, err := p.JSON()
	if err != nil {
		t.Fatal(err)
	}
	all := string(b) + rendered(t, p)
	if strings.Contains(all, "hunter2") || strings.Contains(all, "swordfish") || !strings.Contains(all, Masked) {
		t.Errorf("the plan shows a secret:\n%s", all)
	}
}

func TestOrderDoesNotMatter(t *testing.T) {
	obs := []Observation{
		up("host.render01", "52:54:00:00:00:01", artifact1),
		up("host.render02", "52:54:00:00:00:02", artifact2),
		up("", "52:54:00:00:00:09", artifact1),
		{Kind: SawConnection, MAC: "52:54:00:00:00:01", Artifact: artifact1, Export: "arch@77aabbccddee"},
		{Kind: SawLease, MAC: "52:54:00:00:00:09", Address: "10.0.0.200", Subnet: addr("subnet.lan")},
		{Kind: SawOverlay, Host: addr("host.render01"), Bytes: 4096},
		{Kind: SawNode, MAC: "52:54:00:00:00:0a", Subnet: addr("subnet.lan"), State: "gone", Arch: new(uint16(31))},
		{Kind: SawNode, MAC: "52:54:00:00:00:0b", Subnet: addr("subnet.lan"), State: "gone", Arch: new(uint16(31))},
		{Kind: SawNode, MAC: "52:54:00:00:00:0b", Subnet: addr("subnet.lan"), State: "gone", Arch: new(uint16(6))},
	}
	edit := func(s *site) {
		s.recipe, s.mode, s.allow, s.nbdPort, s.dns = recipe2, schema.ReadOnly, []string{"subnet.lan"}, 10810, "10.0.0.2"
		s.pool = [2]string{"10.0.0.100", "10.0.0.110"}
		s.hosts = append(s.hosts[1:], hostSpec{"new", "52:54:00:00:00:09", "10.0.0.30", nil})
	}
	var first []byte
	for n := range 20 {
		rnd := rand.New(rand.NewPCG(1, uint64(n)))
		want, have := newSite(edit), newSite()
		for _, d := range []*schema.Desired{want, have} {
			rnd.Shuffle(len(d.Hosts), func(i, j int) { d.Hosts[i], d.Hosts[j] = d.Hosts[j], d.Hosts[i] })
			rnd.Shuffle(len(d.Resources), func(i, j int) { d.Resources[i], d.Resources[j] = d.Resources[j], d.Resources[i] })
			for _, r := range d.Resources {
				rnd.Shuffle(len(r.Attrs), func(i, j int) { r.Attrs[i], r.Attrs[j] = r.Attrs[j], r.Attrs[i] })
			}
		}
		rnd.Shuffle(len(obs), func(i, j int) { obs[i], obs[j] = obs[j], obs[i] })
		p := Compute(Input{Want: want, Observations: slices.Concat(obs, obs[:2]), Applied: &Applied{Generation: 3, Desired: have, Artifacts: map[string]string{recipe1: artifact1}}})
		b, err := p.JSON()
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, rendered(t, p)...)
		if first == nil {
			first = b
			t.Logf("%s", b)
		}
		if d := cmp.Diff(string(first), string(b)); d != "" {
			t.Fatalf("the order of the input shows (-first +now):\n%s", d)
		}
	}
}

func TestInputIsNotWritten(t *testing.T) {
	want := newSite(func(s *site) { s.recipe = recipe2 })
	have := newSite()
	obs := []Observation{up("host.render02", "52:54:00:00:00:02", artifact1), up("host.render01", "52:54:00:00:00:01", artifact1)}
	before := fmt.Sprintf("%+v", obs)
	Compute(Input{Want: want, Observations: obs, Applied: &Applied{Generation: 3, Desired: have}})
	if after := fmt.Sprintf("%+v", obs); after != before {
		t.Errorf("the observations were written to:\n%s\n%s", before, after)
	}
	if !reflect.DeepEqual(have, newSite()) {
		t.Error("the applied state was written to")
	}
}

// The plan that operators wait for most.
func BenchmarkOneHostEdited(b *testing.B) {
	hosts := func(s *site) {
		s.hosts = nil
		for i := range 10_000 {
			s.hosts = append(s.hosts, hostSpec{fmt.Sprintf("ws%04d", i), fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&255), "", nil})
		}
	}
	in := Input{
		Want:    newSite(hosts, func(s *site) { s.hosts[5000].args = []string{"debug"} }),
		Applied: &Applied{Generation: 1, Desired: newSite(hosts), Artifacts: map[string]string{recipe1: artifact1}},
	}
	for b.Loop() {
		if p := Compute(in); len(p.Changes) != 1 {
			b.Fatal(heads(p))
		}
	}
}
