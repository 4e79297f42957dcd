package main

import (
	"bytes"
	"debug/elf"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// failpointsInSource gives the names of all points and where each stands.
func failpointsInSource(t testing.TB) map[string]string {
	t.Helper()
	valid := regexp.MustCompile(`^[a-z0-9]+(\.[a-z0-9]+)+$`)
	names := map[string]string{}
	eachSource(t, func(rel string, fset *token.FileSet, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || calls(call) != "failpoint.Hit" {
				return true
			}
			at := rel + ":" + strconv.Itoa(fset.Position(call.Pos()).Line)
			lit, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: the name of a failpoint is not a literal", at)
				return true
			}
			name, err := strconv.Unquote(lit.Value)
			if err != nil || !valid.MatchString(name) {
				t.Errorf("%s: %s is not the name of a failpoint: want area.step.instant", at, lit.Value)
			}
			if names[name] != "" {
				t.Errorf("%s: the failpoint %s stands at %s too", at, name, names[name])
			}
			names[name] = at
			return true
		})
	})
	return names
}

// eachSource calls f with every Go file of the program's packages.
func eachSource(t testing.TB, f func(rel string, fset *token.FileSet, file *ast.File)) {
	t.Helper()
	for _, p := range packages(t) {
		pkg := strings.TrimPrefix(p.ImportPath, module)
		if pkg == "engine/failpoint" {
			continue
		}
		for _, name := range p.GoFiles {
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			f(pkg+"/"+name, fset, file)
		}
	}
}

// calls gives what a call calls, as far as its last two names.
func calls(call *ast.CallExpr) string {
	fun := call.Fun
	if index, ok := fun.(*ast.IndexExpr); ok {
		fun = index.X
	}
	sel, ok := fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	switch x := sel.X.(type) {
	case *ast.Ident:
		return x.Name + "." + sel.Sel.Name
	case *ast.SelectorExpr:
		return x.Sel.Name + "." + sel.Sel.Name
	}
	return "." + sel.Sel.Name
}

// risky are the calls that change what a crash leaves: beside each, in the same
// function, stands a point.
var risky = regexp.MustCompile(`^(os\.(Rename|Link|Symlink|Truncate|WriteFile)|renameio\..*|.*\.Sync|unix\.(Fsync|Fdatasync|Fallocate)|` +
	`net\.(Listen.*)|(lc|packet)\.Listen.*|\.Listen.*|db\.(Update|Batch)|DB\.(Update|Batch)|bbolt\.Open|.*\.CloseAtomicallyReplace)$`)

