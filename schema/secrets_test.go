package schema

import (
	"bytes"
	"io/fs"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
)

// TestSecretsAreNotShown looks for a secret in everything that is printed.
func TestSecretsAreNotShown(t *testing.T) {
	const secret = "hunter2hunter2"
	lines := strings.NewReplacer(" { ", " {\n", " }", "\n}") // blocks in blocks need them
	for _, config := range []string{
		`server "a" { address = var.s }`,
		`locals { a = parseint(var.s, 10) }`,
		`locals { a = tonumber(var.s) }`,
		`locals { a = tobool("${var.s}") }`,
		`locals { a = jsondecode(var.s) }`,
		`locals { a = file(var.s) }`,
		`locals { a = templatefile(var.s, {}) }`,
		`locals { a = cidrhost(var.s, 1) }`,
		`locals { a = regex("^x$", var.s) }`,
		`locals { a = { x = 1 }[var.s] }`,
		`locals { a = yamldecode(join("", [var.s, ": ["])) }`,
		`host "a" { mac = var.s }`,
		`host "a" { for_each = { "${var.s}" = 1 }` + "\n" + ` mac = "x" }`,
		`subnet "a" { lease_time = var.s }`,
		`subnet "a" { boot_file_name = { "${var.s}" = "x" } }`,
		`export "nbd" "a" { mode = var.s }`,
		`image "a" { hostname = "-${var.s}" }`,
		`bootloader "ipxe" "a" { entries = var.s }`,
		`bootloader "ipxe" "a" { timeout = var.s }`,
		`entry "a" { title = "${var.s}\n" }`,
		`bootloader "ipxe" "a" { protocol = var.s }`,
		`bootloader "ipxe" "a" { serial = var.s }`,
		`bootloader "grub" "a" { serial = var.s }`,
		`bootloader "ipxe" "a" { fallback = var.s }`,
		`subnet "a" { mode = var.s }`,
		`subnet "a" { boot = [var.s] }`,
		`subnet "a" { mode = "proxy"` + "\n" + ` domain_name = var.s }`,
		`group "a" { boot = var.s }`,
		`host "a" { group = var.s }`,
		`group "a" { mount "/" { device = var.s } }`,
		`group "a" { mount "/a" { type = "${var.s} b" } }`,
		`group "a" { mount "/a" { device = "${var.s} b" } }`,
		`group "a" { mount "/a" { options = ["${var.s},b"] } }`,
		`group "a" { file "/a" { source = var.s } }`,
		`group "a" { file "/a" { content = join("", [for i in range(100000) : var.s]) } }`,
		`group "a" { file "/a" { permissions = var.s } }`,
		`group "a" { state "/a" { per = var.s } }`,
		`image "a" { oci { reference = var.s } }`,
		`image "a" { disk { url = var.s } }`,
		`image "a" { disk { sha256 = var.s } }`,
		`image "a" { directory { path = var.s } }`,
		`image "a" { pacstrap { mirror = var.s } }`,
		`image "a" { pacstrap { packages = ["-${var.s}"] } }`,
		`image "a" { pacstrap { files = [var.s] } }`,
		`image "a" { copy "/a" { from = var.s } }`,
		`image "a" { initramfs "dracut" { hooks = ["${var.s} ${var.s}"] } }`,
		`export "nfs" "a" { path = "/${var.s}" }`,
		`export "nfs" "a" { clients = [var.s] }`,
		`image "a" { tar { path = var.s } }`,
		`image "a" { debootstrap { keyring = var.s } }`,
		`image "a" { file "/a" { source = var.s } }`,
		`image "a" { disk { path = var.s } }`,
		`image "a" { file "/a" { symlink = "${var.s}\n" } }`,
		`image "a" { copy "/a" { from = "/${var.s}//a" } }`,
		`export "nfs" "a" { options = [var.s] }`,
		`export "nfs" "a" { mode = var.s }`,
		`locals { a = upper(var.s, 1) }`,
		`locals { a = var.s.x }`,
		`locals { a = var.s + 1 }`,
		`locals { a = [for x in var.s : x] }`,
	} {
		for _, variable := range []string{
			"variable \"s\" {\n  sensitive = true\n}\n",
			"variable \"s\" {\n  sensitive = true\n  default = \"" + secret + "\"\n}\n",
		} {
			opts := Options{}
			if !strings.Contains(variable, "default") {
				opts.Vars = map[string]string{"s": secret}
			}
			got := mustFail(t, files("a.hcl", variable+lines.Replace(config)), opts)
			if strings.Contains(got, "definition") {
				t.Errorf("%s\nwas not read:\n%s", config, got)
			}
			if strings.Contains(got, "hunter") {
				t.Errorf("%s\nshows the secret:\n%s", config, got)
			}
		}
	}
	// Nor is a secret of the wrong type shown.
	got := mustFail(t, files("a.hcl", "variable \"s\" {\n type = number\n sensitive = true\n}"), Options{Vars: map[string]string{"s": secret}})
	if strings.Contains(got, "hunter") {
		t.Error(got)
	}
}

