package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/plan"
)

// Plans know of the kernels of whole artifacts; one that does not say what it is for is
// for amd64.
func TestKernels(t *testing.T) {
	h := newShed(t)
	a, b, gone := h.build("a"), h.build("b"), h.build("c")
	b.Arch, b.Signed = "arm64", true
	if err := h.Content().SetArtifact(b); err != nil {
		t.Fatal(err)
	}
	if err := h.Content().Remove(gone.Initrd.Digest); err != nil {
		t.Fatal(err)
	}
	got, err := h.Content().Kernels()
	want := map[string]plan.Kernel{a.Recipe: {Arch: "amd64"}, b.Recipe: {Arch: "arm64", Signed: true}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}
