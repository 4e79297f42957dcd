package published

import "testing"

func TestTables(t *testing.T) {
	var p Pointer[string]
	if first, second := p.Load(), p.Load(); first != second {
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
}

func TestPublish(t *testing.T) {
	var p Pointer[string]
	if next, was := p.Publish(1, "one", false); was != "" || p.Load() != next {
		t.Errorf("in the place of %q; the state that was given is published: %v", was, p.Load() == next)
	}
	if _, was := p.Publish(1, "again", false); was != "one" {
		t.Errorf("in the place of %q, want one", was)
	}
	p.Publish(2, "two", false)
	next, dropped := p.Drop(func(uint64, string) bool { return false })
	if got, ok := next.Of(0); got != "two" || !ok || len(next.ByGen) != 1 || len(dropped) != 1 || dropped[0] != "again" || p.Load() != next {
		t.Errorf("left %+v, dropped %v", next, dropped)
	}
}
