package schema

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
)

// files makes a tree of name, content, name, content …
func files(pairs ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		fsys[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return fsys
}

func mustLoad(t testing.TB, fsys fs.FS, opts Options) *Desired {
	t.Helper()
	d, diags := Load(fsys, opts)
	if len(diags) > 0 {
		var b bytes.Buffer
		FormatDiagnostics(&b, nil, diags, false)
		t.Fatal(b.String())
	}
	return d
}

// mustFail loads a tree that is wrong, and gives the summaries.
func mustFail(t testing.TB, fsys fs.FS, opts Options) string {
	t.Helper()
	d, diags := Load(fsys, opts)
	if d != nil || !diags.HasErrors() {
		t.Fatal("accepted")
	}
	var b bytes.Buffer
	FormatDiagnostics(&b, nil, diags, false)
	return b.String()
}

const site = `
server "main" {
  address = "10.0.0.1"
}

subnet "lan" {
  cidr = "10.0.0.0/8"
  pool {
    range = "10.200.0.0-10.200.255.255"
  }
}

image "a" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "ext4" {
    size = "1GiB"
  }
}

export "nbd" "a" {
  image = image.a
  allow = [subnet.lan]
}

entry "a" {
  image = image.a
  root  = export.nbd.a
}

bootloader "ipxe" "menu" {
  entries = [entry.a]
}
`

const fleet = `
locals {
  machines = csvdecode(file("hosts.csv"))
}

host "ws" {
  for_each = { for h in local.machines : h.name => h }
  mac      = each.value.mac
  address  = each.value.address
  entry    = entry.a
  boot     = bootloader.ipxe.menu
  args     = ["rack=${each.value.rack}", each.value.role == "kiosk" ? "kiosk" : "desk"]
}
`

// rooms puts the fleet into groups, and gives each host a file of its own.
const rooms = `
group "room" {
  for_each = toset([for i in range(40) : tostring(i)])
  entry    = entry.a
  boot     = [bootloader.ipxe.menu]
  args     = ["room=${each.key}"]
  mount "/var/log" {
    type = "tmpfs"
  }
  state "/var/lib/app" {}
  file "/etc/room" {
    source = "motd"
  }
}

host "ws" {
  for_each = { for h in local.machines : h.name => h }
  mac      = each.value.mac
  address  = each.value.address
  group    = group.room[each.value.rack]
  args     = ["role=${each.value.role}"]
  file "/etc/motd" {
    content = "This is ${each.key}.\n"
  }
  state "/var/lib/own" {}
}

locals {
  machines = csvdecode(file("hosts.csv"))
}
`

func machines(t testing.TB, n int) string {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.Write([]string{"name", "mac", "address", "rack", "role"})
	for i := range n {
		w.Write([]string{
			fmt.Sprintf("ws%05d", i), fmt.Sprintf("52:54:00:%02x:%02x:%02x", i>>16, i>>8&255, i&255),
			fmt.Sprintf("10.%d.%d.%d", 1+i>>16, i>>8&255, i&255), fmt.Sprint(i % 40), []string{"kiosk", "desk"}[i%2],
		})
	}
	w.Flush()
	if w.Error() != nil {
		t.Fatal(w.Error())
	}
	return b.String()
}

func TestThousandHostsFromCSV(t *testing.T) {
	d := mustLoad(t, files("site.hcl", site+fleet, "hosts.csv", "\uFEFF"+machines(t, 1001)[0:]), Options{})
	if len(d.Hosts) != 1001 {
		t.Fatalf("%d hosts", len(d.Hosts))
	}
	h := d.Hosts[258]
	want := &Host{
		Meta: Meta{
			Addr:  Addr{Kind: "host", Name: "ws", Key: "ws00258"},
			Range: h.Range, Attrs: h.Attrs,
		},
		MAC: "52:54:00:00:01:02", Address: h.Address, Subnet: Addr{Kind: "subnet", Name: "lan"},
		Hostname: "ws00258", Entry: Addr{Kind: "entry", Name: "a"}, Boot: []Addr{{Kind: "bootloader", Type: "ipxe", Name: "menu"}},
		Args: []string{"rack=18", "kiosk"},
	}
	if diff := cmp.Diff(want, h, cmp.Comparer(func(a, b interface{ String() string }) bool { return a.String() == b.String() })); diff != "" {
		t.Error(diff)
	}
	if h.Address.String() != "10.1.1.2" {
		t.Error(h.Address)
	}
	if at := h.At("mac"); at.File != "site.hcl" || at.Line == 0 {
		t.Errorf("mac was written at %s", at)
	}
	i := slices.IndexFunc(d.Files, func(f File) bool { return f.Path == "hosts.csv" })
	if i < 0 || !d.Files[i].Config {
		t.Errorf("the table is not in %v", d.Files)
	}
}

// TestLargeFleet keeps loading from becoming quadratic in anything.
func TestLargeFleet(t *testing.T) {
	if testing.Short() {
		t.Skip("10,000 hosts take a second or two")
	}
	for name, hosts := range map[string]string{"hosts": fleet, "hosts in groups": rooms} {
		tree := files("site.hcl", site+hosts, "hosts.csv", machines(t, 10_000), "motd", "hello\n")
		start := time.Now()
		d := mustLoad(t, tree, Options{})
		took := time.Since(start)
		t.Logf("%d %s in %s", len(d.Hosts), name, took)
		if len(d.Hosts) != 10_000 || took > 15*time.Second {
			t.Errorf("loading %d %s took %s", len(d.Hosts), name, took)
		}
	}
}

func BenchmarkLoad10000HostsInGroups(b *testing.B) {
	tree := files("site.hcl", site+rooms, "hosts.csv", machines(b, 10_000), "motd", "hello\n")
	for b.Loop() {
		mustLoad(b, tree, Options{})
	}
}

func BenchmarkLoad10000Hosts(b *testing.B) {
	tree := files("site.hcl", site+fleet, "hosts.csv", machines(b, 10_000))
	for b.Loop() {
		mustLoad(b, tree, Options{})
	}
}

// TestDeterministic loads the same site again and again: maps have another order
// each time.
func TestDeterministic(t *testing.T) {
	for _, path := range []string{"../testdata/valid/quickstart", "../testdata/valid/for_each.hcl", "../testdata/valid/values.hcl", "../testdata/valid/groups", "../testdata/valid/loaders.hcl", "../testdata/valid/sources", "../testdata/valid/nfs.hcl", "../testdata/valid/design"} {
		tree, opts := open(t, path)
		first := asJSON(t, mustLoad(t, tree, opts))
		for range 30 {
			if diff := cmp.Diff(first, asJSON(t, mustLoad(t, tree, opts))); diff != "" {
				t.Fatalf("%s: another load gives something else:\n%s", path, diff)
			}
		}
	}
	// The order in which blocks and files are written means nothing either.
	a := mustLoad(t, files("a.hcl", site, "b.hcl", fleet, "hosts.csv", machines(t, 20)), Options{})
	b := mustLoad(t, files("b.hcl", site, "a.hcl", fleet, "hosts.csv", machines(t, 20)), Options{})
	strip := func(d *Desired) string {
		var out strings.Builder
		for _, r := range d.Resources {
			fmt.Fprintln(&out, r.Addr, r.References)
			for _, x := range r.Attrs {
				fmt.Fprintln(&out, x.Name, x.Value)
			}
		}
		return out.String()
	}
	if diff := cmp.Diff(strip(a), strip(b)); diff != "" {
		t.Error(diff)
	}
}

func TestDiagnosticsAreDeterministic(t *testing.T) {
	for _, path := range []string{"../testdata/invalid/image_values.hcl", "../testdata/invalid/functions.hcl", "../testdata/invalid/cycle_locals.hcl", "../testdata/invalid/proxy.hcl", "../testdata/invalid/settings_clash.hcl", "../testdata/invalid/settings_layers.hcl", "../testdata/invalid/loader_unreachable.hcl", "../testdata/invalid/writable_hosts.hcl", "../testdata/invalid/initramfs_hooks.hcl", "../testdata/invalid/export_values.hcl"} {
		tree, opts := open(t, path)
		first := mustFail(t, tree, opts)
		for range 20 {
			if diff := cmp.Diff(first, mustFail(t, tree, opts)); diff != "" {
				t.Fatal(diff)
			}
		}
	}
}

// TestRecipe changes one thing at a time, and says which recipes change with it.
func TestRecipe(t *testing.T) {
	const config = `
image "a" {
  debootstrap {
    suite    = "bookworm"
    packages = ["linux-image-amd64", "udev"]
    keyring  = "keys.gpg"
  }
  hostname = "a"
  mask     = ["a.service", "b.service"]
  file "/etc/motd" {
    content = "hello\n"
  }
  file "/etc/issue" {
    source = "issue"
  }
  initramfs {
    modules = ["e1000e"]
  }
  filesystem "ext4" {
    size = "1GiB"
  }
}
`
	base := files("a.hcl", config, "issue", "hi\n", "keys.gpg", "key", "moved/issue", "hi\n", "motd", "hello\n")
	image := func(fsys fs.FS) *Image { return mustLoad(t, fsys, Options{}).Images[0] }
	was := image(base)
	for _, c := range []struct {
		name, old, new string
		base, whole    bool
	}{
		{"the image is called something else", `image "a"`, `image "b"`, false, false},
		{"white space and comments", "  hostname = \"a\"", "# a comment\n hostname=\"a\"", false, false},
		{"order of packages", `["linux-image-amd64", "udev"]`, `["udev", "linux-image-amd64", "udev"]`, false, false},
		{"order of units", `["a.service", "b.service"]`, `["b.service", "a.service"]`, false, false},
		{"a default written out", `suite    = "bookworm"`, "suite = \"bookworm\"\n arch = \"amd64\"\n variant = \"minbase\"\n components = [\"main\"]", false, false},
		{"another spelling of a size", `"1GiB"`, `"1024MiB"`, false, false},
		{"text moved to a file", `content = "hello\n"`, `source = "motd"`, false, false},
		{"a file moved in the repo", `source = "issue"`, `source = "moved/issue"`, false, false},
		{"order of files", "file \"/etc/motd\" {\n    content = \"hello\\n\"\n  }\n  file \"/etc/issue\" {\n    source = \"issue\"\n  }", "file \"/etc/issue\" {\n    source = \"issue\"\n  }\n  file \"/etc/motd\" {\n    content = \"hello\\n\"\n  }", false, false},
		{"text", `"hello\n"`, `"hullo\n"`, false, true},
		{"permissions", `content = "hello\n"`, "content = \"hello\\n\"\n permissions = \"0600\"", false, true},
		{"owner", `content = "hello\n"`, "content = \"hello\\n\"\n owner = 1", false, true},
		{"a file goes elsewhere", `"/etc/motd"`, `"/etc/motd.d"`, false, true},
		{"hostname", `hostname = "a"`, `hostname = "b"`, false, true},
		{"module", `"e1000e"`, `"igb"`, false, true},
		{"size", `"1GiB"`, `"2GiB"`, false, true},
		{"label", `size = "1GiB"`, "size = \"1GiB\"\n label = \"x\"", false, true},
		{"suite", `"bookworm"`, `"trixie"`, true, true},
		{"package", `"udev"`, `"dbus"`, true, true},
		{"mirror", `suite    = "bookworm"`, "suite = \"bookworm\"\n mirror = \"http://mirror.example/debian\"", true, true},
	} {
		if !strings.Contains(config, c.old) {
			t.Fatalf("%s: %q is not in the configuration", c.name, c.old)
		}
		tree := fstest.MapFS{}
		for n, f := range base {
			tree[n] = f
		}
		tree["a.hcl"] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(config, c.old, c.new))}
		is := image(tree)
		if got := is.BaseRecipe != was.BaseRecipe; got != c.base {
			t.Errorf("%s: base recipe changed: %t, want %t", c.name, got, c.base)
		}
		if got := is.Recipe != was.Recipe; got != c.whole {
			t.Errorf("%s: recipe changed: %t, want %t", c.name, got, c.whole)
		}
	}
	for name, wantBase := range map[string]bool{"issue": false, "keys.gpg": true} {
		tree := files("a.hcl", config, "issue", "hi\n", "keys.gpg", "key")
		tree[name] = &fstest.MapFile{Data: []byte("other")}
		is := image(tree)
		if is.Recipe == was.Recipe || (is.BaseRecipe != was.BaseRecipe) != wantBase {
			t.Errorf("content of %s: recipe %t, base %t", name, is.Recipe != was.Recipe, is.BaseRecipe != was.BaseRecipe)
		}
	}
	// Machines all over the world must agree on it, and so must versions.
	if want := "sha256:1e87ce8d6636cdc6"; !strings.HasPrefix(was.Recipe, want) {
		t.Errorf("the recipe of this image was %s…, and is %s: what is built already would be built again. If that is meant, RecipeVersion or BuildVersion goes up.", want, was.Recipe)
	}
}

