package image

import (
	"os"
	"path/filepath"
	"testing"
)

func TestBootLinkLedOutOfTheTree(t *testing.T) {
	dir, host := t.TempDir(), t.TempDir()
	tr, err := openTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	// Inside and outside, the link leads to a file of the same name.
	if err := os.WriteFile(filepath.Join(host, "initrd"), []byte("of the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tr.text(host+"/initrd", "of the image"); err != nil {
		t.Fatal(err)
	}
	if err := tr.symlink("boot", host, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := tr.symlink("link", host+"/initrd", 0, 0); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := tr.moveOut("link", out); err == nil {
		t.Error("a link was moved out")
	}
	if err := tr.moveOut("boot/initrd", out); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(out); string(b) != "of the image" {
		t.Errorf("moved %q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(host, "initrd")); string(b) != "of the host" {
		t.Errorf("the host has %q, %v", b, err)
	}
}