// pointless lists the functions with such calls that need no point, and why.
var pointless = map[string]string{
	"engine/store/renew.go:inMemory":                   "the file is in memory",
	"cmd/dlreconcile/demo_novm.go:withoutMachines":     "the demo's own files",
	"cmd/dlreconcile/demo_vm.go:withMachines":          "the demo's own files",
	"cmd/dlreconcile/demo_walker.go:freePorts":         "the demo's own ports",
	"cmd/dlreconcile/fmtfiles.go:rewrite":              "the operator's files, not the state",
	"cmd/dlreconcile/savedplan.go:savePlan":            "the operator's file, not the state",
	"engine/driftproven.go:save":                       "a hint: what it lacks is read again, and a torn one does not have its sum",
	"engine/notify/told.go:keep":                       "without it a forge is told once more what it knows",
	"engine/source/author.go:Commit":                   "commits of the demo",
	"engine/handover/store.go:send":                    "a socket without a name, to say something: where nobody hears it, the next process binds anew",
	"engine/handover/unix.go:listenUnix":               "api.Listen has points; without the NBD server's socket machines boot on",
	"engine/store/content.go:syncDir":                  "who calls it has points",
	"providers/bootloader/grub_core.go:grubCore":       "scratch, which a start empties",
	"providers/bootloader/provider.go:listenTFTP":      "sock.Set binds it, and has points",
	"providers/bootloader/provider.go:listenHTTP":      "sock.Set binds it, and has points",
	"providers/dhcp/dhcp4/advert_icmp.go:openICMP":     "sock.Set binds it, and has points",
	"providers/dhcp/dhcp4/advert_packet.go:openPacket": "sock.Set binds it, and has points",
	"providers/dhcp/dhcp4/conn.go:Listen":              "sock.Set binds it, and has points",
	"providers/export/provider.go:listen":              "sock.Set binds it, and has points",
	"providers/export/confine.go:makeRoot":             "in memory, and gone with the process that it is for",
	"providers/export/confine.go:runBounded":           "a setting of a process",
	"providers/export/cow/discard.go:discard":          "writeRecord, before it, has points; a new folder that a crash takes with it was promised to nobody yet",
	"providers/export/cow/overlay.go:makeFiles":        "of an overlay that is not one before its record is there",
	"providers/export/cow/zero.go:zeros":               "a write as any other: nothing is promised before the next flush",
	"providers/export/nbd/flush.go:run":                "the overlay's Sync has points",
	"providers/export/atstop.go:closeOpen":             "the overlay's Sync has points",
	"providers/image/base.go:bootstrap":                "scratch, which a start empties",
	"providers/image/btrfs.go:mkfsBtrfs":               "scratch, which a start empties",
	"providers/image/filesystem.go:mke2fs":             "scratch, which a start empties",
	"providers/image/initramfs.go:padFile":             "scratch, which a start empties",
	"providers/image/loaders.go:copyLoader":            "scratch, which a start empties",
}

func TestRiskyCallsHavePoints(t *testing.T) {
	seen := map[string]bool{}
	eachSource(t, func(rel string, _ *token.FileSet, file *ast.File) {
		if strings.HasPrefix(rel, "cmd/nbdroot/") || strings.HasPrefix(rel, "cmd/internal/") || strings.HasPrefix(rel, "providers/internal/faultnet/") ||
			strings.HasPrefix(rel, "engine/provider/providertest/") || strings.HasPrefix(rel, "engine/source/sourcetest/") {
			return // no part of the daemon
		}
		for _, d := range file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			name := rel + ":" + fn.Name.Name
			var risks []string
			points := 0
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					switch c := calls(call); {
					case c == "failpoint.Hit":
						points++
					case risky.MatchString(c) && !strings.HasPrefix(c, "renameio.With") && !strings.HasPrefix(c, "renameio.Ignore"):
						risks = append(risks, c)
					}
				}
				return true
			})
			if len(risks) == 0 {
				continue
			}
			seen[name] = true
			if points == 0 && pointless[name] == "" {
				t.Errorf("%s calls %s and has no failpoint beside it: add one, or say in pointless why not", name, strings.Join(risks, ", "))
			}
			if points > 0 && pointless[name] != "" {
				t.Errorf("%s has a failpoint: take it out of pointless", name)
			}
		}
	})
	for name := range pointless {
		if !seen[name] {
			t.Errorf("pointless lists %s, which calls nothing of the kind", name)
		}
	}
}

func TestFailpointNames(t *testing.T) {
	if len(failpointsInSource(t)) == 0 {
		t.Error("there are none")
	}
}

// What is released has no failpoint in it, not even its name.
func TestReleaseHasNoFailpoints(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dlreconcile")
	build := exec.Command("go", "build", "-o", file, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	names := failpointsInSource(t)
	names["DLRECONCILE_FAILPOINT"], names["DLRECONCILE_TEST_HURRY"] = "engine/failpoint", "hurry.go"
	for name, at := range names {
		if bytes.Contains(b, []byte(name)) {
			t.Errorf("the program has %q in it, of %s", name, at)
		}
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if strings.Contains(s.Name, "engine/failpoint.") {
			t.Errorf("the program has %s in it", s.Name)
		}
	}
}
