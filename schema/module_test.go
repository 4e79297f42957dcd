package schema

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// include is a module block with for_each over n keys.
func include(source string, n int, inputs string) string {
	return fmt.Sprintf("module \"m\" {\n  source = %q\n  for_each = { for i in range(%d) : \"k${i}\" => i }\n  %s\n}\n", source, n, inputs)
}

// TestHostileModules loads modules that were written to hurt. Each must end soon, with
// a diagnostic, and without much memory.
func TestHostileModules(t *testing.T) {
	blocks := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "group \"g%d\" {\n  args = [\"x\"]\n}\n", i)
		}
		return b.String()
	}
	locals := func(n int) string {
		var b strings.Builder
		b.WriteString("locals {\n")
		for i := range n {
			fmt.Fprintf(&b, "  a%d = %d\n", i, i)
		}
		return b.String() + "}\n"
	}
	deep := fstest.MapFS{}
	for i := range 200 {
		deep[strings.Repeat("m/", i)+"a.hcl"] = &fstest.MapFile{Data: []byte("module \"m\" {\n  source = \"m\"\n}\n")}
	}
	for name, tree := range map[string]fstest.MapFS{
		"itself":          files("a.hcl", include(".", 1000, "")),
		"itself in a way": files("a.hcl", include("./m/..", 1000, ""), "m/a.hcl", ""),
		"each other":      files("a.hcl", include("m", 10, ""), "m/a.hcl", include("../n", 10, ""), "n/a.hcl", include("../m", 10, "")),
		"deep":            deep,
		"wide":            files("a.hcl", include("m", 1000, ""), "m/a.hcl", include("m", 1000, ""), "m/m/a.hcl", include("m", 1000, ""), "m/m/m/a.hcl", "locals {\n}\n"),
		"too many":        files("a.hcl", include("m", 100_000, ""), "m/a.hcl", "locals {\n}\n"),
		"blocks":          files("a.hcl", include("m", 1000, ""), "m/a.hcl", blocks(10_000)),
		"locals":          files("a.hcl", include("m", 1000, ""), "m/a.hcl", locals(40_000)),
		"loop in an input": files("a.hcl", include("m", 1000, "a = [for i in range(1000) : [for j in range(1000) : i]]"),
			"m/a.hcl", "variable \"a\" {\n}\nlocals {\n  a = length(var.a)\n}\n"),
		"loops over an input": files("a.hcl", "locals {\n  a = range(100000)\n}\n"+include("m", 1000, "a = local.a"),
			"m/a.hcl", "variable \"a\" {\n  type = list(string)\n}\nlocals {\n  a = [for x in var.a : [for y in var.a : x]]\n}\n"),
		"doubled by each module": files("a.hcl", "module \"m\" {\n  source = \"m\"\n  a = \"x\"\n}\n",
			"m/a.hcl", "variable \"a\" {\n}\nmodule \"m\" {\n  source = \"m\"\n  a = join(\"\", [for i in range(1000) : var.a])\n}\n",
			"m/m/a.hcl", "variable \"a\" {\n}\nmodule \"m\" {\n  source = \"m\"\n  a = join(\"\", [for i in range(1000) : var.a])\n}\n",
			"m/m/m/a.hcl", "variable \"a\" {\n}\nmodule \"m\" {\n  source = \"m\"\n  a = join(\"\", [for i in range(1000) : var.a])\n}\n",
			"m/m/m/m/a.hcl", "variable \"a\" {\n}\nlocals {\n  a = upper(var.a)\n}\n"),
		"all outputs of all": files("a.hcl", include("m", 1000, "")+"locals {\n  a = [for i in range(100000) : module.m]\n}\n",
			"m/a.hcl", locals(1)+"output \"a\" {\n  value = range(100)\n}\n"),
		"chain": files("a.hcl", func() string {
			var b strings.Builder
			for i := range 900 {
				fmt.Fprintf(&b, "module \"m%d\" {\n  source = \"m\"\n  a = module.m%d.a\n}\n", i, i+1)
			}
			return b.String() + "module \"m900\" {\n  source = \"m\"\n  a = module.m0.a\n}\n"
		}(), "m/a.hcl", "variable \"a\" {\n}\noutput \"a\" {\n  value = var.a\n}\n"),
		"mistakes":        files("a.hcl", include("m", 1000, "a = each.value"), "m/a.hcl", "variable \"a\" {\n}\nlocals {\n  a = var.a.x\n}\nhost \"a\" {\n  mac = var.a\n}\n"),
		"unknown inputs":  files("a.hcl", "module \"m\" {\n  source = \"m\"\n"+strings.Repeat("  x = 1\n", 1)+locals(5000)[9:], "m/a.hcl", "locals {\n}\n"),
		"missing inputs":  files("a.hcl", include("m", 1000, ""), "m/a.hcl", strings.ReplaceAll(strings.ReplaceAll(blocks(5000), "group", "variable"), "args = [\"x\"]", "")),
		"moved":           files("a.hcl", include("m", 1000, "")+strings.Repeat("moved {\n  from = host.a\n  to = module.m[\"x\"].host.a\n}\n", 10_000), "m/a.hcl", "host \"a\" {\n  mac = \"x\"\n}\n"),
		"one source each": files("a.hcl", strings.Repeat("module \"m\" {\n  source = \"m\"\n}\n", 20_000), "m/a.hcl", ""),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			l := newLoader(tree, Options{})
			l.meter.limit = maxSteps / 10 // the whole of it is tested by limits_work.hcl
			d := l.run()
			diags := l.finish()
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if d != nil || !diags.HasErrors() {
				t.Error("accepted")
			}
			if made := after.TotalAlloc - before.TotalAlloc; took > 20*time.Second || made > 1<<30 {
				t.Errorf("took %s and %d MiB", took, made>>20)
			}
			for _, x := range diags {
				if strings.Contains(x.Summary, "Internal error") {
					t.Error(x)
				}
			}
		})
	}
}

