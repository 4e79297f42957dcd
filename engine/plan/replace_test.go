package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/schema"
)

func overlay(name, mac, artifact string) Observation {
	return Observation{Kind: SawOverlay, Host: addr(name), MAC: mac, Export: "arch@" + short(artifact) + "/x+y", Artifact: artifact, Bytes: 4096}
}

// What was written to an export goes with the artifact that it stands on.
func TestReplacement(t *testing.T) {
	rw := func(s *site) { s.mode = schema.ReadWrite }
	host := func(s *site) { s.mode, s.keep = schema.CopyOnWrite, schema.KeepHost }
	boot := func(s *site) { s.mode, s.keep = schema.CopyOnWrite, schema.KeepBoot }
	seen := []Observation{up("host.render02", "52:54:00:00:00:02", artifact1), overlay("host.render01", "52:54:00:00:00:01", artifact1),
		overlay("host.render02", "52:54:00:00:00:02", artifact1)}
	both := []string{"host.render01", "host.render02"}
	overlays := []Impact{{Effect: EffectDiscards, Machines: both, Detail: overlayAtBoot}}
	next := Impact{Effect: EffectNextBoot, Machines: both}
	for name, tc := range map[string]struct {
		have, want func(*site)
		rebuilt    bool
		obs        []Observation
		action     Action
		forced     []string
		impact     []Impact
	}{
		"a working copy, rebuilt":  {rw, rw, true, seen, Replace, []string{"wire_name"}, []Impact{{Effect: EffectDiscards, Machines: both, Detail: "all that was written to it: its working copy is made anew"}}},
		"overlays, rebuilt":        {host, host, true, seen, Replace, []string{"wire_name"}, overlays},
		"no overlays yet, rebuilt": {host, host, true, nil, Replace, []string{"wire_name"}, []Impact{}},
		"overlays of one boot":     {boot, boot, true, seen, Update, nil, []Impact{}},
		"kept no longer":           {host, boot, false, seen, Update, nil, []Impact{next, overlays[0]}},
		"kept from now on":         {boot, host, false, seen, Update, nil, []Impact{next}},
		"another way, and rebuilt": {rw, host, true, seen, Update, nil, []Impact{next, {Effect: EffectDiscards, Machines: both, Detail: "all that was written to it"}}},
		"written no longer":        {rw, boot, false, seen, Update, nil, []Impact{next, {Effect: EffectDiscards, Machines: both, Detail: "all that was written to it"}}},
	} {
		t.Run(name, func(t *testing.T) {
			in := Input{Want: newSite(tc.want), Observations: tc.obs, Built: map[string]string{recipe1: artifact1},
				Applied: &Applied{Generation: 3, Desired: newSite(tc.have), Artifacts: map[string]string{recipe1: artifact1}}}
			if tc.rebuilt {
				in.Want = newSite(tc.want, func(s *site) { s.recipe = recipe2 })
			}
			p := Compute(in)
			ch := change(t, p, "export.nbd.arch")
			if ch.Action != tc.action || !slices.Equal(ch.ForcedBy, tc.forced) {
				t.Errorf("action %s, forced by %q", ch.Action, ch.ForcedBy)
			}
			if d := cmp.Diff(tc.impact, ch.Impact); d != "" {
				t.Errorf("impact (-want +got):\n%s", d)
			}
			if forced := strings.Contains(rendered(t, p), "(known after build) # forces replacement   follows image.arch"); forced != (tc.action == Replace) {
				t.Errorf("text:\n%s", rendered(t, p))
			}
		})
	}
}

