package schema

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// TestHostile loads trees that were written to hurt. Each must end soon with a
// diagnostic; what they test is mostly that the process survives.
func TestHostile(t *testing.T) {
	many := func(n int, f func(int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(f(i))
		}
		return b.String()
	}
	rep := strings.Repeat
	local := func(e string) string { return "locals {\n  a = " + e + "\n}\n" }
	for name, tree := range map[string]fstest.MapFS{
		"parentheses":         files("a.hcl", local(rep("(", 100_000))),
		"blocks":              files("a.hcl", rep("a {\n", 100_000)),
		"not":                 files("a.hcl", local(rep("!", 200_000)+"true")),
		"minus":               files("a.hcl", local(rep("-", 200_000)+"1")),
		"conditionals":        files("a.hcl", local(rep("true ? 1 : ", 50_000)+"1")),
		"conditionals inside": files("a.hcl", local(rep("true ? ", 50_000)+"1")),
		"sum":                 files("a.hcl", local(rep("1+", 300_000)+"1")),
		"sum over lines":      files("a.hcl", local("{for x in [1] : x => 1"+rep(" +\n 1", 50_000)+"}")),
		"sum in parentheses":  files("a.hcl", local("("+rep("1 +\n", 50_000)+"1)")),
		"index":               files("a.hcl", local("local.a"+rep("[0]", 100_000))),
		"dots":                files("a.hcl", local("local.a"+rep(".b", 100_000))),
		"splat":               files("a.hcl", local("[1]"+rep("[*]", 100_000))),
		"quotes":              files("a.hcl", local(rep(`"${`, 50_000))),
		"template if":         files("a.hcl", local(`"`+rep(`%{if true}`, 50_000)+rep(`%{endif}`, 50_000)+`"`)),
		"heredoc":             files("a.hcl", local("<<E\n"+rep("${<<E\n", 10_000))),
		"interpolations":      files("a.hcl", local(`"`+rep(`${1}`, 60_000)+`"`)),
		"calls":               files("a.hcl", local(rep("upper(", 90)+`"x"`+rep(")", 90)+rep("+1", 10_001))),
		"try":                 files("a.hcl", local(rep("try(", 95)+"nothing"+rep(")", 95))),
		"large file":          files("a.hcl", "# "+rep("x", maxConfigBytes)),
		"json arrays":         files("a.hcl.json", rep("[", 500_000)),
		"json objects":        files("a.hcl.json", rep(`{"a":`, 100_000)),
		"json template":       files("a.hcl.json", `{"locals":{"a":"`+rep("${[", 50_000)+`"}}`),
		"json digits":         files("a.hcl.json", `{"locals":{"a":`+rep("9", 900_000)+`}}`),
		"digits":              files("a.hcl", local(rep("9", 900_000))),
		"exponent":            files("a.hcl", local(`"${1e999999999}"`)),
		"exponent in text":    files("a.hcl", local(`"${"1e999999999" * 1}"`)),
		"exponent in json":    files("a.hcl", local(`"${jsondecode("1e999999999")}"`)),
		"json digits in data": files("a.hcl", local(`jsondecode(file("x"))`), "x", rep("9", 4_000_000)),
		"json depth in data":  files("a.hcl", local(`jsondecode(file("x"))`), "x", rep("[", 4_000_000)),
		"yaml depth in data":  files("a.hcl", local(`yamldecode(file("x"))`), "x", rep("[", 4_000_000)),
		"csv cells":           files("a.hcl", local(`csvdecode(file("x"))`), "x", rep(",", 4_000_000)),
		"split":               files("a.hcl", local(`split(",", file("x"))`), "x", rep(",", 4_000_000)),
		"tonumber":            files("a.hcl", local(`tonumber(file("x"))`), "x", rep("9", 4_000_000)),
		"number by adding":    files("a.hcl", local(`file("x") + 1`), "x", rep("9", 4_000_000)),
		"number by index":     files("a.hcl", local(`[1][file("x")]`), "x", rep("9", 4_000_000)),
		"number by parameter": files("a.hcl", local(`max(file("x"), 1)`), "x", rep("9", 4_000_000)),
		"number by attribute": files("a.hcl", `bootloader "ipxe" "a" {`+"\n"+`timeout = file("x")`+"\n"+`entries = []`+"\n}", "x", rep("9", 4_000_000)),
		"large data":          files("a.hcl", local(`file("x")`), "x", rep("x", maxDataBytes+1)),
		"binary data":         files("a.hcl", local(`file("x")`), "x", "\xff\xfe"),
		"data again":          files("a.hcl", local(`[for i in range(1000) : upper(file("x"))]`), "x", rep("x", maxDataBytes)),
		"parsed again":        files("a.hcl", local(`[for i in range(100000) : length(csvdecode(file("x")))]`), "x", machines(t, 10_000)),
		"compared again":      files("a.hcl", "locals {\n a = csvdecode(file(\"x\"))\n b = [for i in range(100000) : local.a == local.a]\n}", "x", machines(t, 10_000)),
		"chosen again":        files("a.hcl", "locals {\n a = csvdecode(file(\"x\"))\n b = [for i in range(100000) : true ? local.a : []]\n}", "x", machines(t, 10_000)),
		"contained again":     files("a.hcl", "locals {\n a = range(50000)\n b = [for i in local.a : i if contains(local.a, -1)]\n}"),
		"merged again":        files("a.hcl", "locals {\n a = { for i in range(30000) : \"k${i}\" => i }\n b = [for k, i in local.a : i if length(merge(local.a, { z = 1 })) == 1]\n}"),
		"distinct":            files("a.hcl", local(`distinct([for i in range(100000) : "${i}"])`)),
		"regex":               files("a.hcl", local(`regexall("((a{1,30}){1,30})*$", file("x"))`), "x", rep("a", 4_000_000)),
		"sets":                files("a.hcl", local(`toset(range(50000))`)),
		"regex compiled":      files("a.hcl", local(`regex("`+rep("(x{1000})", 100)+`", "x")`)),
		"loop of mistakes":    files("a.hcl", local("[for i in range(100000) : i.x]")),
		"loops of mistakes":   files("a.hcl", local("[for i in range(100000) : [for j in range(100000) : nothing]]")),
		"splats":              files("a.hcl", "locals {\n a = range(100000)\n b = local.a[*].x\n}"),
		"locals":              files("a.hcl", "locals {\n"+many(20_000, func(i int) string { return fmt.Sprintf("a%d = local.a%d\n", i, i+1) })+"}"),
		"deep locals": files("a.hcl", "locals {\n"+many(90, func(i int) string {
			return fmt.Sprintf("a%03d = local.a%03d%s\n", i, i+1, rep("+1", 4000))
		})+"a090 = 1\n}"),
		"nested values":      files("a.hcl", "locals {\n"+many(400, func(i int) string { return fmt.Sprintf("a%03d = [%s]\n", i, prev(i)) })+"}"),
		"templates":          files("a.hcl", local(`templatefile("x", {})`), "x", `${templatefile("y", {})}`, "y", `${templatefile("x", {})}`),
		"large template":     files("a.hcl", local(`templatefile("x", {})`), "x", rep("${1}", 100_000)),
		"deep template":      files("a.hcl", local(`templatefile("x", {})`), "x", rep("${[", 100_000)),
		"loop in a template": files("a.hcl", local(`templatefile("x", { l = range(100000) })`), "x", "%{for a in l}%{for b in l}x%{endfor}%{endfor}"),
		"instances":          files("a.hcl", "host \"a\" {\n for_each = { for i in range(60000) : i => i }\n mac = \"x\"\n}\nhost \"b\" {\n for_each = { for i in range(60000) : i => i }\n mac = \"x\"\n}"),
		"long key":           files("a.hcl", "host \"a\" {\n for_each = toset([\""+rep("x", 1000)+"\"])\n mac = \"x\"\n}"),
		"dangling":           files("a.hcl", many(20_000, func(i int) string { return fmt.Sprintf("host \"h%d\" {\n entry = entry.e%d\n mac = \"x\"\n}\n", i, i) })),
		"unknown blocks":     files("a.hcl", many(40_000, func(i int) string { return fmt.Sprintf("blok%d {}\n", i) })),
		"twice":              files("a.hcl", many(40_000, func(int) string { return "server \"a\" {}\n" })),
		"syntax errors":      files("a.hcl", many(40_000, func(int) string { return "a = = \"\n" })),
		"pools": files("a.hcl", "server \"a\" {\n address = \"10.0.0.1\"\n}\nsubnet \"a\" {\n cidr = \"10.0.0.0/8\"\n"+many(10_000, func(int) string {
			return "pool {\n range = \"10.0.0.1-10.0.0.9\"\n}\n"
		})+"}"),
		"settings":       files("a.hcl", "group \"a\" {\n"+many(10_000, func(i int) string { return fmt.Sprintf("mount \"/%d\" {\n}\nstate \"/a/%d\" {\n}\n", i, i) })+"}"),
		"deep paths":     files("a.hcl", "group \"a\" {\n"+many(400, func(i int) string { return "state \"" + rep("/a", i+1) + "\" {\n}\n" })+"}"),
		"large settings": files("a.hcl", "host \"a\" {\n for_each = { for i in range(20000) : \"h${i}\" => format(\"52:54:00:00:%02x:%02x\", floor(i / 256), i % 256) }\n mac = each.value\n file \"/a\" {\n content = \"${each.key}${file(\"x\")}\"\n }\n}", "x", rep("x", maxHostFile/2)),
		"many servers": files("a.hcl", many(5_000, func(i int) string {
			return fmt.Sprintf("server \"s%d\" {\n address = \"10.%d.%d.1\"\n http {\n enabled = false\n}\n}\nsubnet \"s%d\" {\n server = server.s%d\n cidr = \"10.%d.%d.0/24\"\n}\nhost \"h%d\" {\n mac = \"52:54:00:00:%02x:%02x\"\n boot = bootloader.ipxe.a\n}\n", i, i/256, i%256, i, i, i/256, i%256, i, i/256, i%256)
		})+site[strings.Index(site, "image"):strings.Index(site, "bootloader")]+"bootloader \"ipxe\" \"a\" {\n entries = [entry.a]\n protocol = \"http\"\n}"),
		"many writers": files("a.hcl", "locals {\n n = toset([for i in range(8000) : \"k${i}\"])\n}\n"+site[:strings.Index(site, "export")]+
			"export \"nbd\" \"e\" {\n for_each = local.n\n image = image.a\n mode = \"read-write\"\n allow = [host.h[each.key]]\n}\n"+
			"entry \"e\" {\n for_each = local.n\n image = image.a\n root = export.nbd.e[each.key]\n}\n"+
			"bootloader \"ipxe\" \"b\" {\n entries = values(entry.e)\n timeout = 5\n}\n"+
			"host \"h\" {\n for_each = local.n\n mac = format(\"52:54:00:00:%02x:%02x\", floor(tonumber(substr(each.key, 1, -1)) / 256), tonumber(substr(each.key, 1, -1)) % 256)\n boot = bootloader.ipxe.b\n entry = entry.e[each.key]\n}"),
		"list of types":  files("a.hcl", local(`join("", concat([for i in range(50000) : "x"], [for i in range(50000) : i]))`)),
		"list attribute": files("a.hcl", "image \"a\" {\n mask = concat([for i in range(50000) : \"x.service\"], [for i in range(50000) : i])\n}"),
		"hosts":          files("a.hcl", "host \"a\" {\n for_each = { for i in range(100000) : i => i }\n mac = format(\"52:54:00:%02x:%02x:%02x\", floor(each.value / 65536), floor(each.value / 256) % 256, each.value % 256)\n}"),
		"files of hosts": files("a.hcl", "host \"a\" {\n for_each = { for i in range(20000) : i => i }\n mac = \"x\"\n"+many(20, func(i int) string { return fmt.Sprintf("file \"/%d\" {\n content = \"x\"\n}\n", i) })+"}"),
		"json in data":   files("a.hcl", local(`jsondecode(file("x"))`), "x", "["+rep("{},", 1_000_000)+"1]"),
		"csv in data":    files("a.hcl", local(`csvdecode(file("x"))`), "x", rep("a\n", 999_000)),
		"yaml in data":   files("a.hcl", local(`yamldecode(file("x"))`), "x", rep("- {a: 1}\n", 440_000)),
		"trimmed":        files("a.hcl", local(`trim(file("x"), file("y"))`), "x", rep("b", 1_000_000), "y", rep("x", 900_000)+"b"),
		"many words":     manyWords(),
		"null bytes":     files("a.hcl", rep("\x00", 1000)),
		"no text":        files("a.hcl", rep("\xff", 1000)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			l := newLoader(tree, Options{})
			l.meter.limit = maxSteps / 10 // the whole of it is tested by limits_work.hcl
			d := l.run()
			diags := l.finish()
			took := time.Since(start)
			if d != nil || !diags.HasErrors() {
				t.Error("accepted")
			}
			if took > 20*time.Second {
				t.Errorf("took %s", took)
			}
			if len(diags) > maxDiagnostics+1 {
				t.Errorf("%d diagnostics", len(diags))
			}
			for _, x := range diags {
				if strings.Contains(x.Summary, "Internal error") {
					t.Error(x)
				}
			}
		})
	}
}