// A module folder is a folder of the tree: no symbolic link, in any part of its path
// or among its files.
func TestModulesFollowNoLinks(t *testing.T) {
	for name, build := range map[string]func(dir, outside string) error{
		"the folder":       func(dir, outside string) error { return os.Symlink(outside, filepath.Join(dir, "m")) },
		"a folder above":   func(dir, outside string) error { return os.Symlink(outside, filepath.Join(dir, "up")) },
		"a link inside":    func(dir, _ string) error { return os.Symlink("real", filepath.Join(dir, "m")) },
		"to itself":        func(dir, _ string) error { return os.Symlink(".", filepath.Join(dir, "m")) },
		"a file":           func(dir, outside string) error { return linkedFile(dir, filepath.Join(outside, "a.hcl")) },
		"a file to itself": func(dir, _ string) error { return linkedFile(dir, "a.hcl") },
	} {
		t.Run(name, func(t *testing.T) {
			dir, outside := t.TempDir(), t.TempDir()
			source := "m"
			if name == "a folder above" {
				source = "up/m"
			}
			for file, text := range map[string]string{
				filepath.Join(dir, "site.hcl"):       "module \"m\" {\n  source = \"./" + source + "\"\n}\n",
				filepath.Join(dir, "real", "a.hcl"):  "group \"secret\" {\n}\n",
				filepath.Join(outside, "a.hcl"):      "group \"secret\" {\n}\n",
				filepath.Join(outside, "m", "a.hcl"): "group \"secret\" {\n}\n",
			} {
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := build(dir, outside); err != nil {
				t.Fatal(err)
			}
			if got := mustFail(t, os.DirFS(dir), Options{}); !strings.Contains(got, "is a symbolic link; Symbolic links are not followed") {
				t.Error(got)
			}
		})
	}
}

func linkedFile(dir, target string) error {
	if err := os.Mkdir(filepath.Join(dir, "m"), 0o755); err != nil {
		return err
	}
	return os.Symlink(target, filepath.Join(dir, "m", "a.hcl"))
}

// What a module gives is the same in whatever order its files and those of the root
// come, and is loaded from fewer files than there are modules.
func TestModulesAreCompiledOnce(t *testing.T) {
	tree := files(
		"site.hcl", "server \"main\" {\n  address = \"10.0.0.1\"\n}\nsubnet \"lan\" {\n  cidr = \"10.0.0.0/8\"\n}\n"+include("./rack", 1000, "n = each.value"),
		"rack/a.hcl", "variable \"n\" {\n}\nlocals {\n  mac = format(\"52:54:%02x:%02x\", floor(var.n / 256), var.n % 256)\n}\n",
		"rack/b.hcl", "host \"h\" {\n  for_each = { for i in range(10) : \"n${i}\" => format(\"%s:00:%02x\", local.mac, i) }\n  mac = each.value\n}\n",
	)
	start := time.Now()
	d := mustLoad(t, tree, Options{})
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("10,000 hosts in 1,000 modules took %s", took)
	}
	if len(d.Hosts) != 10_000 || len(d.Files) != 3 {
		t.Fatalf("%d hosts of %d files", len(d.Hosts), len(d.Files))
	}
	h := d.Hosts[len(d.Hosts)-1]
	if h.Addr.String() != `module.m["k999"].host.h["n9"]` || h.MAC != "52:54:03:e7:00:09" || h.Range.String() != "rack/b.hcl:1,1" {
		t.Errorf("%s %s %s", h.Addr, h.MAC, h.Range)
	}
}

