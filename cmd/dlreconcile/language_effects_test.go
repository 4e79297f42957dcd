package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/schema"
)

// changed is another value for an attribute of effectSite, by the path of its block.
type changed struct {
	path, attr, before, after string
	// seen is false where the plan of this site has nothing to say of a machine: the
	// effect is on a lease or a socket that nobody has.
	unseen bool
}

// changedAttributes has a change of every attribute of a resource that is served and
// may be said in two ways.
var changedAttributes = []changed{
	{path: "server", attr: "address", before: `"10.0.0.1"`, after: `"10.0.0.2"`},
	{path: "server", attr: "interface", before: `"eth0"`, after: `"eth1"`},
	{path: "server.dhcp", attr: "listen", before: `":67"`, after: `":1067"`},
	{path: "server.tftp", attr: "listen", before: `":69"`, after: `":1069"`},
	{path: "server.http", attr: "listen", before: `":80"`, after: `":1080"`},
	{path: "server.nbd", attr: "listen", before: `":10809"`, after: `":10810"`},
	{path: "image", attr: "hostname", before: `"a"`, after: `"b"`},
	{path: "image", attr: "timezone", before: `"UTC"`, after: `"Europe/Berlin"`},
	{path: "image", attr: "locale", before: `"C.UTF-8"`, after: `"en_US.UTF-8"`},
	{path: "image", attr: "keymap", before: `"us"`, after: `"de"`},
	{path: "image", attr: "mask", before: `[]`, after: `["a.service"]`},
	{path: "image.debootstrap", attr: "suite", before: `"bookworm"`, after: `"trixie"`},
	{path: "image.debootstrap", attr: "mirror", before: `"http://a.example/"`, after: `"http://b.example/"`},
	{path: "image.debootstrap", attr: "components", before: `["main"]`, after: `["main", "contrib"]`},
	{path: "image.debootstrap", attr: "packages", before: `["a1"]`, after: `["b1"]`},
	{path: "image.debootstrap", attr: "variant", before: `"minbase"`, after: `"apt"`},
	{path: "image.debootstrap", attr: "keyring", before: `"one"`, after: `"two"`},
	{path: "image.debootstrap", attr: "arch", before: `"amd64"`, after: `"arm64"`},
	{path: "image.file", attr: "content", before: `"a"`, after: `"b"`},
	{path: "image.file", attr: "permissions", before: `"0644"`, after: `"0600"`},
	{path: "image.file", attr: "owner", before: `0`, after: `1`},
	{path: "image.file", attr: "group", before: `0`, after: `1`},
	{path: "image.initramfs", attr: "modules", before: `[]`, after: `["a"]`},
	{path: "image.initramfs", attr: "compress", before: `"zstd"`, after: `"xz"`},
	{path: "image.filesystem", attr: "size", before: `"1GiB"`, after: `"2GiB"`},
	{path: "image.filesystem", attr: "label", before: `"a"`, after: `"b"`},
	{path: "image.filesystem", attr: "compress", before: `"zstd"`, after: `"lzo"`},
	{path: "export", attr: "mode", before: `"read-only"`, after: `"copy-on-write"`},
	{path: "export", attr: "allow", before: `[subnet.s]`, after: `[subnet.s, host.h]`},
	{path: "entry", attr: "title", before: `"a"`, after: `"b"`},
	{path: "entry", attr: "args", before: `["a"]`, after: `["b"]`},
	{path: "entry.mount", attr: "type", before: `"tmpfs"`, after: `"ramfs"`},
	{path: "entry.mount", attr: "device", before: `"a"`, after: `"b"`},
	{path: "entry.mount", attr: "options", before: `["ro"]`, after: `["rw"]`},
	{path: "entry.file", attr: "content", before: `"a"`, after: `"b"`},
	{path: "entry.file", attr: "permissions", before: `"0644"`, after: `"0600"`},
	{path: "entry.file", attr: "owner", before: `0`, after: `1`},
	{path: "entry.file", attr: "group", before: `0`, after: `1`},
	{path: "bootloader", attr: "entries", before: `[entry.t]`, after: `[entry.t, entry.other]`},
	{path: "bootloader", attr: "timeout", before: `0`, after: `5`},
	{path: "bootloader", attr: "protocol", before: `"tftp"`, after: `"http"`},
	{path: "bootloader", attr: "serial", before: `"0,9600"`, after: `"0,115200"`},
	{path: "bootloader", attr: "secure_boot", before: `false`, after: `true`},
	{path: "subnet", attr: "cidr", before: `"10.0.0.0/24"`, after: `"10.0.0.0/16"`},
	{path: "subnet", attr: "mode", before: `"proxy"`, after: `"server"`},
	{path: "subnet", attr: "boot", before: `bootloader.grub.b`, after: `bootloader.ipxe.b`},
	{path: "subnet", attr: "boot_file_name", before: `{}`, after: `{ "7" = "x.efi" }`},
	{path: "subnet", attr: "next_server", before: `"10.0.0.3"`, after: `"10.0.0.4"`},
	{path: "subnet", attr: "lease_time", before: `"1h"`, after: `"2h"`},
	{path: "subnet", attr: "routers", before: `[]`, after: `["10.0.0.254"]`},
	{path: "subnet", attr: "domain_name_servers", before: `[]`, after: `["10.0.0.254"]`},
	{path: "subnet", attr: "domain_name", before: `"a.example"`, after: `"b.example"`},
	{path: "subnet", attr: "ntp_servers", before: `[]`, after: `["10.0.0.254"]`},
	{path: "subnet", attr: "interface_mtu", before: `1500`, after: `9000`},
	{path: "subnet", attr: "authoritative", before: `false`, after: `true`},
	{path: "subnet", attr: "bootp", before: `false`, after: `true`},
	{path: "subnet", attr: "router_advertisement", before: `true`, after: `false`},
	{path: "group", attr: "entry", before: `entry.t`, after: `entry.other`},
	{path: "group", attr: "boot", before: `bootloader.grub.b`, after: `bootloader.ipxe.b`},
	{path: "group", attr: "args", before: `["a"]`, after: `["b"]`},
	{path: "host", attr: "mac", before: `"52:54:00:00:00:01"`, after: `"52:54:00:00:00:02"`},
	{path: "host", attr: "address", before: `"10.0.0.11"`, after: `"10.0.0.12"`},
	{path: "host", attr: "hostname", before: `"a"`, after: `"b"`},
	{path: "host", attr: "group", before: `group.g`, after: `group.other`},
	{path: "host", attr: "entry", before: `entry.t`, after: `entry.other`},
	{path: "host", attr: "boot", before: `bootloader.grub.b`, after: `bootloader.ipxe.b`},
	{path: "host", attr: "args", before: `["a"]`, after: `["b"]`},
}