// A secret line is not shown, not even when the files are at hand.
func TestSecretLinesStayHidden(t *testing.T) {
	for name, tree := range map[string]fs.FS{
		"default": files("site.hcl", "variable \"a\" {\n  type      = number\n  sensitive = true\n  default   = \"hunter2\"\n}"),
		"word":    files("site.hcl", "variable \"a\" {\n  sensitive = true\n  default   = hunter2\n}"),
		"env":     files("site.hcl", "variable \"a\" {\n  type      = number\n  sensitive = true\n}", "env/x.hcl", "a = \"hunter2\""),
		"syntax":  files("site.hcl", "variable \"a\" {\n  sensitive = true\n}", "env/x.hcl", "a = hunter2 hunter2"),
		"name":    files("site.hcl", "variable \"a\" {\n  sensitive = true\n}", "env/x.hcl", "b = \"hunter2\""),
		"input":   files("site.hcl", "module \"a\" {\n  source = \"./a\"\n  a      = [\"hunter2\"]\n}", "a/a.hcl", "variable \"a\" {\n  type      = string\n  sensitive = true\n}"),
		"unknown": files("site.hcl", "module \"a\" {\n  source = \"./a\"\n  a      = local.b\n}\nlocals {\n  b = \"x\"\n}", "a/a.hcl", "variable \"a\" {\n  sensitive = true\n  validation {\n    condition     = var.a == \"hunter2\"\n    error_message = var.a\n  }\n}"),
		"failed":  files("site.hcl", "module \"a\" {\n  source = \"./a\"\n  a      = tonumber(\"hunter2\")\n}", "a/a.hcl", "variable \"a\" {\n  sensitive = true\n}"),
		"given":   files("site.hcl", "module \"a\" {\n  source = \"./a\"\n  a      = hunter2\n}", "a/a.hcl", "variable \"a\" {\n  sensitive = true\n}"),
		"gone":    files("site.hcl", "module \"a\" {\n  source = \"./a\"\n  a      = hunter2\n}"),
		"line":    files("site.hcl", "variable \"a\" {\n  sensitive = true\n}\nvariable \"b\" {\n  type = number\n}", "env/x.hcl.json", `{"b": "x", "a": "hunter2"}`),
		"two":     files("site.hcl", "variable \"a\" {\n  sensitive = true\n}\nvariable \"b\" {\n}", "env/x.hcl", "b = \"x\" a = \"hunter2\""),
		"keyword": files("site.hcl", "variable \"a\" {\n  sensitive = true\n}", "env/x.hcl.json", `{"a": hunter2}`),
		"block":   files("site.hcl.json", "{\"variable\": {\"a\": {\n  \"type\": \"number\", \"sensitive\": true,\n  \"default\": \"hunter2\"\n}}}"),
		"json":    files("site.hcl", "variable \"a\" {\n  type      = number\n  sensitive = true\n}", "env/x.hcl.json", `{"a": "hunter2"}`),
	} {
		opts := Options{Env: "x"}
		if _, err := fs.Stat(tree, "env"); err != nil {
			opts.Env = ""
		}
		_, diags := Load(tree, opts)
		if !diags.HasErrors() {
			t.Errorf("%s: accepted", name)
		}
		var b bytes.Buffer
		if err := FormatDiagnostics(&b, tree, diags, false); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "hunter2") {
			t.Errorf("%s: %s", name, b.String())
		}
	}
}

