package schema

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// varied is a site whose hosts depend on everything that hosts can depend on.
func varied() map[string]string {
	return map[string]string{
		"site.hcl": site,
		"hosts.hcl": `
variable "domain" {
  default = "lab"
}
locals {
  rows = csvdecode(file("hosts.csv"))
  seat = 1
}
group "pupils" {
  for_each = toset(["a", "b"])
  args     = ["room=${each.key}"]
}
host "ws" {
  for_each = { for r in local.rows : r.name => r }
  mac      = each.value.mac
  group    = group.pupils[each.value.room]
  args     = ["seat=${local.seat}", "domain=${var.domain}", "server=${server.main.address}"]
  file "/etc/motd" {
    content = templatefile("motd.tmpl", { name = each.key })
  }
  file "/etc/room" {
    source = "rooms/${each.value.room}"
  }
}
host "alone" {
  mac     = "52:54:00:99:00:01"
  address = "10.0.0.77"
  entry   = entry.a
}
`,
		"rooms.hcl": `
host "desk" {
  mac     = "52:54:00:99:00:02"
  address = "10.0.0.78"
  entry   = entry.a
  group   = group.pupils["b"]
  args    = ["domain=${var.domain}"]
}
host "board" {
  mac = "52:54:00:99:00:03"
  file "/etc/room" {
    content = file("rooms/a")
  }
}
`,
		"hosts.csv": "name,mac,room\nws01,52:54:00:00:00:01,a\nws02,52:54:00:00:00:02,a\nws03,52:54:00:00:00:03,b\n",
		"motd.tmpl": "this is ${name}\n",
		"rooms/a":   "room a\n",
		"rooms/b":   "room b\n",
	}
}

// loaded is everything that Load says.
func loaded(t *testing.T, tree fs.FS, opts Options) (string, *Desired) {
	t.Helper()
	d, diags := Load(tree, opts)
	var b bytes.Buffer
	if err := FormatDiagnostics(&b, nil, diags, false); err != nil {
		t.Fatal(err)
	}
	return asJSON(t, d) + b.String(), d
}

