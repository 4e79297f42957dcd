package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

const module = "github.com/dlreconcile/dlreconcile/"

// layers says which packages of ours each package may import, and why. A package
// without a row fails, so that nobody adds one without thinking where it stands.
var layers = map[string]struct {
	may []string
	why string
}{
	"schema":                        {nil, "the language knows no server"},
	"engine/plan":                   {[]string{"schema"}, "a plan is a pure function of desired and observed state"},
	"engine/provider":               {[]string{"schema", "engine/plan"}, "the contract names desired state and plans, no implementation"},
	"engine/provider/providertest":  {[]string{"schema", "engine/plan", "engine/provider"}, "the conformance suite sees only the contract"},
	"engine/graph":                  {[]string{"schema"}, "shows a desired state, and asks nobody"},
	"engine/identity":               {nil, "decrypts, and knows nothing of what for"},
	"engine/store":                  {[]string{"schema", "engine/plan", "engine/provider", "engine/statefile"}, "records hold artifacts and plans, and load desired states"},
	"engine/source":                 {nil, "Git gives file systems, and knows nothing of what is in them"},
	"engine/failpoint":              {nil, "anybody may have points, so it knows nobody"},
	"engine/explain":                {[]string{"schema", "engine/provider"}, "walks the answers of any providers"},
	"engine/node":                   {[]string{"schema", "engine/plan", "engine/provider"}, "implements the contract's Sink, Sessions and Clients"},
	"engine":                        {[]string{"schema", "engine/plan", "engine/provider", "engine/source", "engine/store", "engine/explain"}, "the loop calls providers only through the contract"},
	"engine/api":                    {[]string{"schema", "engine", "engine/plan", "engine/provider", "engine/explain", "engine/node", "engine/store", "engine/handover", "engine/keyfile", "engine/throttle", "docs"}, "shows the engine to the command line"},
	"engine/handover":               {nil, "opens sockets and leaves them to the next process, and knows nothing of who speaks on them"},
	"engine/statefile":              {nil, "opens files, and knows nothing of what is in them"},
	"engine/keyfile":                {nil, "reads keys, and knows nothing of who they let in"},
	"engine/throttle":               {nil, "bounds strangers, and knows nothing of what they want"},
	"engine/webhook":                {[]string{"engine/throttle"}, "a listener for what forges send, that makes sense as a library on its own"},
	"engine/notify":                 {[]string{"engine", "engine/node", "engine/provider", "engine/statefile"}, "tells others what the engine and the record of events say"},
	"engine/metrics":                {[]string{"schema", "engine", "engine/plan", "engine/provider", "engine/throttle"}, "shows the engine to Prometheus"},
	"providers/internal/sock":       {nil, "sockets know no protocol"},
	"providers/internal/published":  {nil, "tables know nothing of what is in them"},
	"engine/source/sourcetest":      {[]string{"engine/provider/providertest"}, "Git's own servers for tests"},
	"providers/internal/faultnet":   {[]string{"engine/provider/providertest"}, "a network for tests"},
	"providers/internal/sparse":     {nil, "holes are the file system's affair"},
	"providers/internal/blob":       {[]string{"engine/provider", "providers/internal/sparse"}, "opens what the contract calls a blob"},
	"providers/image":               {[]string{"schema", "engine/plan", "engine/provider", "engine/store", "engine/statefile"}, "builds into the content store"},
	"providers/export":              {[]string{"schema", "engine/plan", "engine/provider", "engine/store", "engine/handover", "engine/throttle", "providers/export/nbd", "providers/export/cow", "providers/internal/sock", "providers/internal/blob", "providers/internal/published", "providers/internal/sparse"}, "compiles desired state into the NBD server's tables"},
	"providers/export/nbd":          {[]string{"engine/throttle"}, "an NBD server that makes sense as a library on its own; only how often it logs is shared"},
	"providers/export/cow":          {[]string{"engine/statefile", "providers/internal/sparse"}, "overlays know blocks, and how much is free, not machines"},
	"providers/bootloader":          {[]string{"schema", "engine/plan", "engine/provider", "engine/store", "engine/handover", "providers/bootloader/tftp", "providers/bootloader/httpboot", "providers/internal/sock", "providers/internal/blob", "providers/internal/published"}, "compiles desired state into boot trees"},
	"providers/bootloader/tftp":     {nil, "a TFTP server that makes sense as a library on its own"},
	"providers/bootloader/httpboot": {nil, "an HTTP boot server that makes sense as a library on its own"},
	"providers/dhcp":                {[]string{"schema", "engine/plan", "engine/provider", "engine/handover", "providers/dhcp/dhcp4", "providers/dhcp/lease", "providers/internal/sock", "providers/internal/published"}, "compiles desired state into the DHCP server's tables"},
	"providers/dhcp/dhcp4":          {[]string{"providers/dhcp/lease"}, "a DHCPv4 server that makes sense as a library on its own, with its leases"},
	"providers/dhcp/lease":          {nil, "leases know addresses, not desired state"},
	"docs":                          {nil, "only the description of the API"},
	"examples":                      {nil, "only files"},
	"cmd/internal/lab":              {[]string{"engine/provider", "cmd/internal/wire"}, "a network with machines in it, for the demo and the tests"},
	"cmd/internal/nbdprobe":         {nil, "a client for any NBD server"},
	"cmd/internal/wire":             {[]string{"engine/provider"}, "reads captures"},
	"cmd/nbdroot":                   {nil, "small and static: it lives in an initramfs"},
	"cmd/dlreconcile":               {[]string{"*"}, "wires everything"},
}