// manyWords is a tree of files that are allowed one by one.
func manyWords() fstest.MapFS {
	tree := fstest.MapFS{}
	for i := range 60 {
		tree[fmt.Sprintf("f%d.hcl", i)] = &fstest.MapFile{Data: []byte(fmt.Sprintf("locals {\n a%d = [", i) + strings.Repeat("1,", 500_000) + "1]\n}\n")}
	}
	return tree
}

func prev(i int) string {
	if i == 0 {
		return ""
	}
	return fmt.Sprintf("local.a%03d", i-1)
}

// TestTooManyFiles counts files, and the bytes of all of them.
func TestTooManyFiles(t *testing.T) {
	tree := fstest.MapFS{}
	for i := range 20 {
		name := fmt.Sprintf("x%d", i)
		tree[name] = &fstest.MapFile{Data: []byte(strings.Repeat("x", maxDataBytes))}
		tree[name+".hcl"] = &fstest.MapFile{Data: []byte("locals {\n " + name + " = startswith(file(\"" + name + "\"), \"y\")\n}")}
	}
	if got := mustFail(t, tree, Options{}); !strings.Contains(got, "reads too much") {
		t.Error(got)
	}
}

// FuzzLoad looks for bytes that crash Load, keep it busy, or make it forget why it
// failed.
func FuzzLoad(f *testing.F) {
	for _, dir := range []string{"../testdata/valid", "../testdata/invalid"} {
		err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), "limits_") {
				return err
			}
			if json := strings.HasSuffix(path, ".hcl.json"); json || strings.HasSuffix(path, ".hcl") {
				src, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				f.Add(src, json)
			}
			return nil
		})
		if err != nil {
			f.Fatal(err)
		}
	}
	f.Add([]byte("group \"g\" {\n for_each = toset([\"a\"])\n args = [each.key]\n mount \"/\" {\n options = [\"ro\"]\n }\n file \"/etc/t\" {\n source = \"t\"\n }\n state \"/srv\" {}\n}\nhost \"h\" {\n mac = \"52:54:00:00:00:01\"\n group = group.g[\"a\"]\n}"), false)
	f.Add([]byte("image \"i\" {\n directory {\n path = \"d\"\n }\n copy \"/a\" {\n from = \"/b\"\n replace = { x = \"y\" }\n }\n initramfs \"dracut\" {\n hooks = [\"nbd\"]\n }\n filesystem \"squashfs\" {}\n}"), false)
	f.Add([]byte("image \"i\" {\n pacstrap {\n files = [\"p.pkg.tar\"]\n }\n filesystem \"squashfs\" {}\n}\nexport \"nfs\" \"e\" {\n image = image.i\n clients = [\"10.0.0.0/255.0.0.0\"]\n options = [\"anonuid=1\"]\n}\nserver \"s\" {\n address = \"10.0.0.1\"\n nfs {\n listen = \":1\"\n }\n}"), false)
	f.Add([]byte("locals {\n a = [for x in range(3) : templatefile(\"t\", { x = x })]\n}"), false)
	f.Add([]byte("module \"m\" {\n source = \"m\"\n for_each = { a = 1, b = module.m[\"a\"].o }\n v = [each.value, module.m]\n}\nvariable \"v\" {\n default = host.h\n}\noutput \"o\" {\n value = var.v\n}\nhost \"h\" {\n mac = \"52:54:00:00:00:01\"\n}\nmoved {\n from = host.g\n to = module.m[\"a\"].host.h\n}"), false)
	f.Fuzz(func(t *testing.T, src []byte, json bool) {
		if len(src) > 64<<10 {
			return
		}
		name := "a.hcl"
		if json {
			name += ".json"
		}
		tree := fstest.MapFS{name: {Data: src}, "t": {Data: []byte("${x} %{if true}y%{endif}")}, "hosts.csv": {Data: []byte("name,mac\na,52:54:00:00:00:01\n")}, "d/x": {Data: []byte("x")}, "d/y": {Data: []byte("x"), Mode: fs.ModeSymlink}, "p.pkg.tar": {}}
		tree["m/"+name] = tree[name] // what it says is a module, too
		start := time.Now()
		d, diags := Load(tree, Options{})
		if took := time.Since(start); took > 30*time.Second {
			t.Fatalf("took %s", took)
		}
		if (d == nil) != diags.HasErrors() {
			t.Fatalf("desired state %t with %v", d != nil, diags)
		}
		for _, x := range diags {
			if x.Summary == "Internal error" {
				t.Fatal(x)
			}
		}
	})
}
