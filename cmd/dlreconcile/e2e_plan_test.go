package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/source"
)

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// The same commit gives the same plan, to the byte, wherever it is planned.
func TestPlanIsDeterministic(t *testing.T) {
	dir := t.TempDir()
	origin := filepath.Join(dir, "origin")
	if err := source.Init(origin); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Commit(origin, siteFiles("commit-one"), "first"); err != nil {
		t.Fatal(err)
	}
	var texts, jsons []string
	for i, env := range [][]string{
		{"TZ=UTC", "LC_ALL=C", "GOMAXPROCS=1"},
		{"TZ=Pacific/Kiritimati", "LC_ALL=tr_TR.UTF-8", "GOMAXPROCS=8"},
		{"TZ=America/St_Johns", "LANG=de_DE.UTF-8", "GOMAXPROCS=2"},
	} {
		clone := filepath.Join(dir, fmt.Sprintf("clone with a longer name %d", i))
		if out, err := exec.Command("git", "clone", "-q", origin, clone).CombinedOutput(); err != nil {
			t.Fatalf("git clone: %v\n%s", err, out)
		}
		plan := func(args ...string) string {
			args = append([]string{"plan", "--repo", clone, "--state", filepath.Join(dir, "none"), "--config", os.DevNull}, args...)
			cmd := exec.Command(os.Args[0], args...)
			cmd.Env = append(append(os.Environ(), env...), asCommand+"=1")
			out, errs, code := runCommand(t, cmd)
			if code != exitOK {
				t.Fatalf("plan: exit %d\n%s", code, errs)
			}
			return out
		}
		texts = append(texts, plan())
		jsons = append(jsons, plan("--json"))
	}
	for i := range texts {
		if texts[i] != texts[0] {
			t.Errorf("plan %d differs:\n%s\nfrom\n%s", i, texts[i], texts[0])
		}
		if jsons[i] != jsons[0] {
			t.Errorf("JSON plan %d differs:\n%s\nfrom\n%s", i, jsons[i], jsons[0])
		}
	}
}