func TestVariables(t *testing.T) {
	const config = `
variable "name" {}
variable "n" {
  type = number
}
variable "list" {
  type    = list(string)
  default = ["a"]
}
variable "secret" {
  sensitive = true
}
server "main" {
  address   = "10.0.0.${var.n}"
  interface = var.name
}
image "a" {
  debootstrap {
    suite    = "bookworm"
    packages = var.list
  }
  file "/etc/token" {
    content = "token ${var.secret}"
  }
  filesystem "squashfs" {}
}
`
	given := map[string]string{"name": `eth"0`, "n": "1 + 1", "list": `["zz", upper("x") == "X" ? "bb" : "cc"]`, "secret": "hunter2"}
	d := mustLoad(t, files("a.hcl", config), Options{Vars: given})
	want := map[string]string{"name": `"eth\"0"`, "n": "2", "list": `["zz","bb"]`}
	if diff := cmp.Diff(want, d.Variables); diff != "" {
		t.Error(diff)
	}
	if d.Servers[0].Interface != `eth"0` || d.Servers[0].Address.String() != "10.0.0.2" {
		t.Errorf("%+v", d.Servers[0])
	}
	for _, r := range d.Resources {
		for _, a := range r.Attrs {
			if secret := a.Name == `file["/etc/token"].content`; a.Sensitive != secret {
				t.Errorf("%s %s: sensitive is %t", r.Addr, a.Name, a.Sensitive)
			}
		}
	}
	// What was recorded comes first, and is not parsed as an expression.
	again := mustLoad(t, files("a.hcl", config), Options{Recorded: d.Variables, Vars: map[string]string{"name": "other", "secret": "hunter2"}})
	if diff := cmp.Diff(asJSON(t, d), asJSON(t, again)); diff != "" {
		t.Error(diff)
	}
	for name, value := range map[string]string{"n": "many", "list": "[", "nme": "x", "secret": ""} {
		vars := map[string]string{"name": "x", "n": "2", "secret": "x"}
		if vars[name] = value; value == "" {
			delete(vars, name)
		}
		mustFail(t, files("a.hcl", config), Options{Vars: vars})
	}
}