// unplanned are the attributes that the test leaves out, with the reason.
var unplanned = map[string]string{
	"export.image": "entry and export change together", "entry.image": "likewise", "entry.root": "likewise",
	"export.server": "there is one server", "subnet.server": "likewise",
	"export.tls":  "what a machine has its root from has it in the clear; testdata/plans has the change",
	"export.keep": "of copy-on-write, and the site's is read-only", "export.limit": "likewise", "entry.state.per": "likewise",
	"image.tar.path": "images have one source", "image.tar.sha256": "likewise",
	"image.sealed.digest": "likewise", "image.sealed.filesystem": "likewise",
	"image.file.source": "a file has one of three", "image.file.symlink": "likewise", "entry.file.source": "likewise",
	"bootloader.fallback": "of iPXE, and the site's is GRUB",
	"subnet.pool.range":   "nobody has a lease",
	"server.nfs.listen":   "nobody is served by it",
}

// effectSite writes a site with one machine, and an attribute as it is said.
func effectSite(path, attr, value string) string {
	block := func(at, head string, attrs map[string]string, inner ...string) string {
		attrs = maps.Clone(attrs)
		if attrs == nil {
			attrs = map[string]string{}
		}
		if at == path {
			attrs[attr] = value
		}
		if at == "host" && path == "group" {
			attrs["group"] = "group.g"
		}
		text := head + " {\n"
		for _, n := range slices.Sorted(maps.Keys(attrs)) {
			text += n + " = " + attrs[n] + "\n"
		}
		return text + strings.Join(inner, "") + "}\n"
	}
	image := map[string]string{"image": "image.i"}
	settings := ""
	if strings.HasPrefix(path, "entry.") {
		settings = block("entry.mount", `mount "/m"`, map[string]string{"type": `"tmpfs"`}) + block("entry.file", `file "/f"`, map[string]string{"content": `"x"`})
	}
	return block("server", `server "main"`, map[string]string{"address": `"10.0.0.1"`, "interface": `"eth0"`},
		block("server.dhcp", "dhcp", nil), block("server.tftp", "tftp", nil), block("server.http", "http", nil), block("server.nbd", "nbd", nil)) +
		block("image", `image "i"`, nil,
			block("image.debootstrap", "debootstrap", map[string]string{"suite": `"bookworm"`}), block("image.initramfs", "initramfs", nil),
			block("image.file", `file "/f"`, map[string]string{"content": `"x"`}),
			block("image.filesystem", `filesystem "btrfs"`, map[string]string{"size": `"1GiB"`})) +
		"image \"other\" {\ntar {\npath = \"one\"\n}\nfilesystem \"ext4\" {\nsize = \"1GiB\"\n}\n}\n" +
		block("export", `export "nbd" "e"`, image) +
		block("entry", `entry "t"`, map[string]string{"image": "image.i", "root": "export.nbd.e"}, settings) +
		block("", `entry "other"`, map[string]string{"image": "image.i", "root": "export.nbd.e", "title": `"other"`}) +
		block("bootloader", `bootloader "grub" "b"`, map[string]string{"entries": "[entry.t]"}) +
		block("", `bootloader "ipxe" "b"`, map[string]string{"entries": "[entry.t]"}) +
		block("subnet", `subnet "s"`, map[string]string{"cidr": `"10.0.0.0/24"`, "boot": "bootloader.grub.b"}) +
		block("group", `group "g"`, nil) + block("", `group "other"`, map[string]string{"args": `["other"]`}) +
		block("host", `host "h"`, map[string]string{"mac": `"52:54:00:00:00:01"`, "address": `"10.0.0.11"`})
}

