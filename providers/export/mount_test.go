package export

import (
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
	_, detach, err := mountFile(file, "ext4", true)
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