func TestFilesStayInTheTree(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for link, to := range map[string]string{"link": filepath.Join(outside, "secret"), "folder": outside, "inside": "real"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "real"), []byte("r"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"link": "is a symbolic link", "folder/secret": "is a symbolic link", "inside": "is a symbolic link",
		"../secret": "Invalid path", "/etc/passwd": "Invalid path", "a/../real": "Invalid path", "./real": "Invalid path", "": "Invalid path",
		`..\\secret`: "Invalid path", "real/x": "There is no file", ".": "Invalid path",
	} {
		config := fmt.Sprintf("locals {\n  a = file(\"%s\")\n}\n", path)
		if err := os.WriteFile(filepath.Join(dir, "a.hcl"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		got := mustFail(t, os.DirFS(dir), Options{})
		if !strings.Contains(got, want) || strings.Contains(got, outside) {
			t.Errorf("file(%q): %s", path, got)
		}
	}
}

// TestOffline loads without the files that only matter by their digest.
func TestOffline(t *testing.T) {
	const config = "image \"a\" {\n tar {\n path = \"root.tar\"\n }\n filesystem \"squashfs\" {}\n}\n"
	d := mustLoad(t, files("a.hcl", config, "root.tar", "tar"), Options{})
	i := slices.IndexFunc(d.Files, func(f File) bool { return f.Path == "root.tar" })
	rec := map[string]File{"root.tar": d.Files[i], "unused": {Digest: "sha256:x"}}
	again := mustLoad(t, files("a.hcl", config), Options{Digests: rec})
	if diff := cmp.Diff(asJSON(t, d), asJSON(t, again)); diff != "" {
		t.Error(diff)
	}
	// A file that is there is what counts.
	other := mustLoad(t, files("a.hcl", config, "root.tar", "other"), Options{Digests: rec})
	if other.Images[0].Recipe == d.Images[0].Recipe {
		t.Error("the recorded digest hid the file")
	}
	// Content cannot be replaced by a digest, nor a digest by nonsense.
	mustFail(t, files("a.hcl", "locals {\n a = file(\"root.tar\")\n}"), Options{Digests: rec})
	mustFail(t, files("a.hcl", config), Options{Digests: map[string]File{"root.tar": {Digest: "sha256:../x"}}})
}

type brokenFS struct{ fs.FS }

func (brokenFS) Open(string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: "/srv/repo", Err: errors.New("input/output error")}
}

func TestBrokenFileSystem(t *testing.T) {
	if got := mustFail(t, brokenFS{}, Options{}); !strings.Contains(got, "Input/output error") || strings.Contains(got, "/srv") {
		t.Error(got)
	}
}

func TestFormatDiagnostics(t *testing.T) {
	tree := files("a.hcl", "# one\n\tserver \"a\" {\n\t\taddress = \"\u202e\x1b[31mx\"\n\t}\n")
	_, diags := Load(tree, Options{})
	var b bytes.Buffer
	if err := FormatDiagnostics(&b, nil, diags, true); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "\x1b[31mx") || strings.Contains(b.String(), "\u202e") {
		t.Errorf("text of the file reaches the terminal: %q", b.String())
	}
	// A diagnostic of another part of the system has no source line: it is looked up.
	at := hcl.Range{Filename: "a.hcl", Start: hcl.Pos{Line: 2, Column: 2}, End: hcl.Pos{Line: 2, Column: 8}}
	b.Reset()
	err := FormatDiagnostics(&b, tree, hcl.Diagnostics{
		{Severity: hcl.DiagWarning, Summary: "Careful", Detail: "This is new.", Subject: &at},
		{Severity: hcl.DiagError, Summary: "Nowhere", Detail: "No place is to blame."},
	}, false)
	want := "a.hcl:2,2: warning: Careful; This is new.\n  2 |  server \"a\" {\n    |  ^^^^^^\nNowhere; No place is to blame.\n"
	if err != nil || b.String() != want {
		t.Errorf("got %q (%v), want %q", b.String(), err, want)
	}
	got := asJSON(t, ToDiagnostics(diags)[0])
	if !strings.Contains(got, `"range": "a.hcl:3,13"`) || !strings.Contains(got, `"severity": "error"`) || !strings.Contains(got, `"source"`) {
		t.Error(got)
	}
	if got := ToDiagnostics(nil); got == nil || len(got) != 0 {
		t.Errorf("%v is not an empty list in JSON", got)
	}
}
