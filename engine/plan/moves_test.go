package plan

import (
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/schema"
)

// movedSite is the site with other addresses: pairs of old and new.
func movedSite(d *schema.Desired, pairs ...string) *schema.Desired {
	r := renaming{}
	for n := 0; n < len(pairs); n += 2 {
		r[addr(pairs[n])] = addr(pairs[n+1])
	}
	out := r.desired(d)
	for from, to := range r {
		out.Moved = append(out.Moved, schema.Move{From: from, To: to})
	}
	slices.SortFunc(out.Moved, func(a, b schema.Move) int { return a.To.Compare(b.To) })
	return out
}

func planned(want *schema.Desired, obs ...Observation) *Plan {
	return Compute(Input{Want: want, Observations: obs, Built: map[string]string{recipe1: artifact1},
		Applied: &Applied{Generation: 3, Desired: newSite(), Artifacts: map[string]string{recipe1: artifact1}}})
}

func TestMoveIsNoDestroy(t *testing.T) {
	p := planned(movedSite(newSite(), "host.render01", `module.rack["a"].host.r1`), up("host.render01", "52:54:00:00:00:01", artifact1))
	const want = `# module.rack["a"].host.r1   moved from host.render01     site.hcl:70,1
    module.rack["a"].host.r1 keeps its lease and its overlays, which go by its hardware address

Plan: 0 to create, 0 to update, 0 to replace, 0 to delete, 1 moved.
`
	if d := cmp.Diff(want, rendered(t, p)); d != "" {
		t.Errorf("text (-want +got):\n%s", d)
	}
	if ch := p.Changes[0]; ch.Action != NoOp || ch.Reason != Moved || ch.From != addr("host.render01") || len(p.Denied) != 0 {
		t.Errorf("change %+v, denied %+v", ch, p.Denied)
	}
	// It was moved: the block may stay.
	in := Input{Want: movedSite(newSite(), "host.render01", "host.r1")}
	in.Applied = &Applied{Generation: 4, Desired: in.Want, Artifacts: map[string]string{recipe1: artifact1}}
	if p := Compute(in); len(p.Changes) != 0 {
		t.Errorf("a move that was made is made again: %q", heads(p))
	}
}

// What refers to something by its new address is as it was, and its machines with it.
func TestMoveOfEverything(t *testing.T) {
	all := []string{"server.main", "server.m", "image.arch", "image.a", "entry.arch", "entry.a", "bootloader.ipxe.menu", "bootloader.ipxe.m",
		"subnet.lan", "subnet.l", "host.render02", "host.r2", "export.nbd.arch", "export.nbd.a"}
	p := planned(movedSite(newSite(), all...), up("host.render01", "52:54:00:00:00:01", artifact1),
		Observation{Kind: SawLease, MAC: "52:54:00:00:00:01", Address: "10.0.0.21", Subnet: addr("subnet.lan")})
	want := []string{
		"bootloader.ipxe.m update moved", // the folder of its entry has another name
		"entry.a update moved",           // its root has
		"export.nbd.a update moved",      // so has it itself
		"host.r2 no-op moved",
		"image.a no-op moved",
		"server.m no-op moved",
		"subnet.l no-op moved",
	}
	if d := cmp.Diff(want, heads(p)); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
	ex := change(t, p, "export.nbd.a")
	if string(ex.Before["wire_name"]) != `"arch@77aabbccddee"` || string(ex.After["wire_name"]) != `"a@77aabbccddee"` {
		t.Errorf("export %+v", ex)
	}
	if d := cmp.Diff([]Impact{
		{Effect: EffectNextBoot, Machines: []string{"host.r2", "host.render01"}},
		{Effect: EffectKeeps, Machines: []string{"host.render01"}, Detail: "arch@77aabbccddee until it reboots"},
	}, ex.Impact); d != "" {
		t.Errorf("impact (-want +got):\n%s", d)
	}
	if p.Summary.Move != 7 || p.Summary.Update != 3 || p.Summary.Delete+p.Summary.Create != 0 {
		t.Errorf("summary %+v", p.Summary)
	}
}

func TestMoveAndEdit(t *testing.T) {
	want := movedSite(newSite(func(s *site) { s.hosts[0].args = []string{"debug"} }), "host.render01", "host.r1")
	ch := change(t, planned(want), "host.r1")
	if ch.Action != Update || ch.Reason != Moved || string(ch.After["args"]) != `["debug"]` || len(ch.Before) != 1 {
		t.Errorf("change %+v", ch)
	}
	if len(ch.Impact) != 2 || ch.Impact[0].Effect != EffectNextBoot || ch.Impact[1].Detail != byMAC {
		t.Errorf("impact %+v", ch.Impact)
	}
}

func TestMovesThatAreNone(t *testing.T) {
	want := movedSite(newSite(), "host.render01", "host.r1")
	for name, moved := range map[string][]schema.Move{
		"from what is not there":  {{From: addr("host.nobody"), To: addr("host.r1")}},
		"to what is not wanted":   {{From: addr("host.render01"), To: addr("host.nobody")}},
		"to what is there":        {{From: addr("host.render01"), To: addr("host.render02")}},
		"from what is wanted":     {{From: addr("host.render02"), To: addr("host.r1")}},
		"with a key on one side":  {{From: addr("host.render01"), To: addr(`host.r1["a"]`)}},
		"in a circle":             {{From: addr("host.render01"), To: addr("host.x")}, {From: addr("host.x"), To: addr("host.render01")}},
		"in two steps":            {{From: addr("host.x"), To: addr("host.r1")}, {From: addr("host.render01"), To: addr("host.x")}},
		"two to one, the other's": {{From: addr("host.zzz"), To: addr("host.r1")}},
	} {
		want.Moved = moved
		if d := cmp.Diff([]string{"host.r1 create created", "host.render01 delete removed"}, heads(planned(want))); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	if d := cmp.Diff([]string{"group.r1 create created", "host.render01 delete removed"}, heads(planned(movedSite(newSite(), "host.render01", "group.r1")))); d != "" {
		t.Errorf("to another kind (-want +got):\n%s", d)
	}
}

func TestMoveOfInstances(t *testing.T) {
	have := movedSite(newSite(), "host.render01", `host.ws["1"]`, "host.render02", `host.ws["2"]`)
	want := movedSite(newSite(), "host.render01", `module.x.host.pc["1"]`, "host.render02", `module.x.host.pc["two"]`)
	in := Input{Want: want, Applied: &Applied{Generation: 1, Desired: have}}
	want.Moved = []schema.Move{
		{From: addr("host.ws"), To: addr("module.x.host.pc")},
		{From: addr(`host.ws["2"]`), To: addr(`module.x.host.pc["two"]`)},
	}
	before := newSite()
	if d := cmp.Diff([]string{`module.x.host.pc["1"] no-op moved`, `module.x.host.pc["two"] no-op moved`}, heads(Compute(in))); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
	if !reflect.DeepEqual(before, newSite()) || !slices.ContainsFunc(have.Resources, func(r schema.Resource) bool { return r.Addr == addr(`host.ws["1"]`) }) {
		t.Error("the applied state was written to")
	}
}

// A block of another type is another thing, of which nothing is kept.
func TestMoveToAnotherType(t *testing.T) {
	p := planned(movedSite(newSite(), "export.nbd.arch", "export.nfs.arch"))
	if change(t, p, "export.nfs.arch").Action != Create || change(t, p, "export.nbd.arch").Action != Delete {
		t.Errorf("changes %q", heads(p))
	}
}