// goBans are imports that a package must not have, however convenient.
var goBans = map[string][]string{
	"engine/plan": {"os", "net", "time", "math/rand", "net/http"},
	"schema":      {"os", "net/http", "os/exec", "math/rand"},
}

// goroutines lists the files that may start one, by a go statement or by the Go
// method of a group. Who starts it waits for it.
var goroutines = map[string]string{
	"cmd/dlreconcile/demo_vm.go":              "waits for the demo's daemon; stop waits for that",
	"cmd/dlreconcile/serve.go":                "API, webhooks, signals, node record and engine; one errgroup",
	"cmd/internal/lab/capture.go":             "writes frames; Stop waits",
	"cmd/internal/lab/machine.go":             "owns a QEMU and its two readers; Kill and Wait wait",
	"cmd/internal/nbdprobe/probe.go":          "one per connection; one errgroup",
	"cmd/internal/lab/starter.go":             "holds a thread in a namespace; Close waits",
	"engine/api/change.go":                    "runs a change while its progress is streamed; ends with the request",
	"engine/api/server.go":                    "ends the HTTP server with ctx; Serve waits",
	"engine/hang.go":                          "what a provider prepares; Run waits",
	"engine/mend.go":                          "serves a recorded generation again; the loop waits",
	"engine/engine.go":                        "the loop, the source's watcher, one Run per provider; one errgroup",
	"engine/notify/follow.go":                 "one that follows, one that sends; Run waits",
	"engine/notify/hook.go":                   "one that listens, one that sends; Run waits",
	"engine/metrics/listen.go":                "ends the listener with ctx; Serve waits",
	"engine/provider/providertest/running.go": "asks a provider while it publishes; the check waits",
	"engine/source/sourcetest/servers.go":     "serves connections; the test's end waits",
	"engine/provider/providertest/start.go":   "holds the thread of a program of a test until that ends; wait waits",
	"engine/provider/providertest/suite.go":   "runs a provider; the check's end waits",
	"engine/webhook/webhook.go":               "ends the HTTP server with ctx; Serve waits",
	"engine/loop.go":                          "looks at the source and runs attempts; the loop waits for both",
	"providers/bootloader/httpboot/server.go": "runs the HTTP server; Serve waits",
	"providers/bootloader/provider.go":        "both servers' sockets; Run waits",
	"providers/bootloader/tftp/server.go":     "one for each transfer of the own sender, bounded; Serve waits",
	"providers/dhcp/dhcp4/advert.go":          "one reader of router solicitations per interface; Run waits",
	"providers/dhcp/dhcp4/serve.go":           "a fixed set of workers per socket; Serve waits",
	"providers/dhcp/provider.go":              "sockets and advertisements; Run waits",
	"providers/export/confine.go":             "one on a thread that ends with it; its caller waits",
	"providers/export/nbd/ahead.go":           "at most one CACHE per connection; its session waits",
	"providers/export/nbd/flush.go":           "one flusher per connection; its session waits",
	"providers/export/nbd/server.go":          "one per connection; Wait waits",
	"providers/export/nbd/slow.go":            "READs that wait for a disk, a few per connection; its session waits",
	"providers/export/nbd/turns.go":           "one that hands out turns; Wait waits",
	"providers/export/atstop.go":              "flushes what machines wrote when the daemon ends; Run waits, for 10 s",
	"providers/export/provider.go":            "sweeps overlays, and serves the Unix socket; Run waits",
	"providers/image/flight.go":               "one per build; Run waits",
	"providers/image/provider.go":             "one per image that Prepare wants; Prepare waits",
	"providers/image/unpack.go":               "feeds a decompressor; its closer waits",
	"providers/internal/faultnet/child.go":    "a program of a test; the test's end waits",
	"providers/internal/faultnet/impair.go":   "two per impaired cable; the test's end waits",
	"providers/internal/faultnet/space.go":    "runs one function in a namespace; Do waits",
	"providers/internal/sock/set.go":          "one serve per socket; Run waits",
}