// What a Cache changes about Load is how long it takes: each edit gives what it gives
// without one, its mistakes too, and takes over the hosts that it does not concern.
func TestCache(t *testing.T) {
	edit := func(file, old, new string) func(map[string]string) {
		return func(all map[string]string) {
			if !strings.Contains(all[file], old) {
				t.Fatalf("%s has no %q", file, old)
			}
			all[file] = strings.Replace(all[file], old, new, 1)
		}
	}
	for _, tc := range []struct {
		name string
		edit func(map[string]string)
		vars map[string]string
		kept int // of six hosts; -1 where Load fails
	}{
		{name: "nothing", edit: func(map[string]string) {}, kept: 6},
		{name: "a row", edit: edit("hosts.csv", "02,a", "02,b"), kept: 5},
		{name: "a row less", edit: edit("hosts.csv", "ws02,52:54:00:00:00:02,a\n", ""), kept: 5},
		{name: "a row more", edit: edit("hosts.csv", "ws02", "ws09,52:54:00:00:00:09,b\nws02"), kept: 6},
		{name: "a column more", edit: func(all map[string]string) {
			all["hosts.csv"] = "name,mac,room,seat\nws01,52:54:00:00:00:01,a,1\nws02,52:54:00:00:00:02,a,2\nws03,52:54:00:00:00:03,b,3\n"
		}, kept: 3},
		{name: "a file that one reads", edit: edit("rooms/b", "room", "ROOM"), kept: 5},
		{name: "a file that two use", edit: edit("rooms/a", "room", "ROOM"), kept: 3},
		{name: "a host in a file of hosts", edit: edit("rooms.hcl", "03\"", "04\""), kept: 4},
		{name: "a line more", edit: edit("rooms.hcl", "host", "\nhost"), kept: 4},
		{name: "a key of a group", edit: edit("hosts.hcl", `["a", "b"]`, `["a", "b", "c"]`), kept: 1},
		{name: "a group that is gone", edit: edit("hosts.hcl", `["a", "b"]`, `["a"]`), kept: -1},
		{name: "a host in two files", edit: edit("hosts.hcl", `host "alone"`, `host "board"`), kept: -1},
		{name: "a mistake in a file of hosts", edit: edit("rooms.hcl", "mac", "mak"), kept: -1},
		{name: "a file of hosts is gone", edit: func(all map[string]string) { delete(all, "rooms.hcl") }, kept: 4},
		{name: "a file of hosts that is none any more", edit: edit("rooms.hcl", "host", "locals {}\nhost"), kept: 4},
		{name: "a variable is gone", edit: edit("hosts.hcl", `variable "domain"`, `variable "realm"`), kept: -1},
		{name: "a template that three render", edit: edit("motd.tmpl", "this", "THIS"), kept: 3},
		{name: "a local", edit: edit("hosts.hcl", "seat = 1", "seat = 2"), kept: 2}, // those in another file
		{name: "a variable", edit: func(map[string]string) {}, vars: map[string]string{"domain": "school"}, kept: 2},
		{name: "the server's address", edit: edit("site.hcl", "10.0.0.1\"", "10.0.0.2\""), kept: 3},
		{name: "something else", edit: edit("site.hcl", "10.200.0.0-", "10.200.0.5-"), kept: 6},
		{name: "the subnet of an address", edit: edit("site.hcl", `subnet "lan"`, `subnet "other"`), kept: -1},
		{name: "the name of its subnet", edit: func(all map[string]string) {
			all["site.hcl"] = strings.ReplaceAll(strings.ReplaceAll(all["site.hcl"], `subnet "lan"`, `subnet "net"`), "subnet.lan", "subnet.net")
		}, kept: 4},
		{name: "the entry is gone", edit: func(all map[string]string) {
			all["site.hcl"] = strings.ReplaceAll(strings.ReplaceAll(all["site.hcl"], `entry "a"`, `entry "b"`), "entry.a", "entry.b")
		}, kept: -1},
		{name: "a mistake in a row", edit: edit("hosts.csv", "52:54:00:00:00:02", "52:54"), kept: -1},
		{name: "an address twice", edit: edit("hosts.hcl", "10.0.0.77", "10.0.0.1"), kept: -1},
		{name: "a hardware address twice", edit: edit("hosts.csv", "52:54:00:00:00:02", "52:54:00:99:00:01"), kept: -1},
		{name: "a file is gone", edit: func(all map[string]string) { delete(all, "rooms/b") }, kept: -1},
		{name: "a template that is wrong", edit: edit("motd.tmpl", "${name}", "${nme}"), kept: -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tree := func(all map[string]string) fstest.MapFS {
				out := fstest.MapFS{}
				for name, text := range all {
					out[name] = &fstest.MapFile{Data: []byte(text)}
				}
				return out
			}
			cache := &Cache{}
			before := mustLoad(t, tree(varied()), Options{Cache: cache})
			frozen := asJSON(t, before)
			all := varied()
			tc.edit(all)
			want, _ := loaded(t, tree(all), Options{Vars: tc.vars})
			got, d := loaded(t, tree(all), Options{Vars: tc.vars, Cache: cache})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("with a cache (-without +with)\n%s", diff)
			}
			if diff := cmp.Diff(frozen, asJSON(t, before)); diff != "" {
				t.Errorf("what the Load before gave has changed:\n%s", diff)
			}
			if kept := takenOver(before, d); kept != tc.kept {
				t.Errorf("%d hosts are taken over, want %d", kept, tc.kept)
			}
			// And back again.
			want, _ = loaded(t, tree(varied()), Options{})
			if got, _ := loaded(t, tree(varied()), Options{Cache: cache}); got != want {
				t.Error(cmp.Diff(want, got))
			}
		})
	}
}

// A Cache reaches the limits where a Load without one does.
func TestCacheCostsAsMuch(t *testing.T) {
	all := varied()
	var pairs []string
	for name, text := range all {
		pairs = append(pairs, name, text)
	}
	cache := &Cache{}
	var steps, texts []int64
	for range 3 {
		l := newLoader(files(pairs...), Options{Cache: cache})
		if d := l.run(); d == nil {
			t.Fatal(l.diags)
		}
		steps, texts = append(steps, l.meter.steps), append(texts, l.meter.text)
	}
	if steps[0] != steps[1] || steps[1] != steps[2] || texts[0] != texts[1] || texts[1] != texts[2] {
		t.Errorf("steps %d, text %d", steps, texts)
	}
}

