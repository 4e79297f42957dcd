package export

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/schema"
)

// several adds an export beside the others that keeps for hosts.
func several(in provider.Input) provider.Input {
	kept := *in.Want.Exports[0]
	kept.Addr, kept.Keep = schema.Addr{Kind: "export", Type: "nbd", Name: "kept"}, schema.KeepHost
	in.Want.Exports = append(in.Want.Exports, &kept)
	return in
}

// One disk without a file system kept the changes of all others from being shown, and was
// not named.
func TestDiffOfOneBrokenDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	providertest.Need(t, "mke2fs", "e2fsck")
	r := newRig(t)
	a := r.ext4(4 << 20)
	r.commit(several(r.input(1, a)))
	broken := r.mustDial(nameOf("arch", a) + bootA)
	broken.write(1024, strings.Repeat("x", 1024)) // the superblock
	sound := r.mustDial(nameOf("kept", a) + bootA)
	sound.write(3<<20, "sound")
	list, err := r.DiffOverlays(t.Context(), ofTestMachine, true)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	if d := list[0]; d.Export != nameOf("arch", a) || !strings.Contains(d.Failed, "there is no ext4 on the disk any more") || d.Files != nil || d.Blocks != 1 {
		t.Errorf("broken: %+v", d)
	}
	if d := list[1]; d.Export != nameOf("kept", a) || d.Failed != "" || d.Files == nil {
		t.Errorf("beside it: %+v", d)
	}
}

// "no such overlay: there are 2" contradicted itself.
func TestPromoteOfSeveralAsksWhich(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(several(r.input(1, a)))
	r.mustDial(nameOf("kept", a)+bootA).write(0, "one")
	r.mustDial(nameOf("arch", a)+bootA).write(0, "two")
	_, err := r.PromoteOverlay(t.Context(), ofTestMachine, true)
	if !errors.Is(err, provider.ErrWhich) || errors.Is(err, provider.ErrNoOverlay) ||
		!strings.Contains(err.Error(), "which of its 2 (arch+") || !strings.Contains(err.Error(), "--export") {
		t.Errorf("%v", err)
	}
}
