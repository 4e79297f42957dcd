package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Every block and attribute of the language is documented, and nothing else is.
func TestLanguageIsDocumented(t *testing.T) {
	attributes := 0
	var visit func(path string, docs []BlockDoc, specs map[string]*blockSpec)
	visit = func(path string, docs []BlockDoc, specs map[string]*blockSpec) {
		told := map[string]bool{}
		for _, d := range docs {
			at := path + d.Name
			spec := specs[d.Name]
			if told[d.Name] || spec == nil {
				t.Errorf("%s is documented, and is not in the language, or is documented twice", at)
				continue
			}
			told[d.Name] = true
			if d.Text == "" {
				t.Errorf("%s: no text", at)
			}
			if path == "" && d.Example == "" {
				t.Errorf("%s: no example", at)
			}
			var names []string
			for _, a := range d.Attrs {
				names = append(names, a.Name)
				attributes++
				if len(a.Effects) == 0 || a.Type == "" {
					t.Errorf("%s.%s: no type, or no effect", at, a.Name)
				}
				if ways := count(a.Required, a.Default != "", a.Otherwise != ""); ways != 1 {
					t.Errorf("%s.%s: it says in %d ways what leaving it out means, want one", at, a.Name, ways)
				}
			}
			want := slices.DeleteFunc(spec.names(), func(n string) bool {
				return n == "for_each" && spec.attrs[n] == 0
			})
			if diff := cmp.Diff(want, names, cmpopts.SortSlices(strings.Compare)); diff != "" {
				t.Errorf("attributes of %s (-in the language +documented):\n%s", at, diff)
			}
			visit(at+".", d.Blocks, spec.blocks)
		}
		for name := range specs {
			if !told[name] {
				t.Errorf("%s%s is not documented", path, name)
			}
		}
	}
	visit("", Language(), language)
	if attributes < 80 {
		t.Errorf("only %d attributes", attributes)
	}
}

func count(all ...bool) int {
	n := 0
	for _, b := range all {
		if b {
			n++
		}
	}
	return n
}

func TestFunctionsAreDocumented(t *testing.T) {
	var names []string
	side := []string{"motd", "Hello\n", "motd.tmpl", "Hello ${name}\n", "root.age", "sealed:hunter2"}
	for _, f := range Functions() {
		names = append(names, f.Name)
		if !strings.Contains(f.Example, f.Name+"(") || f.Text == "" {
			t.Errorf("%s: no text, or its example does not call it", f.Name)
		}
		if got, diags := evaluate(t, f.Example, side...); diags.HasErrors() || got != f.Result {
			t.Errorf("%s gives %s, and %s is documented (%v)", f.Example, got, f.Result, diags)
		}
	}
	want := functionNames(newLoader(files(), Options{}).functions())
	if diff := cmp.Diff(want, names, cmpopts.SortSlices(strings.Compare)); diff != "" {
		t.Errorf("functions (-in the language +documented):\n%s", diff)
	}
	if len(names) != len(slices.Compact(slices.Sorted(slices.Values(names)))) {
		t.Error("one is documented twice")
	}
}

// around is a site in which every kind of block stands.
var around = map[string]string{
	"server":     "server \"main\" {\n  address = \"10.0.0.1\"\n}\n",
	"image":      "image \"i\" {\n  debootstrap {\n    suite = \"bookworm\"\n  }\n  filesystem \"ext4\" {\n    size = \"1GiB\"\n  }\n}\n",
	"export":     "export \"nbd\" \"e\" {\n  image = image.i\n}\n",
	"entry":      "entry \"t\" {\n  image = image.i\n  root  = export.nbd.e\n}\n",
	"bootloader": "bootloader \"ipxe\" \"b\" {\n  entries = [entry.t]\n}\n",
	"subnet":     "subnet \"s\" {\n  cidr = \"10.0.0.0/24\"\n}\n",
	"group":      "group \"g\" {\n}\n",
	"host":       "host \"h\" {\n  mac = \"52:54:00:00:00:01\"\n}\n",
}

// sample is a block that says only what it must.
type sample struct {
	head  string            // everything up to its attributes
	attrs map[string]string // what it must say
	addr  string            // of the resource that it is, or is in; "" when of none
	at    string            // how the names of its attributes begin there
	tail  string            // what closes the blocks around it
	// For attributes that the sample cannot have: one that can.
	forAttr map[string]sample
	// What is said of a wrong value of an attribute, where it is said otherwise.
	says map[string]string
}

