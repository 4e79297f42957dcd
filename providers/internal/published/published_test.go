package published

import "testing"

func TestTables(t *testing.T) {
	var p Pointer[string]
	if p.Load() != p.Load() {
		t.Error("nothing was stored in between, and two loads differ")
	}
	if _, ok := p.Load().Of(0); ok {
		t.Error("the empty state has a current table")
	}
	one := p.Load().With(1, "one", false)
	old := one.With(7, "seven", true)
	two := old.With(2, "two", false)
	for _, c := range []struct {
		state *Tables[string]
		gen   uint64
		want  string
	}{{one, 0, "one"}, {old, 0, "one"}, {old, 7, "seven"}, {two, 0, "two"}, {two, 1, "one"}} {
		if got, ok := c.state.Of(c.gen); !ok || got != c.want {
			t.Errorf("generation %d of %+v is %q, %v; want %q", c.gen, c.state, got, ok, c.want)
		}
	}
	if len(one.ByGen) != 1 {
		t.Errorf("a later state changed an earlier one: %+v", one)
	}
	next, dropped := two.Keep(func(gen uint64, _ string) bool { return gen == 7 })
	if len(dropped) != 1 || dropped[0] != "one" || len(next.ByGen) != 2 {
		t.Errorf("kept %+v, dropped %v; want 7 and the current one kept, one dropped", next, dropped)
	}
	p.Store(next)
	if p.Load() != next {
		t.Error("the published state is not the one that was stored")
	}
}