// Where a limit is reached, it is told with the same place and words: whichever host it
// is, and whether that is known or not.
func TestCacheAtTheLimit(t *testing.T) {
	all := varied()
	var pairs []string
	for name, text := range all {
		pairs = append(pairs, name, text)
	}
	run := func(cache *Cache, limit int64, text int64) (string, int64, int64) {
		l := newLoader(files(pairs...), Options{Cache: cache})
		l.meter.limit, l.meter.text = limit, text
		l.run()
		return asJSON(t, ToDiagnostics(l.finish())), l.meter.steps, l.meter.text
	}
	cache := &Cache{}
	_, steps, text := run(cache, maxSteps, 0)
	told := map[string]bool{}
	same := func(limit, spent int64) {
		t.Helper()
		want, _, _ := run(nil, limit, spent)
		if got, _, _ := run(cache, limit, spent); got != want {
			t.Errorf("with a limit of %d steps and %d bytes of text spent:\n%s", limit, spent, cmp.Diff(want, got))
		}
		told[want] = true
	}
	const stride = 5 // each of them takes seconds
	for limit := int64(0); limit <= steps; limit += stride {
		same(limit, 0)
	}
	for left := int64(0); left <= text; left += stride {
		same(maxSteps, maxText-left)
	}
	if len(told) < 10 {
		t.Errorf("the limit was reached in %d places only", len(told))
	}
	for is := range told {
		if strings.Contains(is, "Internal error") {
			t.Error(is)
		}
	}
}

// The whole corpus, loaded through one Cache, one tree after the other.
func TestCacheOverTheCorpus(t *testing.T) {
	cache := &Cache{}
	for range 2 {
		for _, dir := range []string{"../testdata/valid", "../testdata/invalid"} {
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if strings.HasSuffix(e.Name(), ".diag") || strings.HasPrefix(e.Name(), "limits_") {
					continue
				}
				tree, opts := open(t, filepath.Join(dir, e.Name()))
				want, _ := loaded(t, tree, opts)
				opts.Cache = cache
				if got, _ := loaded(t, tree, opts); got != want {
					t.Errorf("%s: %s", e.Name(), cmp.Diff(want, got))
				}
			}
		}
	}
}

func BenchmarkLoadOneHostEdited(b *testing.B) {
	text := machines(b, 10_000)
	cache := &Cache{}
	trees := [2]fstest.MapFS{
		files("site.hcl", site+fleet, "hosts.csv", text),
		files("site.hcl", site+fleet, "hosts.csv", strings.Replace(text, "52:54:00", "52:55:00", 1)),
	}
	mustLoad(b, trees[0], Options{Cache: cache})
	n := 0
	for b.Loop() {
		n++
		mustLoad(b, trees[n%2], Options{Cache: cache})
	}
}

// blocks is n hosts, a hundred in a file.
func blocks(n int) []string {
	var out []string
	for first := 0; first < n; first += 100 {
		var b strings.Builder
		for i := first; i < min(n, first+100); i++ {
			fmt.Fprintf(&b, "host \"n%05d\" {\n  mac     = \"52:54:00:%02x:%02x:%02x\"\n  address = \"10.1.%d.%d\"\n  entry   = entry.a\n  args    = [\"node=%d\"]\n}\n", i, i>>16, i>>8&255, i&255, i/250, i%250+1, i)
		}
		out = append(out, fmt.Sprintf("hosts%03d.hcl", first/100), b.String())
	}
	return out
}

func BenchmarkLoadOneBlockEdited(b *testing.B) {
	cache := &Cache{}
	all := append([]string{"site.hcl", site}, blocks(10_000)...)
	trees := [2]fstest.MapFS{files(all...), files(all...)}
	trees[1]["hosts003.hcl"] = &fstest.MapFile{Data: []byte(strings.Replace(all[9], "node=", "seat=", 1))}
	mustLoad(b, trees[0], Options{Cache: cache})
	n := 0
	for b.Loop() {
		n++
		mustLoad(b, trees[n%2], Options{Cache: cache})
	}
}

// takenOver counts the hosts of a Load that are those of the one before, not read again;
// -1 where it failed.
func takenOver(before, d *Desired) int {
	if d == nil {
		return -1
	}
	n := 0
	for _, h := range d.Hosts {
		if slices.Contains(before.Hosts, h) {
			n++
		}
	}
	return n
}
