package schema

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

// stepsOf gives what loading a tree takes.
func stepsOf(t *testing.T, tree fstest.MapFS) (steps int64, words int) {
	t.Helper()
	l := newLoader(tree, Options{})
	l.run()
	if l.diags.HasErrors() {
		t.Fatal(l.diags)
	}
	return l.meter.steps, l.words
}

// What takes long must not be cheap. Each of these takes at least a tenth of a
// millisecond for every thousand steps that it must cost here; when they were cheaper,
// a tree that used up all steps kept the daemon busy for up to half a minute.
func TestCosts(t *testing.T) {
	const (
		object = `{ for i in range(3000) : "k${i}" => i }`
		list   = `[for i in range(3000) : "k${i}"]`
	)
	for _, tc := range []struct {
		of, expr string
		data     string
		least    int64
	}{
		{object, "jsonencode(local.v)", "", 140_000},
		{object, `format("%v", local.v)`, "", 100_000},
		{object, "merge(local.v, local.v)", "", 80_000},
		{object, "keys(local.v)", "", 35_000},
		{object, "lookup(local.v, \"k1\", 0)", "", 35_000},
		{object, "true ? local.v : {}", "", 2_000_000},
		{list, "join(\",\", local.v)", "", 55_000},
		{list, "flatten([local.v])", "", 80_000},
		{list, "sort(local.v)", "", 90_000},
		{list, "toset(local.v)", "", 300_000},
		{"toset(" + list + ")", "[for x in local.v : x if false]", "", 150_000},
		{list, "contains(local.v, \"x\")", "", 35_000},
		{"0", "[for i in range(1000) : i + i / 3]", "", 30_000},
		{"0", "[for i in range(1000) : csvdecode(\"a\\n1\")]", "", 100_000},
		{"0", `regex("(x{1000})(x{900})|y", "y")`, "", 10_000},
		{"0", "distinct([for i in range(1000) : i])", "", 2_000_000},
		{"0", `jsondecode(file("data"))`, "[" + strings.Repeat("1,", 10_000) + "1]", 350_000},
		{"0", `length(yamldecode(file("data")))`, strings.Repeat("- a\n", 10_000), 150_000},
		{"0", `csvdecode(file("data"))`, strings.Repeat("a\n", 10_000), 100_000},
		{"0", `length(file("data"))`, strings.Repeat("e\u0301", 10_000), 10_000},
		{"0", `trim(file("data"), "` + strings.Repeat("é", 400) + `b")`, strings.Repeat("b", 10_000), 60_000},
	} {
		t.Run(tc.expr, func(t *testing.T) {
			tree := func(expr string) fstest.MapFS {
				return files("a.hcl", "locals {\n  v = "+tc.of+"\n  w = "+expr+"\n}\n", "data", tc.data)
			}
			without, _ := stepsOf(t, tree("0"))
			with, _ := stepsOf(t, tree(tc.expr))
			if got := with - without; got < tc.least {
				t.Errorf("%d steps, want at least %d", got, tc.least)
			}
		})
	}
}

// A fleet of 10,000 takes no more than a fifth of what there is, however it is written.
func TestFleetHasRoom(t *testing.T) {
	const n = 10_000
	mac := func(i int) string { return fmt.Sprintf("52:54:00:01:%02x:%02x", i>>8, i&255) }
	address := func(i int) string { return fmt.Sprintf("10.0.%d.%d", 1+i>>8, i&255) }
	base := strings.ReplaceAll(site, "/24", "/16")
	var table strings.Builder
	table.WriteString("name,mac,address,seat\n")
	blocks := fstest.MapFS{"site.hcl": {Data: []byte(base)}}
	for i := range n {
		fmt.Fprintf(&table, "ws%05d,%s,%s,%d\n", i, mac(i), address(i), i)
		name := fmt.Sprintf("room%02d.hcl", i/500)
		if blocks[name] == nil {
			blocks[name] = &fstest.MapFile{}
		}
		blocks[name].Data = fmt.Appendf(blocks[name].Data, "host \"ws%05d\" {\n  mac     = %q\n  address = %q\n  args    = [\"ws.seat=%d\"]\n}\n\n", i, mac(i), address(i), i)
	}
	for name, tree := range map[string]fstest.MapFS{
		"blocks": blocks,
		"csv": files("site.hcl", base+`
host "ws" {
  for_each = { for h in csvdecode(file("hosts.csv")) : h.name => h }
  mac      = each.value.mac
  address  = each.value.address
  args     = ["ws.seat=${each.value.seat}"]
}
`, "hosts.csv", table.String()),
	} {
		steps, words := stepsOf(t, tree)
		t.Logf("%s: %d of %d steps, %d of %d words", name, steps, int64(maxSteps), words, maxWords)
		if 5*steps > maxSteps || 5*words > maxWords {
			t.Errorf("%s: %d steps and %d words: too near to the limits", name, steps, words)
		}
	}
}

// However many times text is in the list, distinct does not compare each with each.
func TestDistinct(t *testing.T) {
	tree := files("a.hcl", `locals {
  many = [for i in range(20000) : "k${i % 7}"]
}
check "once" {
  assert {
    condition     = jsonencode(distinct(local.many)) == jsonencode([for i in range(7) : "k${i}"])
    error_message = "Not once, or not in order."
  }
  assert {
    condition     = jsonencode(distinct(["b", null, "a", null, "b"])) == jsonencode(["b", null, "a"])
    error_message = "What is null is there once."
  }
}
`)
	stepsOf(t, tree)
}
