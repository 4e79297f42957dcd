package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/source"
)

// hostileMemory is the most that the whole program may take, in bytes, whatever it is
// given to read.
const hostileMemory = 512 << 20

// Configuration that was written to hurt ends in a diagnostic: soon, in bounded memory,
// and never in a crash, from the work tree and from a commit alike.
func TestHostileFiles(t *testing.T) {
	rep := strings.Repeat
	local := func(e string) map[string]string {
		return map[string]string{"site.hcl": "locals {\n  a = " + e + "\n}\n"}
	}
	for _, tc := range []struct {
		name  string
		files map[string]string
		lay   func(dir string) error // what a map of texts cannot say
		say   string
	}{
		{name: "100,000 nested brackets", files: local(rep("[", 100_000)), say: "Nested too deep"},
		{name: "a sum of 500,000 terms", files: local(rep("1+", 499_999) + "1"), say: "Expression too long"},
		{name: "deep JSON", files: map[string]string{"site.hcl.json": rep(`{"a":`, 150_000)}, say: "Nested too deep"},
		{name: "deep JSON in data", files: map[string]string{"site.hcl": `locals { a = jsondecode(file("x")) }`, "x": rep("[", 4_000_000)}, say: "jsondecode failed"},
		{name: "a for of 10^6 steps", files: local("[for i in range(1000000) : i]"), say: "range"},
		{name: "nested for of 10^10 steps", files: local("[for i in range(100000) : [for j in range(100000) : j]]"), say: "too much work"},
		{name: "out of the tree", files: map[string]string{"site.hcl": `locals { a = file("../../../../etc/passwd") }`}, say: "Invalid path"},
		{name: "an absolute path", files: map[string]string{"site.hcl": `locals { a = file("/etc/passwd") }`}, say: "Invalid path"},
		{name: "a link out of the tree", files: map[string]string{"site.hcl": `locals { a = file("passwd") }`},
			lay: func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "passwd")) }, say: "symbolic link"},
		{name: "a folder that is a link", files: map[string]string{"site.hcl": `locals { a = file("etc/passwd") }`},
			lay: func(dir string) error { return os.Symlink("/etc", filepath.Join(dir, "etc")) }, say: "symbolic link"},
		{name: "configuration that is a link", lay: func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "site.hcl")) }, say: "symbolic link"},
		{name: "a file of 1 GB", lay: func(dir string) error { return sparse(filepath.Join(dir, "site.hcl"), 1<<30) }, say: "too large"},
		{name: "data of 1 GB", files: map[string]string{"site.hcl": `locals { a = file("x") }`},
			lay: func(dir string) error { return sparse(filepath.Join(dir, "x"), 1<<30) }, say: "too large"},
		{name: "a module that includes itself", files: map[string]string{"site.hcl": "module \"a\" {\n  source = \".\"\n}\nmodule \"b\" {\n  source = \"./\"\n}\n"}, say: "includes itself"},
		{name: "modules that include modules", files: map[string]string{
			"site.hcl": "module \"a\" {\n  source   = \"m\"\n  for_each = { for i in range(1000) : i => i }\n}\n",
			"m/m.hcl":  "module \"b\" {\n  source   = \"m\"\n  for_each = { for i in range(1000) : i => i }\n}\n", "m/m/m.hcl": "locals {\n  a = 1\n}\n"}, say: "module"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := source.Init(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := source.Commit(dir, map[string]string{"README": "harmless"}, "first"); err != nil {
				t.Fatal(err)
			}
			for name, text := range tc.files {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if tc.lay != nil {
				if err := tc.lay(dir); err != nil {
					t.Fatal(err)
				}
			}
			validate(t, "the work tree", tc.say, "--repo", dir)
			if tc.lay == nil {
				if _, err := source.Commit(dir, tc.files, "hostile"); err != nil {
					t.Fatal(err)
				}
				validate(t, "a commit", tc.say, "--repo", dir, "--rev", "HEAD")
			}
		})
	}
}

func sparse(path string, size int64) error {
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		return err
	}
	return os.Truncate(path, size)
}

// validate runs the command on what must be refused, with what it is to say.
func validate(t *testing.T, from, say string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), cliLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], append([]string{"validate", "--config", os.DevNull, "--no-color"}, args...)...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	started := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(started)
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	memory := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	t.Logf("%s: %.2f s, %d MiB", from, took.Seconds(), memory>>20)
	text := string(out)
	if code := cmd.ProcessState.ExitCode(); code != exitInvalid || !strings.Contains(text, say) || strings.Contains(text, "goroutine ") || strings.Contains(text, "Internal error") {
		t.Errorf("%s: exit %d, want %d and %q: %.600s", from, code, exitInvalid, say, text)
	}
	// The system counts from the fork on, so what this process has had is in it.
	if memory > hostileMemory && memory > peakMemory(t, os.Getpid()) {
		t.Errorf("%s: %d bytes of memory", from, memory)
	}
	if strings.Contains(text, "root:x:") {
		t.Error("it shows a file of this machine")
	}
}
