package lab

import (
	"os"
	"testing"
)

func TestOwnerOfNames(t *testing.T) {
	self, err := thisProcess()
	if err != nil {
		t.Fatal(err)
	}
	if !self.alive() {
		t.Error("this process is dead")
	}
	if p, ok := owner(self.prefix() + "demo-client-x"); !ok || p != self {
		t.Errorf("%+v, %v", p, ok)
	}
	if reused := (process{self.pid, self.start + 1}); reused.alive() {
		t.Error("a process of the same number that started later is alive")
	}
	// Only names in the very form that a lab gives are a lab's.
	for _, name := range []string{"", "dlr-", "dlr-1", "dlr-1-2", "dlr-x-2-a", "dlr-1-!-a", "dlr-+1-2-a", "dlr-01-2-a", "dlr-1-02-a", "dlr-1-A-a", "dlr--1-2-a", "xdlr-1-2-a"} {
		if p, ok := owner(name); ok {
			t.Errorf("%q belongs to %+v", name, p)
		}
	}
}

func TestNamesAreMadeClean(t *testing.T) {
	for name, want := range map[string]string{
		"":             "lab",
		"..":           "lab",
		"Demo":         "demo",
		"TestX/a b":    "testx-a-b",
		"../../etc":    "etc",
		"grün":         "gr-n",
		"demo\n-batch": "demo--batch",
		"0123456789012345678901234567890123456789x": "0123456789012345678901234567890123456789",
	} {
		if got := clean(name); got != want {
			t.Errorf("clean(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestMissingNamesPackages(t *testing.T) {
	// On a machine without programs.
	t.Setenv("PATH", t.TempDir())
	got := Missing(Direct)
	want := map[string]bool{"iproute2": true, "qemu-system-x86": true}
	for _, pkg := range got {
		delete(want, pkg)
	}
	if len(want) > 0 {
		t.Errorf("Missing gives %v", got)
	}
	if os.Geteuid() == 0 {
		if cmd, want := InstallCommand([]string{"a", "b"}), "apt-get install --yes --no-install-recommends a b"; cmd != want {
			t.Errorf("%q, want %q", cmd, want)
		}
	}
	if cmd := InstallCommand(nil); cmd != "" {
		t.Errorf("nothing to install: %q", cmd)
	}
}
