package store

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dlreconcile/dlreconcile/schema"
)

const siteHCL = `
variable "net" {}

variable "password" {
  sensitive = true
  default   = "none"
}

server "main" {
  interface = "eth0"
  address   = "10.0.${var.net}.1"
}

image "tiny" {
  tar {
    path = "root.tar"
  }
  file "/etc/motd" {
    source = "motd"
  }
  file "/etc/secret" {
    content = var.password
  }
  filesystem "squashfs" {}
}

subnet "lan" {
  cidr = "10.0.${var.net}.0/24"
}

host "ws" {
  for_each = { for h in csvdecode(file("data/hosts.csv")) : h.name => h }
  mac      = each.value.mac
}
`

func TestLoadGivesTheSameAgain(t *testing.T) {
	tree := fstest.MapFS{
		"site.hcl":       {Data: []byte(siteHCL)},
		"data/hosts.csv": {Data: []byte("name,mac\nws01,52:54:00:00:00:01\nws02,52:54:00:00:00:02\n")},
		"root.tar":       {Data: []byte(strings.Repeat("tar", 100_000))},
		"motd":           {Data: []byte("hello\n")},
		"README.md":      {Data: []byte("not read")},
	}
	vars := map[string]string{"net": "7", "password": "hunter2"}
	want, diags := schema.Load(tree, schema.Options{Vars: vars})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	rec := sampleRecord(1)
	if err := rec.TakeFiles(tree, want, schema.Options{Vars: vars}); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, t.TempDir(), Options{})
	mustRecord(t, s, rec)
	rec = mustCurrent(t, s)
	if _, ok := rec.Files["root.tar"]; ok || len(rec.Files) != 2 {
		t.Errorf("the record holds %d files, among them the archive: %v", len(rec.Files), ok)
	}
	if all := fmt.Sprintf("%+v", rec); strings.Contains(all, "hunter2") {
		t.Error("the record holds the secret")
	}
	compare := cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netip.AddrPort{})
	got, diags := Load(rec, schema.Options{Vars: map[string]string{"net": "9", "password": "hunter2", "unknown": "x"}})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Error(diff)
	}
	if got, diags = Load(rec, schema.Options{}); diags.HasErrors() {
		t.Fatal(diags)
	}
	if got.Servers[0].Address != want.Servers[0].Address || len(got.Hosts) != 2 {
		t.Errorf("without the daemon's values: %+v", got.Servers[0])
	}
	if got.Images[0].Files[1].Content != "none" {
		t.Errorf("the secret is %q, want its default", got.Images[0].Files[1].Content)
	}

	delete(rec.Files, "data/hosts.csv")
	if _, diags := Load(rec, schema.Options{}); !diags.HasErrors() {
		t.Error("a record without a file it needs loads")
	}
}

// What an env file gives is recorded with it, secrets in its text only.
func TestLoadTakesTheSameEnvFile(t *testing.T) {
	tree := fstest.MapFS{
		"site.hcl":     {Data: []byte("variable \"name\" {}\nvariable \"password\" {\n  sensitive = true\n}\nvariable \"given\" {\n  sensitive = true\n}\ngroup \"all\" {\n  args = [var.name]\n  file \"/etc/a\" {\n    content = var.password\n  }\n  file \"/etc/b\" {\n    content = var.given\n  }\n}\n")},
		"env/lab.hcl":  {Data: []byte("name     = \"lab\"\npassword = \"hunter2\"\ngiven = \"no\"\n")},
		"env/prod.hcl": {Data: []byte("name     = \"prod\"\npassword = \"hunter3\"\n")},
	}
	opts := schema.Options{Env: "lab", Vars: map[string]string{"given": "by hand"}}
	want, diags := schema.Load(tree, opts)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	rec := sampleRecord(1)
	if err := rec.TakeFiles(tree, want, opts); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, t.TempDir(), Options{})
	mustRecord(t, s, rec)
	rec = mustCurrent(t, s)
	if len(rec.Files) != 2 || rec.Files["env/lab.hcl"] == nil || rec.Env != "lab" {
		t.Errorf("recorded env %q and %d files", rec.Env, len(rec.Files))
	}
	if fmt.Sprint(rec.Variables) != `map[name:"lab"]` || fmt.Sprint(rec.Given) != "[given]" {
		t.Errorf("variables %v, given %v", rec.Variables, rec.Given)
	}
	got, diags := Load(rec, schema.Options{Vars: opts.Vars})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netip.AddrPort{})); diff != "" {
		t.Error(diff)
	}
}

// The files of modules are recorded with the others, where they lie.
func TestLoadTakesModules(t *testing.T) {
	tree := fstest.MapFS{
		"site.hcl":                      {Data: []byte("server \"main\" {\n  address = \"10.0.0.1\"\n}\nmodule \"rack\" {\n  source = \"./modules/rack\"\n  for_each = toset([\"a\", \"b\"])\n  name = each.key\n}\n")},
		"modules/rack/a.hcl":            {Data: []byte("variable \"name\" {\n}\nimage \"i\" {\n  tar {\n    path = \"root.tar\"\n  }\n  filesystem \"squashfs\" {}\n}\ngroup \"g\" {\n  args = [chomp(file(\"args\")), var.name]\n  file \"/etc/motd\" {\n    source = \"motd\"\n  }\n}\nmodule \"inner\" {\n  source = \"./inner\"\n}\n")},
		"modules/rack/inner/b.hcl.json": {Data: []byte(`{"group": {"h": {}}}`)},
		"modules/rack/args":             {Data: []byte("quiet\n")},
		"modules/rack/motd":             {Data: []byte("welcome\n")},
		"modules/rack/root.tar":         {Data: []byte("tar")},
		"modules/other/c.hcl":           {Data: []byte("not read")},
	}
	want, diags := schema.Load(tree, schema.Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	rec := sampleRecord(1)
	if err := rec.TakeFiles(tree, want, schema.Options{}); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, t.TempDir(), Options{})
	mustRecord(t, s, rec)
	rec = mustCurrent(t, s)
	if len(rec.Files) != 5 || len(rec.Digests) != 1 || rec.Digests[0].Path != "modules/rack/root.tar" {
		t.Errorf("%d files and %+v", len(rec.Files), rec.Digests)
	}
	got, diags := Load(rec, schema.Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netip.AddrPort{})); diff != "" {
		t.Error(diff)
	}
	if got.Images[0].Tar.Path != "modules/rack/root.tar" || len(got.Groups) != 4 {
		t.Errorf("%+v, %d groups", got.Images[0].Tar, len(got.Groups))
	}
}

func TestTakeFilesNoticesChanges(t *testing.T) {
	tree := fstest.MapFS{"site.hcl": {Data: []byte("locals {\n  a = 1\n}\n")}}
	d, diags := schema.Load(tree, schema.Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	tree["site.hcl"].Data = []byte("locals {\n  a = 2\n}\n")
	if err := new(Record).TakeFiles(tree, d, schema.Options{}); err == nil || !strings.Contains(err.Error(), "has changed since") {
		t.Errorf("an edited file is recorded: %v", err)
	}
}
