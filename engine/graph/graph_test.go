package graph

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/schema"
)

// site is a small one in which every kind of block stands.
const site = `
server "main" {
  address = "10.0.0.1"
}
image "debian" {
  debootstrap {
    suite    = "bookworm"
    keyring  = "keys/debian.gpg"
    packages = ["linux-image-amd64"]
  }
  file "/etc/motd" {
    source = "motd"
  }
  filesystem "ext4" {
    size = "1GiB"
  }
}
image "unused" {
  tar {
    path = "root.tar"
  }
  filesystem "squashfs" {}
}
export "nbd" "debian" {
  image = image.debian
  allow = [subnet.lan, host.a]
}
entry "debian" {
  image = image.debian
  root  = export.nbd.debian
}
bootloader "ipxe" "menu" {
  entries = [entry.debian]
}
subnet "lan" {
  cidr = "10.0.0.0/24"
  boot = bootloader.ipxe.menu
  pool {
    range = "10.0.0.100-10.0.0.200"
  }
}
group "g" {
  entry = entry.debian
}
host "a" {
  mac     = "52:54:00:00:00:01"
  address = "10.0.0.11"
}
host "b" {
  mac   = "52:54:00:00:00:02"
  group = group.g
}
`

func graphOf(t *testing.T, text string) *Graph {
	t.Helper()
	tree := fstest.MapFS{"site.hcl": {Data: []byte(text)}}
	for _, name := range []string{"motd", "keys/debian.gpg", "root.tar"} {
		tree[name] = &fstest.MapFile{Data: []byte("x")}
	}
	d, diags := schema.Load(tree, schema.Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return Of(d)
}

func textOf(t *testing.T, g *Graph, o Options) string {
	t.Helper()
	var b strings.Builder
	if err := g.Text(&b, o); err != nil {
		t.Fatal(err)
	}
	return "\n" + b.String()
}

func focused(t *testing.T, g *Graph, address string) *Graph {
	t.Helper()
	out, err := g.Focus(address)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestText(t *testing.T) {
	want := `
host.a
└─ subnet.lan
   ├─ bootloader.ipxe.menu
   │  └─ entry.debian
   │     ├─ export.nbd.debian
   │     │  ├─ host.a (may attach)
   │     │  ├─ subnet.lan (may attach)
   │     │  ├─ image.debian
   │     │  │  ├─ keys/debian.gpg
   │     │  │  └─ motd
   │     │  └─ server.main
   │     └─ image.debian (above)
   └─ server.main
host.b
├─ subnet.lan (above)
└─ group.g
   └─ entry.debian (above)
image.unused
└─ root.tar
`
	if d := cmp.Diff(want, textOf(t, graphOf(t, site), Options{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestFocus(t *testing.T) {
	g := graphOf(t, site)
	for address, want := range map[string]string{
		"image.debian": `
image.debian  site.hcl:5,1
  needs:
  ├─ keys/debian.gpg
  └─ motd
  is needed by:
  ├─ entry.debian
  │  ├─ group.g
  │  │  └─ host.b
  │  └─ bootloader.ipxe.menu
  │     └─ subnet.lan
  │        ├─ host.a
  │        └─ host.b
  └─ export.nbd.debian
     └─ entry.debian (above)
`,
		"motd": `
motd
  needs nothing
  is needed by:
  └─ image.debian
     ├─ entry.debian
     │  ├─ group.g
     │  │  └─ host.b
     │  └─ bootloader.ipxe.menu
     │     └─ subnet.lan
     │        ├─ host.a
     │        └─ host.b
     └─ export.nbd.debian
        └─ entry.debian (above)
`,
		"host.a": `
host.a  site.hcl:45,1
  needs:
  └─ subnet.lan
     ├─ bootloader.ipxe.menu
     │  └─ entry.debian
     │     ├─ export.nbd.debian
     │     │  ├─ host.a (may attach)
     │     │  ├─ subnet.lan (may attach)
     │     │  ├─ image.debian
     │     │  │  ├─ keys/debian.gpg
     │     │  │  └─ motd
     │     │  └─ server.main
     │     └─ image.debian (above)
     └─ server.main
  is needed by:
  └─ export.nbd.debian (may attach)
`,
	} {
		if d := cmp.Diff(want, textOf(t, focused(t, g, address), Options{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", address, d)
		}
	}
	if _, err := g.Focus("host.c"); err == nil || err.Error() != "nothing has the address host.c: there is host.a, host.b" {
		t.Errorf("of what is not there: %v", err)
	}
	if _, err := g.Focus("nothing"); err == nil || !strings.Contains(err.Error(), "what a reference spells") {
		t.Errorf("of what is no address: %v", err)
	}
}

// What is in focus, and what is not, of instances and modules.
func TestFocusOnMany(t *testing.T) {
	g := graphOf(t, many30())
	if f := focused(t, g, "host.ws"); len(f.focus) != 30 {
		t.Errorf("%d hosts in focus, want 30", len(f.focus))
	}
	f := focused(t, g, `host.ws["w07"]`)
	if d := cmp.Diff([]string{"host.ws", `host.ws["w07"]`, "subnet.lan", "server.main"}, f.Addresses(true)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	in := &Graph{by: map[string]*node{}}
	for _, s := range []string{`module.rack["a"].host.x`, `module.rack["b"].host.x`, `module.rack["a"].module.inner.host.y`, `module.racks.host.z`, "host.x"} {
		a, err := schema.ParseAddr(s)
		if err != nil {
			t.Fatal(err)
		}
		in.add(&node{name: s, kind: a.Kind, addr: a})
	}
	for address, want := range map[string]int{"module.rack": 3, `module.rack["a"]`: 2, `module.rack["a"].module.inner`: 1, "module.racks": 1, "host.x": 1, "module.rac": 0} {
		got := 0
		if f, err := in.Focus(address); err == nil {
			got = len(f.focus)
		}
		if got != want {
			t.Errorf("%s: %d in focus, want %d", address, got, want)
		}
	}
}

// many30 is a site with 30 hosts that are alike, and one that is not.
func many30() string {
	return `
server "main" {
  address = "10.0.0.1"
}
subnet "lan" {
  cidr = "10.0.0.0/24"
}
group "g" {}
host "ws" {
  for_each = { for i in range(30) : format("w%02d", i) => i }
  mac      = format("52:54:00:00:00:%02x", each.value)
  address  = cidrhost("10.0.0.0/24", 10 + each.value)
}
host "other" {
  mac     = "52:54:00:00:01:00"
  address = "10.0.0.100"
  group   = group.g
}
`
}

func TestAddresses(t *testing.T) {
	all := graphOf(t, many30()).Addresses(false)
	if d := cmp.Diff([]string{"host.other", "host.ws", `host.ws["w00"]`, `host.ws["w01"]`}, all[:4]); d != "" || len(all) != 35 {
		t.Errorf("%d addresses (-want +got):\n%s", len(all), d)
	}
	if all := graphOf(t, site).Addresses(true); !slices.Contains(all, "motd") {
		t.Errorf("no files in %v", all)
	}
	if all := graphOf(t, site).Addresses(false); slices.Contains(all, "motd") {
		t.Errorf("files in %v", all)
	}
}

func TestCollapse(t *testing.T) {
	g := graphOf(t, many30())
	want := `
host.other
├─ subnet.lan
│  └─ server.main
└─ group.g
30 hosts: host.ws["w00"], host.ws["w01"], …, host.ws["w29"]
└─ subnet.lan (above)
`
	if d := cmp.Diff(want, textOf(t, g, Options{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if n := strings.Count(textOf(t, g, Options{All: true}), "host.ws"); n != 30 {
		t.Errorf("with All, %d of 30 hosts", n)
	}
	want = `
subnet.lan  site.hcl:5,1
  needs:
  └─ server.main
  is needed by:
  └─ 31 hosts: host.other, host.ws["w00"], …, host.ws["w29"]
`
	if d := cmp.Diff(want, textOf(t, focused(t, g, "subnet.lan"), Options{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if n := strings.Count(textOf(t, focused(t, g, "host.ws"), Options{}), "needs:"); n != 1 {
		t.Errorf("hosts in focus that are alike are told %d times, want once", n)
	}
}

func TestJSON(t *testing.T) {
	b, err := graphOf(t, many30()).JSON()
	if err != nil {
		t.Fatal(err)
	}
	var doc document
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Nodes) != 34 || doc.FormatVersion != 1 {
		t.Errorf("%d nodes in version %d, want 34 in 1", len(doc.Nodes), doc.FormatVersion)
	}
	i := slices.IndexFunc(doc.Nodes, func(n nodeJSON) bool { return n.Address == "host.other" })
	want := nodeJSON{"host.other", "host", schema.Range{File: "site.hcl", Line: 14, Column: 1},
		[]edgeJSON{{"subnet.lan", []string{"address"}, false}, {"group.g", []string{"group"}, false}}, []edgeJSON{}}
	if d := cmp.Diff(want, doc.Nodes[i]); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// The same desired state gives the same bytes, whatever order maps are walked in.
func TestSameBytes(t *testing.T) {
	var first string
	for i := range 20 {
		g := graphOf(t, site)
		b, err := g.JSON()
		if err != nil {
			t.Fatal(err)
		}
		var dot strings.Builder
		if err := g.DOT(&dot, Options{}); err != nil {
			t.Fatal(err)
		}
		all := string(b) + dot.String() + textOf(t, g, Options{}) + textOf(t, focused(t, g, "image.debian"), Options{})
		if i == 0 {
			first = all
		} else if all != first {
			t.Fatal(cmp.Diff(first, all))
		}
	}
}

// What graphviz makes of it has every node, by its name, and every edge.
func TestDOT(t *testing.T) {
	providertest.Need(t, "dot")
	strange := strings.ReplaceAll(many30(), `group "g" {}`, "group \"g\" {\n  for_each = toset([\"a\\\"\\\\<&amp;>\"])\n}")
	strange = strings.ReplaceAll(strange, "= group.g\n", "= group.g[\"a\\\"\\\\<&amp;>\"]\n")
	for name, g := range map[string]*Graph{
		"site": graphOf(t, site), "collapsed": graphOf(t, many30()),
		"strange keys": focused(t, graphOf(t, strange), `group.g["a\"\\<&amp;>"]`),
		"focus":        focused(t, graphOf(t, site), "entry.debian"), "nothing": Of(&schema.Desired{}),
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := g.DOT(&b, Options{}); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "dot", "-Tplain")
			cmd.Stdin = bytes.NewReader(b.Bytes())
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s\n%s", err, out, b.Bytes())
			}
			shown := g.collapsed()
			edges := 0
			for _, n := range shown.nodes {
				edges += len(n.needs)
			}
			if nodes, found := strings.Count("\n"+string(out), "\nnode "), strings.Count("\n"+string(out), "\nedge "); nodes != len(shown.nodes) || found != edges {
				t.Errorf("%d nodes and %d edges, want %d and %d:\n%s", nodes, found, len(shown.nodes), edges, out)
			}
			svg := exec.CommandContext(t.Context(), "dot", "-Tsvg")
			svg.Stdin = &b
			picture, err := svg.CombinedOutput()
			if err != nil || bytes.Contains(picture, []byte("Warning")) {
				t.Fatalf("%v: %s", err, picture)
			}
			for _, n := range shown.nodes {
				if n.members == nil && !strings.Contains(string(picture), ">"+xml(n.name)+"</text>") {
					t.Errorf("the picture does not name %s", n.name)
				}
			}
		})
	}
}

// xml writes text as graphviz writes it into pictures.
func xml(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "-", "&#45;").Replace(s)
}

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{"a/b": "a/b", "a\x1b[31m": `"a\x1b[31m"`, "\xff": `"\xff"`, "é": "é"} {
		if got := plain(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
	if got, want := dotText("a\\\"&\n"), `"\"a\\\\\\\"&amp;\\n\""`; got != want {
		t.Errorf("dotText gives %s, want %s", got, want)
	}
}

// A thousand hosts with a need each are shown at once.
func BenchmarkText(b *testing.B) {
	d := &schema.Desired{}
	for i := range 10_000 {
		d.Resources = append(d.Resources, schema.Resource{Addr: schema.Addr{Kind: "host", Name: "ws", Key: fmt.Sprint(i)}})
	}
	for b.Loop() {
		if err := Of(d).Text(&bytes.Buffer{}, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