func loadSite(t *testing.T, text string) *schema.Desired {
	t.Helper()
	tree := fstest.MapFS{"site.hcl": {Data: []byte(text)}, "one": {Data: []byte("1")}, "two": {Data: []byte("2")}}
	d, diags := schema.Load(tree, schema.Options{})
	if diags.HasErrors() {
		t.Fatalf("%v\n%s", diags, text)
	}
	return d
}

// What docs/language.md says of the effect of a change is what plans say.
func TestDocumentedEffects(t *testing.T) {
	docs, unserved := map[string]schema.AttrDoc{}, map[string]bool{}
	var collect func(prefix string, blocks []schema.BlockDoc)
	collect = func(prefix string, blocks []schema.BlockDoc) {
		for _, b := range blocks {
			unserved[prefix+b.Name] = b.Unserved != ""
			for _, a := range b.Attrs {
				docs[prefix+b.Name+"."+a.Name] = a
			}
			collect(prefix+b.Name+".", b.Blocks)
		}
	}
	collect("", schema.Language())
	told := map[string]bool{}
	for _, c := range changedAttributes {
		told[c.path+"."+c.attr] = true
	}
	for name, doc := range docs {
		kind, _, _ := strings.Cut(name, ".")
		shared := kind == "group" || kind == "host" // their mounts, files and states are those of an entry
		switch {
		case !slices.Contains([]string{"server", "image", "export", "entry", "bootloader", "subnet", "group", "host"}, kind):
		case shared && strings.Count(name, ".") > 1:
		case told[name] && unplanned[name] != "":
			t.Errorf("%s is left out, and told", name)
		case !told[name] && unplanned[name] == "" && !strings.HasSuffix(name, ".enabled") && doc.Unserved == "" && !unserved[strings.TrimSuffix(name, "."+doc.Name)]:
			t.Errorf("%s: nobody holds its effect against a plan", name)
		}
	}
	for _, c := range changedAttributes {
		name := c.path + "." + c.attr
		t.Run(name, func(t *testing.T) {
			doc, ok := docs[name]
			if !ok {
				t.Fatal("it is not documented")
			}
			seen := effectsOf(t, c)
			for _, e := range seen {
				if !slices.Contains(doc.Effects, e) {
					t.Errorf("the plan says %q, which is not documented: %q", e, doc.Effects)
				}
			}
			for _, e := range doc.Effects {
				if !slices.Contains(seen, e) && !c.unseen && slices.Contains([]schema.Effect{schema.EffectBoot, schema.EffectRenewal, schema.EffectConnection, schema.EffectRebuild}, e) {
					t.Errorf("%q is documented, and the plan says %q", e, seen)
				}
			}
		})
	}
}

// effectsOf gives the effects that a plan of the change tells.
func effectsOf(t *testing.T, c changed) []schema.Effect {
	t.Helper()
	have, want := loadSite(t, effectSite(c.path, c.attr, c.before)), loadSite(t, effectSite(c.path, c.attr, c.after))
	built := map[string]string{}
	for _, im := range have.Images {
		built[im.Recipe] = "sha256:" + strings.Repeat("7", 64)
	}
	p := plan.Compute(plan.Input{Want: want, Applied: &plan.Applied{Generation: 1, Desired: have, Artifacts: built}, Built: built})
	kind, _, _ := strings.Cut(c.path, ".")
	i := slices.IndexFunc(p.Changes, func(ch plan.Change) bool { return ch.Address.Kind == kind && ch.Reason == plan.SpecChanged })
	if i < 0 {
		t.Fatalf("no change of %s: %+v", kind, p.Changes)
	}
	var out []schema.Effect
	for _, im := range p.Changes[i].Impact {
		switch {
		case im.Effect == plan.EffectNextBoot && kind == "image":
			out = append(out, schema.EffectRebuild)
		case im.Effect == plan.EffectNextBoot:
			out = append(out, schema.EffectBoot)
		case im.Effect == plan.EffectDiscards:
			out = append(out, schema.EffectDiscards)
		case im.Effect != plan.EffectLive:
		case strings.Contains(im.Detail, "connection"):
			out = append(out, schema.EffectConnection)
		case strings.Contains(im.Detail, "renewal"), strings.Contains(im.Detail, "->"):
			out = append(out, schema.EffectRenewal)
		default:
			out = append(out, schema.EffectLive)
		}
	}
	return out
}