// text writes the sample with another attribute, or one that it has in another way.
func (s sample) text(name, value string) string {
	attrs := maps.Clone(s.attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	if name != "" {
		attrs[name] = value
	}
	var b strings.Builder
	b.WriteString(s.head + "\n")
	for _, n := range slices.Sorted(maps.Keys(attrs)) {
		fmt.Fprintf(&b, "%s = %s\n", n, attrs[n])
	}
	b.WriteString("}\n" + s.tail)
	return b.String()
}

const inImage = "image \"i\" {\ndebootstrap {\nsuite = \"bookworm\"\n}\nfilesystem \"ext4\" {\nsize = \"1GiB\"\n}\n"

var saysAssertion = map[string]string{"condition": "It is a tuple. Compare something", "error_message": "tells people what is wrong"}

// samples has one for every kind of block, by path.
func samples() map[string]sample {
	all := map[string]sample{
		"server":              {head: `server "main" {`, attrs: map[string]string{"address": `"10.0.0.1"`}, addr: "server.main"},
		"image":               {head: inImage, addr: "image.i"},
		"image.debootstrap":   {head: "image \"i\" {\nfilesystem \"squashfs\" {}\ndebootstrap {", attrs: map[string]string{"suite": `"bookworm"`}, addr: "image.i", at: "debootstrap.", tail: "}\n"},
		"image.tar":           {head: "image \"i\" {\nfilesystem \"squashfs\" {}\ntar {", attrs: map[string]string{"path": `"root.tar"`}, addr: "image.i", at: "tar.", tail: "}\n"},
		"image.file":          {head: inImage + "file \"/f\" {", attrs: map[string]string{"content": `"x"`}, addr: "image.i", at: `file["/f"].`, tail: "}\n"},
		"image.pacstrap":      {head: "image \"i\" {\nfilesystem \"squashfs\" {}\npacstrap {", addr: "image.i", at: "pacstrap.", tail: "}\n"},
		"image.oci":           {head: "image \"i\" {\nfilesystem \"squashfs\" {}\noci {", attrs: map[string]string{"reference": `"a.example/b@sha256:` + strings.Repeat("0", 64) + `"`}, addr: "image.i", at: "oci.", tail: "}\n"},
		"image.directory":     {head: "image \"i\" {\nfilesystem \"squashfs\" {}\ndirectory {", attrs: map[string]string{"path": `"root"`}, addr: "image.i", at: "directory.", tail: "}\n"},
		"image.disk":          {head: "image \"i\" {\nfilesystem \"squashfs\" {}\ndisk {", attrs: map[string]string{"path": `"root.tar"`}, addr: "image.i", at: "disk.", tail: "}\n"},
		"image.sealed":        {head: "image \"i\" {\nsealed {", attrs: map[string]string{"digest": `"sha256:` + strings.Repeat("0", 64) + `"`, "filesystem": `"ext4"`}, addr: "image.i", at: "sealed.", tail: "}\n"},
		"image.copy":          {head: inImage + "copy \"/c\" {", attrs: map[string]string{"from": `"/d"`}, addr: "image.i", at: `copy["/c"].`, tail: "}\n"},
		"image.initramfs":     {head: inImage + "initramfs {", addr: "image.i", at: "initramfs.", tail: "}\n"},
		"image.filesystem":    {head: "image \"i\" {\ndebootstrap {\nsuite = \"bookworm\"\n}\nfilesystem \"btrfs\" {", attrs: map[string]string{"size": `"1GiB"`}, addr: "image.i", at: "filesystem.", tail: "}\n"},
		"export":              {head: `export "nbd" "e" {`, attrs: map[string]string{"image": "image.i"}, addr: "export.nbd.e"},
		"entry":               {head: `entry "t" {`, attrs: map[string]string{"image": "image.i", "root": "export.nbd.e"}, addr: "entry.t"},
		"bootloader":          {head: `bootloader "grub" "b" {`, attrs: map[string]string{"entries": "[entry.t]"}, addr: "bootloader.grub.b"},
		"subnet":              {head: `subnet "s" {`, attrs: map[string]string{"cidr": `"10.0.0.0/24"`}, addr: "subnet.s"},
		"subnet.pool":         {head: "subnet \"s\" {\ncidr = \"10.0.0.0/24\"\npool {", attrs: map[string]string{"range": `"10.0.0.10-10.0.0.20"`}, addr: "subnet.s", at: "pool[0].", tail: "}\n"},
		"group":               {head: `group "g" {`, addr: "group.g"},
		"host":                {head: `host "h" {`, attrs: map[string]string{"mac": `"52:54:00:00:00:01"`}, addr: "host.h"},
		"variable":            {head: `variable "v" {`, attrs: map[string]string{"default": `"x"`}, says: map[string]string{"description": "a string", "sensitive": "a bool"}},
		"locals":              {head: "locals {"},
		"moved":               {head: "moved {", attrs: map[string]string{"from": "host.old", "to": "host.h"}},
		"check":               {head: "check \"c\" {\nassert {\ncondition = true\nerror_message = \"x\"\n}"},
		"policy":              {head: "policy {"},
		"module":              {head: `module "m" {`, attrs: map[string]string{"source": `"./m"`}, says: map[string]string{"source": `"./modules/rack"`}},
		"output":              {head: `output "o" {`, attrs: map[string]string{"value": "1"}},
		"variable.validation": {head: "variable \"v\" {\ndefault = \"x\"\nvalidation {", attrs: map[string]string{"condition": "true", "error_message": `"x"`}, tail: "}\n", says: saysAssertion},
		"check.assert":        {head: "check \"c\" {\nassert {", attrs: map[string]string{"condition": "true", "error_message": `"x"`}, tail: "}\n", says: saysAssertion},
		"policy.window":       {head: "policy {\nwindow {", attrs: map[string]string{"from": `"22:00"`, "to": `"06:00"`}, tail: "}\n"},
	}
	all["export"] = all["export"].but("keep", sample{head: `export "nbd" "e" {`, attrs: map[string]string{"image": "image.i", "mode": `"copy-on-write"`}, addr: "export.nbd.e"})
	all["export"] = all["export"].but("limit", sample{head: `export "nbd" "e" {`, attrs: map[string]string{"image": "image.i", "mode": `"copy-on-write"`}, addr: "export.nbd.e"})
	all["bootloader"] = all["bootloader"].but("fallback", sample{head: `bootloader "ipxe" "b" {`, attrs: map[string]string{"entries": "[entry.t]"}, addr: "bootloader.ipxe.b"})
	noContent := all["image.file"]
	noContent.attrs = map[string]string{"source": `"root.tar"`}
	all["image.file"] = all["image.file"].but("source", noContent)
	noContent.attrs = map[string]string{"symlink": `"x"`}
	all["image.file"] = all["image.file"].but("symlink", noContent)
	withURL := all["image.disk"]
	withURL.attrs = map[string]string{"url": `"https://a.example/b"`, "sha256": `"` + strings.Repeat("0", 64) + `"`}
	all["image.disk"] = all["image.disk"].but("url", withURL)
	dracut := sample{head: inImage + "initramfs \"dracut\" {", addr: "image.i", at: "initramfs.", tail: "}\n"}
	all["image.initramfs"] = all["image.initramfs"].but("hooks", dracut).but("binaries", dracut)
	all["export"] = all["export"].but("mode", sample{head: `export "nbd" "e" {`, attrs: map[string]string{"image": "image.i", "allow": "[host.h]"}, addr: "export.nbd.e"})
	overNFS := sample{head: around["export"] + `export "nfs" "n" {`, attrs: map[string]string{"image": "image.i"}, addr: "export.nfs.n"}
	all["export"] = all["export"].but("path", overNFS).but("clients", overNFS).but("options", overNFS)
	for _, p := range standardPorts {
		all["server."+p.protocol] = sample{head: "server \"main\" {\naddress = \"10.0.0.1\"\n" + p.protocol + " {", addr: "server.main", at: p.protocol + ".", tail: "}\n"}
	}
	for kind, head := range map[string]string{
		"entry": "entry \"t\" {\nimage = image.i\nroot = export.nbd.e\n", "group": "group \"g\" {\n", "host": "host \"h\" {\nmac = \"52:54:00:00:00:01\"\n",
	} {
		addr := map[string]string{"entry": "entry.t", "group": "group.g", "host": "host.h"}[kind]
		all[kind+".mount"] = sample{head: head + "mount \"/m\" {", attrs: map[string]string{"type": `"tmpfs"`}, addr: addr, at: `mount["/m"].`, tail: "}\n"}
		noContent := sample{head: head + "file \"/f\" {", attrs: map[string]string{"source": `"root.tar"`}, addr: addr, at: `file["/f"].`, tail: "}\n"}
		all[kind+".file"] = sample{head: head + "file \"/f\" {", attrs: map[string]string{"content": `"x"`}, addr: addr, at: `file["/f"].`, tail: "}\n"}.but("source", noContent)
		all[kind+".state"] = sample{head: head + "state \"/s\" {", addr: addr, at: `state["/s"].`, tail: "}\n"}
	}
	return all
}

// but gives a sample with another one for an attribute.
func (s sample) but(attr string, other sample) sample {
	s.forAttr = maps.Clone(s.forAttr)
	if s.forAttr == nil {
		s.forAttr = map[string]sample{}
	}
	s.forAttr[attr] = other
	return s
}

// tell loads the site with a block of the path in it.
func (s sample) tell(path, block string) (*Desired, []Diagnostic) {
	kind, _, _ := strings.Cut(path, ".")
	text := block
	for _, k := range slices.Sorted(maps.Keys(around)) {
		if k != kind {
			text += around[k]
		}
	}
	tree := files("site.hcl", text, "root.tar", "tar", "root/etc/motd", "x", "m/m.hcl", "locals {\n}\n")
	if kind == "output" { // which stands in modules only
		tree = files("site.hcl", "module \"m\" {\nsource = \"./m\"\n}\n", "m/m.hcl", block)
	}
	d, diags := Load(tree, Options{})
	return d, ToDiagnostics(diags)
}

// What is documented of types and defaults is what decoding does.
func TestDocumentedValues(t *testing.T) {
	all := samples()
	used := map[string]bool{}
	var visit func(prefix string, docs []BlockDoc)
	visit = func(prefix string, docs []BlockDoc) {
		for _, d := range docs {
			path := prefix + d.Name
			used[path] = true
			s, ok := all[path]
			if !ok {
				t.Errorf("no sample of %s", path)
				continue
			}
			t.Run(path, func(t *testing.T) { checkValues(t, path, d, s) })
			visit(path+".", d.Blocks)
		}
	}
	visit("", Language())
	for path := range all {
		if !used[path] && path != "server.nfs" {
			t.Errorf("a sample of %s, which is not documented", path)
		}
	}
}

var backticked = regexp.MustCompile("`([a-z-]+)`")

// load loads the sample as it is, and gives the attributes of its resource.
func (s sample) load(t *testing.T, path string) (*Desired, map[string]Attr) {
	t.Helper()
	d, diags := s.tell(path, s.text("", ""))
	if d == nil {
		t.Fatalf("the sample is wrong: %v", diags)
	}
	attrs := map[string]Attr{}
	for _, r := range d.Resources {
		if r.Addr.String() == s.addr {
			for _, a := range r.Attrs {
				attrs[a.Name] = a
			}
		}
	}
	return d, attrs
}

func checkValues(t *testing.T, path string, d BlockDoc, whole sample) {
	for _, a := range d.Attrs {
		s := whole
		if other, ok := whole.forAttr[a.Name]; ok {
			s = other
		}
		plain, attrs := s.load(t, path)
		values := backticked.FindAllStringSubmatch(a.Unserved, -1)
		want := d.Unserved != "" || a.Unserved != "" && values == nil
		if got := len(plain.Unserved()) > 0; got != want {
			t.Errorf("%s: documented as served %t, found %t: %v", a.Name, !want, !got, plain.Unserved())
		}
		for _, v := range values { // the others are served
			if d, diags := s.tell(path, s.text(a.Name, strconv.Quote(v[1]))); d == nil || len(d.Unserved()) == 0 {
				t.Errorf("%s = %q: documented as not served, and it is, or is no value: %v", a.Name, v[1], diags)
			}
		}
		_, written := s.attrs[a.Name]
		if a.Required != (written && a.Otherwise == "" && a.Default == "") {
			t.Errorf("%s: required %t, in the sample %t", a.Name, a.Required, written)
		}
		if a.Required {
			without := s
			without.attrs = maps.Clone(s.attrs)
			delete(without.attrs, a.Name)
			if d, _ := s.tell(path, without.text("", "")); d != nil {
				t.Errorf("%s: required, and may be left out", a.Name)
			}
		}
		checkType(t, path, a, s)
		if written {
			continue
		}
		recorded, there := attrs[s.at+a.Name]
		switch {
		case a.Default != "":
			same, diags := s.tell(path, s.text(a.Name, a.Default))
			if same == nil {
				t.Errorf("%s = %s is not accepted: %v", a.Name, a.Default, diags)
			} else if diff := cmp.Diff(meaning(plain), meaning(same)); diff != "" || !cmp.Equal(plain.Policy, same.Policy, cmpopts.IgnoreTypes(Range{})) {
				t.Errorf("%s = %s is not what leaving it out means (-left out +written):\n%s", a.Name, a.Default, diff)
			}
			if s.addr != "" && (!there || recorded.Value != asDefault(a)) {
				t.Errorf("%s: the default is %s, and %s is documented", a.Name, recorded.Value, a.Default)
			}
		case slices.Contains([]string{"none", "not sent", "not checked"}, a.Otherwise) && there:
			t.Errorf("%s: the default is %s, and %s is documented", a.Name, recorded.Value, a.Otherwise)
		}
	}
}

// asDefault is the documented default as plans have it.
func asDefault(a AttrDoc) string {
	var v any
	if json.Unmarshal([]byte(a.Default), &v) != nil {
		return a.Default
	}
	return canonical(v)
}

// wrongValues has, for each documented type, values that are not of it, and a part of
// what is said of them.
var wrongValues = map[string][][2]string{
	"string":                 {{`[[]]`, "It must be text"}},
	"IPv4 address":           {{`[[]]`, "It must be text"}, {`"10.0.0"`, "IPv4 address"}},
	"IPv4 network":           {{`[[]]`, "It must be text"}, {`"10.0.0.0"`, "10.0.0.0/24"}},
	"duration":               {{`[[]]`, "It must be text"}, {`"10"`, "10m"}},
	"size":                   {{`[[]]`, "It must be text"}, {`"1 GB"`, "GiB"}},
	"path in the repo":       {{`[[]]`, "It must be text"}, {`"/etc/x"`, "relative"}},
	"bool":                   {{`[[]]`, "It must be true or false"}},
	"number":                 {{`[[]]`, "It must be a whole number"}, {`-1`, "It must be a whole number between"}},
	"number or string":       {{`[[]]`, "It must be text"}, {`"x"`, "a number of resources"}},
	"list of strings":        {{`[[]]`, "It must be a list of text"}},
	"set of strings":         {{`[[]]`, "It must be a list of text"}},
	"list of IPv4 addresses": {{`[[]]`, "It must be a list of text"}, {`["10.0.0"]`, "IPv4 address"}},
	"map of strings":         {{`[[]]`, "It must be a map of text"}},
	"type":                   {{`[[]]`, "A type is"}},
	"any":                    nil,
	"address":                {{`[[]]`, "host.a"}},

	"reference to a server":                      {{`"x"`, "must be a reference"}, {`true`, "such as server.name"}},
	"reference to an image":                      {{`"x"`, "must be a reference"}, {`true`, "such as image.name"}},
	"reference to an export":                     {{`"x"`, "must be a reference"}, {`true`, "such as export.nbd.name"}},
	"reference to an entry":                      {{`"x"`, "must be a reference"}, {`true`, "such as entry.name"}},
	"reference to a group":                       {{`"x"`, "must be a reference"}, {`true`, "such as group.name"}},
	"reference to a bootloader, or list of them": {{`true`, "such as bootloader.ipxe.name"}, {`[true]`, "such as bootloader.ipxe.name"}},
	"list of references to entries":              {{`true`, "[entry.name]"}, {`[true]`, "such as entry.name"}},
	"list of references to subnets and hosts":    {{`true`, "[subnet.name]"}, {`[true]`, "such as subnet.name"}},
}

func checkType(t *testing.T, path string, a AttrDoc, s sample) {
	t.Helper()
	wrong, ok := wrongValues[a.Type]
	if !ok {
		t.Errorf("%s: no such type: %s", a.Name, a.Type)
	}
	for _, w := range wrong {
		if says := s.says[a.Name]; says != "" {
			w[1] = says
		}
		d, diags := s.tell(path, s.text(a.Name, w[0]))
		if d != nil || !slices.ContainsFunc(diags, func(x Diagnostic) bool { return strings.Contains(x.Detail, w[1]) }) {
			t.Errorf("%s = %s: %v, want %q, since it is documented as %s", a.Name, w[0], diags, w[1], a.Type)
		}
	}
}