type listed struct {
	ImportPath  string
	Dir         string
	Imports     []string
	GoFiles     []string
	TestGoFiles []string
}

func packages(t testing.TB) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,GoFiles,TestGoFiles", "./...")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func TestLayers(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		seen[name] = true
		row, ok := layers[name]
		if !ok {
			t.Errorf("%s has no row in the table of layers: add one, with the reason", name)
			continue
		}
		may := map[string]bool{}
		for _, m := range row.may {
			may[m] = true
		}
		for _, imp := range p.Imports {
			ours, ok := strings.CutPrefix(imp, module)
			if ok && !may["*"] && !may[ours] && ours != "engine/failpoint" { // which is nothing in a release
				t.Errorf("%s imports %s, and must not: %s", name, ours, row.why)
			}
			for _, ban := range goBans[name] {
				if imp == ban {
					t.Errorf("%s imports %q, and must not", name, imp)
				}
			}
			if strings.HasPrefix(imp, "github.com/go-git/") && name != "engine/source" && name != "cmd/dlreconcile" {
				t.Errorf("%s imports %s: only engine/source speaks Git", name, imp)
			}
		}
	}
	for name := range layers {
		if !seen[name] {
			t.Errorf("the table of layers has a row for %s, which does not exist", name)
		}
	}
}

func TestPackageDocs(t *testing.T) {
	for _, p := range packages(t) {
		var docs []string
		for _, f := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			if file.Doc != nil {
				docs = append(docs, f)
			}
		}
		if len(docs) != 1 && len(p.GoFiles) > 0 {
			t.Errorf("%s has %d package docs (%s), want one", p.ImportPath, len(docs), strings.Join(docs, ", "))
		}
	}
}

func TestGoroutineCensus(t *testing.T) {
	found := map[string]bool{}
	for _, p := range packages(t) {
		for _, f := range p.GoFiles {
			path := filepath.Join(p.Dir, f)
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			rel := strings.TrimPrefix(p.ImportPath, module) + "/" + f
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					found[rel] = true
				case *ast.CallExpr:
					if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Go" && len(n.Args) == 1 {
						found[rel] = true
					}
				}
				return true
			})
		}
	}
	var names []string
	for f := range found {
		names = append(names, f)
	}
	sort.Strings(names)
	for _, f := range names {
		if goroutines[f] == "" {
			t.Errorf("%s starts a goroutine and is not in the census: add it, and say who waits", f)
		}
	}
	for f := range goroutines {
		if !found[f] {
			t.Errorf("the census lists %s, which starts no goroutine", f)
		}
	}
}
