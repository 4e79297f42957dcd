package plan

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What stays and goes is the one list, what stays and comes the other, and no more is
// told than there has to be.
func TestEdits(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 7))
	list := func() []string {
		out := make([]string, rnd.IntN(12))
		for i := range out {
			out[i] = string(rune('a' + rnd.IntN(4)))
		}
		return out
	}
	for range 2000 {
		a, b := list(), list()
		was, is, same := []string{}, []string{}, 0
		for _, e := range edits(a, b) {
			if e.mark != '+' {
				was = append(was, e.text)
			}
			if e.mark != '-' {
				is = append(is, e.text)
			}
			if e.mark == ' ' {
				same++
			}
		}
		if !cmp.Equal(a, was) || !cmp.Equal(b, is) || same != common(a, b) {
			t.Fatalf("%q and %q: %q and %q, %d the same, want %d", a, b, was, is, same, common(a, b))
		}
	}
}

// common is the length of the longest common subsequence, found without any wit.
func common(a, b []string) int {
	if len(a) == 0 || len(b) == 0 {
		return 0
	}
	if a[0] == b[0] {
		return 1 + common(a[1:], b[1:])
	}
	return max(common(a[1:], b), common(a, b[1:]))
}

// Two large texts that have nothing in common take no quadratic work.
func TestEditsAreBounded(t *testing.T) {
	var a, b []string
	for n := range 100_000 {
		a, b = append(a, fmt.Sprint("a", n)), append(b, fmt.Sprint("b", n))
	}
	if n := len(edits(a, b)); n != 200_000 {
		t.Errorf("%d edits", n)
	}
}

func TestNestedText(t *testing.T) {
	values := func(v any) json.RawMessage {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var many []int
	for n := range 100 {
		many = append(many, n)
	}
	ch := Change{Address: addr("image.x"), Action: Replace, ForcedBy: []string{"list", "plain"},
		Before: map[string]json.RawMessage{
			"list": values([]string{"a", "b", "c", "d"}), "map": values(map[string]any{"a": 1, "b": "x", "c": true}), "plain": values("one"),
			"text": values("1\n2\n3\n4\n5\n"), "ended": values("1\n2"), "secret": values(Masked), "short": values("one\n"), "many": values([]int{}),
			"pool[0].range": values("r1"), "pool[1].range": values("r2"), "kind": values([]int{1}), "gone": values([]int{1}),
		},
		After: map[string]json.RawMessage{
			"list": values([]string{"a", "b", "x", "d"}), "map": values(map[string]any{"a": 1, "b": "y", "d": nil}), "plain": values("two"),
			"text": values("1\n2\n3\n4\nfive\n"), "ended": values("1\n2\n"), "secret": values(Masked), "short": values("two\n"), "many": values(many),
			"pool[0].range": values("r0"), "pool[1].range": values("r1"), "pool[2].range": values("r2"), "pool[10].range": values("r10"), "kind": values("1"), "new": values([]int{1}),
		},
	}
	const want = `-/+ image.x
  ~ ended
        1
      - 2 # no line end
      + 2
  - gone           [1]
  ~ kind           [1] -> "1"
  ~ list # forces replacement
      # 2 unchanged
      - "c"
      + "x"
        "d"
  ~ many
      + 0
`
	p := &Plan{Changes: []Change{ch}}
	got := rendered(t, p)
	if !strings.HasPrefix(got, want) {
		t.Errorf("text (-want +got):\n%s", cmp.Diff(want, got))
	}
	const rest = `      + 39
      # and 60 more that differ
  ~ map
        "a" = 1
      ~ "b" = "x" -> "y"
      - "c" = true
      + "d" = null
  + new            [1]
  ~ plain          "one" -> "two" # forces replacement
  ~ pool[*].range
      + "r0"
      # 2 unchanged
      + "r10"
  ~ secret         (sensitive value)
  ~ short          "one\n" -> "two\n"
  ~ text
      # 4 unchanged
      - 5
      + five

`
	if !strings.Contains(got, rest) {
		t.Errorf("text (-want +got):\n%s", cmp.Diff(rest, got))
	}
}