// What a Cache keeps of hosts in modules depends on what the module is given, and on
// what other modules say of themselves.
func TestCacheOfModules(t *testing.T) {
	whole := func() map[string]string {
		return map[string]string{
			"site.hcl": site + "host \"root\" {\n  mac = \"52:54:00:00:00:01\"\n  args = [module.rack[\"a\"].label, module.one.label]\n}\n" +
				"host \"all\" {\n  mac = \"52:54:00:00:00:02\"\n  args = [for k, m in module.rack : m.label]\n  group = module.rack[\"b\"].group\n}\n",
			"hosts.hcl": "host \"plain\" {\n  mac = \"52:54:00:00:00:03\"\n  args = [module.one.label, module.rack[\"a\"].group == null ? \"x\" : \"y\"]\n}\n",
			"racks.hcl": "locals {\n  racks = { a = { n = 1, label = \"left\" }, b = { n = 2, label = \"right\" } }\n}\n",
			"mods.hcl":  "module \"rack\" {\n  source = \"./rack\"\n  for_each = local.racks\n  n = each.value.n\n  label = each.value.label\n  entry = entry.a\n}\nmodule \"one\" {\n  source = \"./rack\"\n  n = 3\n}\n",
			"rack/vars.hcl": "variable \"n\" {\n}\nvariable \"label\" {\n  default = \"none\"\n}\nvariable \"entry\" {\n  default = null\n}\n" +
				"output \"label\" {\n  value = \"rack=${upper(var.label)}\"\n}\noutput \"group\" {\n  value = group.g\n}\ngroup \"g\" {\n}\n",
			"rack/hosts.hcl": "host \"h\" {\n  mac = \"52:54:00:00:01:0${var.n}\"\n  entry = var.entry\n  file \"/etc/motd\" {\n    source = \"motd\"\n  }\n}\n",
			"rack/motd":      "hello\n",
		}
	}
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
		kept int // of six hosts; -1 where Load fails
	}{
		{"nothing", func(map[string]string) {}, 6},
		{"a label", edit("racks.hcl", "left", "LEFT!"), 4},
		{"another label", edit("racks.hcl", "right", "middle"), 4},
		{"a number", edit("racks.hcl", "n = 2", "n = 4"), 5},
		{"one module's number", edit("mods.hcl", "n = 3", "n = 5"), 5},
		{"a module is gone", edit("mods.hcl", "\"one\"", "\"two\""), -1},
		{"an output is gone", edit("rack/vars.hcl", "output \"label\"", "output \"text\""), -1},
		{"a module has keys", edit("mods.hcl", "n = 3", "n = 3\n  for_each = { x = 1 }"), -1},
		{"a module has no keys", edit("mods.hcl", "for_each = local.racks\n  n = each.value.n\n  label = each.value.label", "n = 1"), -1},
		{"a module's folder", edit("mods.hcl", "./rack", "./rock"), -1},
		{"a module less", edit("racks.hcl", ", b = { n = 2, label = \"right\" }", ""), -1},
		{"a default", edit("rack/vars.hcl", "none", "nobody"), 4},
		{"a file of the modules", edit("rack/motd", "hello", "bye"), 3},
		{"an output", edit("rack/vars.hcl", "rack=", "shelf="), 3},
		{"a reference", edit("mods.hcl", "entry = entry.a", ""), 4},
		{"the text of their block", edit("rack/hosts.hcl", "52:54:00", "52:55:00"), 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tree := func(all map[string]string) fstest.MapFS {
				var pairs []string
				for name, text := range all {
					pairs = append(pairs, name, text)
				}
				return files(pairs...)
			}
			cache := &Cache{}
			before := mustLoad(t, tree(whole()), Options{Cache: cache})
			all := whole()
			tc.edit(all)
			want, _ := loaded(t, tree(all), Options{})
			got, d := loaded(t, tree(all), Options{Cache: cache})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("with a cache (-without +with)\n%s", diff)
			}
			if kept := takenOver(before, d); kept != tc.kept {
				t.Errorf("%d hosts are taken over, want %d", kept, tc.kept)
			}
		})
	}
}
