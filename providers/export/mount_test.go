package export

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// Whoever wrote a file system does not say that its errors are the end of this machine.
func TestMountFileNeverPanics(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "mke2fs")
	file := filepath.Join(t.TempDir(), "ext4")
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-e", "panic", file, "8M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	mounted := func() []string {
		list, err := filepath.Glob("/proc/fs/ext4/loop*/options")
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	before := mounted()
	_, detach, err := mountFile(file, "ext4")
	if err != nil {
		t.Fatal(err)
	}
	defer detach()
	found := false
	for _, name := range mounted() {
		if slices.Contains(before, name) {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found = true
		if !strings.Contains(string(b), "errors=continue") {
			t.Errorf("%s:\n%s", name, b)
		}
	}
	if !found {
		t.Error("it is mounted nowhere")
	}
}

// The server's kernel played back journals and logs that a machine wrote.
func TestMountFilePlaysNothingBack(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "mke2fs", "mkfs.btrfs", "unshare")
	for _, c := range []struct {
		typ  string
		size string
		make []string
	}{{"ext4", "16M", []string{"mke2fs", "-q", "-t", "ext4"}}, {"btrfs", "128M", []string{"mkfs.btrfs", "-q"}}} {
		dir := t.TempDir()
		img, cut := filepath.Join(dir, "img"), filepath.Join(dir, "cut")
		run(t, "truncate", "-s", c.size, img)
		run(t, c.make[0], append(c.make[1:], img)...)
		crashed(t, c.typ, img, cut)
		before, err := os.ReadFile(cut)
		if err != nil {
			t.Fatal(err)
		}
		root, detach, err := mountFile(cut, c.typ)
		if err != nil {
			t.Errorf("%s: %v", c.typ, err)
			continue
		}
		if _, err := os.Stat(filepath.Join(root, "synced")); err == nil {
			t.Errorf("%s: what is in the journal alone is there", c.typ)
		}
		detach()
		if after, err := os.ReadFile(cut); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: it was written to: %v", c.typ, err)
		}
	}
}