func TestReplacementOfDeleted(t *testing.T) {
	have := newSite(func(s *site) { s.mode = schema.ReadWrite })
	want := newSite()
	want.Exports = nil
	want.Resources = slices.DeleteFunc(want.Resources, func(r schema.Resource) bool { return r.Addr.Kind == kindExport })
	p := Compute(Input{Want: want, Applied: &Applied{Generation: 3, Desired: have, Artifacts: map[string]string{recipe1: artifact1}}})
	ch := change(t, p, "export.nbd.arch")
	if len(ch.Impact) != 1 || ch.Impact[0].Effect != EffectDiscards || len(ch.Impact[0].Machines) != 2 {
		t.Errorf("impact %+v", ch.Impact)
	}
}

// A working copy that nobody is known to use is lost all the same.
func TestDiscardsWithoutMachines(t *testing.T) {
	nobody := func(s *site) { s.mode, s.hosts = schema.ReadWrite, nil }
	p := Compute(Input{Want: newSite(nobody, func(s *site) { s.recipe = recipe2 }),
		Applied: &Applied{Generation: 3, Desired: newSite(nobody), Artifacts: map[string]string{recipe1: artifact1}}})
	if got := rendered(t, p); !strings.Contains(got, "\n    discards data, all that was written to it: its working copy is made anew\n") {
		t.Errorf("text:\n%s", got)
	}
	if b, err := p.JSON(); err != nil || !strings.Contains(string(b), `"machines": []`) {
		t.Errorf("JSON %s, %v", b, err)
	}
}

func TestTargets(t *testing.T) {
	in := Input{
		Want: newSite(func(s *site) {
			s.recipe, s.dns, s.nbdPort, s.hosts[0].args = recipe2, "10.0.0.2", 10810, []string{"debug"}
		}),
		Applied: &Applied{Generation: 3, Desired: newSite(), Artifacts: map[string]string{recipe1: artifact1}},
	}
	refs := map[string][]string{"entry.arch": {"image.arch", "export.nbd.arch"}, "export.nbd.arch": {"image.arch"}, "bootloader.ipxe.menu": {"entry.arch"}}
	for n := range in.Want.Resources {
		for _, r := range refs[in.Want.Resources[n].Addr.String()] {
			in.Want.Resources[n].References = append(in.Want.Resources[n].References, addr(r))
		}
	}
	for target, want := range map[string][]string{
		"host.render01":   {"host.render01"},
		"host.render02":   {},
		"export.nbd.arch": {"export.nbd.arch", "image.arch", "server.main"}, // nobody refers to the server: it is followed
		"entry.arch":      {"entry.arch", "export.nbd.arch", "image.arch", "server.main"},
		"subnet.lan":      {"subnet.lan"},
	} {
		in.Targets = []schema.Addr{addr(target)}
		got := []string{}
		p := Compute(in)
		for _, c := range p.Changes {
			got = append(got, c.Address.String())
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", target, d)
		}
		if text := rendered(t, p); !strings.Contains(text, "Only "+target+" and what that needs. It is for looking: apply does the whole plan.\n") {
			t.Errorf("%s:\n%s", target, text)
		}
	}
}

func TestTargetsMean(t *testing.T) {
	for _, tc := range []struct {
		a, target string
		want      bool
	}{
		{"host.a", "host.a", true}, {"host.a", "host.b", false}, {`host.a["1"]`, "host.a", true}, {`host.a["1"]`, `host.a["2"]`, false},
		{"host.a", `host.a["1"]`, false}, {"module.x.host.a", "host.a", false}, {"module.x.host.a", "module.x", true},
		{`module.x["k"].host.a`, "module.x", true}, {`module.x["k"].host.a`, `module.x["k"]`, true}, {`module.x["k"].host.a`, `module.x["j"]`, false},
		{"module.xy.host.a", "module.x", false}, {"module.x.module.y.host.a", "module.x", true}, {"module.x.module.y.host.a", "module.x.module.y", true},
		{"module.x.module.y.host.a", "module.y", false}, {"export.nbd.a", "export.nfs.a", false},
	} {
		if got := meant(addr(tc.a), addr(tc.target)); got != tc.want {
			t.Errorf("%s means %s: %v", tc.target, tc.a, got)
		}
	}
}