// Nor where a mistake of syntax keeps Load from knowing what is a secret. The same is
// so of Format, which never knows.
func TestSecretLinesOfBrokenFilesStayHidden(t *testing.T) {
	const open = "variable \"a\" {\n  sensitive = true\n"
	for name, src := range map[string]string{
		"default":          open + "  default = \"hunter2\" x\n}",
		"before":           "variable \"a\" {\n  default = \"hunter2\" x\n  sensitive = true\n}",
		"word":             open + "  default = hunter2 hunter2\n}",
		"index":            open + "  default = a.31415.92653\n}",
		"list":             open + "  default = [\n    \"hunter2\" \"x\",\n  ]\n}",
		"brace":            open + "default = {\nx = 1\n}\ndescription = \"hunter2\" x\n}",
		"text":             open + "  default = [<<EOT\n}\nEOT\n, \"hunter2\" x]\n}",
		"quote":            "locals {\n  a = \"x\n}\n" + open + "  default = \"hunter2\" x\n}",
		"never closed":     open + "  default = \"hunter2\" x\n",
		"one line":         "variable \"a\" { default = \"hunter2\" x }",
		"indented":         "  variable a{\n    default = \"hunter2\" x\n  }",
		"after a comment":  "/* a */ " + open + "  default = \"hunter2\" x\n}",
		"byte order mark":  "\ufeff" + open + "  default = \"hunter2\" x\n}",
		"carriage returns": strings.ReplaceAll(open+"  default = \"hunter2\" x\n}", "\n", "\r\n"),
		"input":            "module \"a\" {\n  source = \"./a\"\n  a = \"hunter2\" x\n}",
		"too deep":         open + "  default = \"hunter2${" + strings.Repeat("[", maxDepth) + "\n}",
		"elsewhere":        open + "  defualt = \"hunter2\"\n}\nlocals {\n  a = \n}",
	} {
		diags := brokenFile(t, name, "site.hcl", src)
		if !strings.Contains(diags, "site.hcl:") {
			t.Errorf("%s: the place is not told: %s", name, diags)
		}
	}
	brokenFile(t, "json", "site.hcl.json", `{"variable": {"a": {"sensitive": true, "default": hunter2}}}`)
	for file, src := range map[string]string{
		"env/x.hcl":      "locals {\n}\na = \"hunter2\" x",
		"lab.hcl":        "# values\na = \"hunter2\" x",
		"values.json":    `{"a": hunter2}`,
		"env/x.hcl.json": `{"locals": {"a": hunter2}}`,
	} {
		_, diags := Format([]byte(src), file)
		shownWithout(t, file, files(file, src), diags)
	}
}

// brokenFile loads and formats a file, gives what is said of it, and looks for secrets
// in that.
func brokenFile(t *testing.T, name, file, src string) string {
	t.Helper()
	tree := files(file, src, "a/a.hcl", "variable \"a\" {\n  sensitive = true\n}")
	_, diags := Load(tree, Options{})
	out := shownWithout(t, name, tree, diags)
	if _, diags = Format([]byte(src), file); diags.HasErrors() {
		shownWithout(t, name+", formatted", tree, diags)
	}
	return out
}

func shownWithout(t *testing.T, name string, tree fs.FS, diags hcl.Diagnostics) string {
	t.Helper()
	if !diags.HasErrors() {
		t.Errorf("%s: accepted", name)
	}
	var b bytes.Buffer
	if err := FormatDiagnostics(&b, tree, diags, false); err != nil {
		t.Fatal(err)
	}
	if all := b.String() + asJSON(t, ToDiagnostics(diags)); strings.Contains(all, "hunter2") || strings.Contains(all, "31415") {
		t.Errorf("%s: %s", name, all)
	}
	return b.String()
}

// What is no secret is shown, in the same file too.
func TestLinesOfBrokenFilesAreShown(t *testing.T) {
	for name, src := range map[string]string{
		"behind variables": "variable \"a\" {}\nvariable \"b\" {\n}\nlocals {\n  a = [\"shown\" x]\n}",
		"before":           "locals {\n  a = [\"shown\" x]\n}\nvariable \"b\" {\n}",
		"names":            "locals {\n  b = [\n    module.a.b,\n  ]\n  variable = 1\n  a = [\"shown\" x]\n}",
	} {
		_, loaded := Load(files("site.hcl", src), Options{})
		_, formatted := Format([]byte(src), "site.hcl")
		for _, diags := range []hcl.Diagnostics{loaded, formatted} {
			if got := asJSON(t, ToDiagnostics(diags)); !strings.Contains(got, "shown") {
				t.Errorf("%s: %s", name, got)
			}
		}
	}
}

// The evaluator tells which keys of a loop are the same, sensitive or not.
func TestSensitiveKeysOfLoopsStayHidden(t *testing.T) {
	tree := files("site.hcl", `
variable "k" {
  sensitive = true
}
locals {
  a = { for i in [1, 2] : var.k => i }
}
`)
	got := mustFail(t, tree, Options{Vars: map[string]string{"k": "TOPSECRET77"}})
	if strings.Contains(got, "TOPSECRET77") || !strings.Contains(got, "Duplicate object key") {
		t.Error(got)
	}
	plain := files("site.hcl", "locals {\n  a = { for i in [1, 2] : \"same\" => i }\n}\n")
	if got := mustFail(t, plain, Options{}); !strings.Contains(got, `"same"`) {
		t.Error(got)
	}
}
