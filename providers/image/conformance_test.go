package image

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

func TestConformance(t *testing.T) {
	providertest.NeedRoot(t)
	program := busybox(t)
	providertest.Run(t, providertest.Harness{
		Inputs: conformanceInputs,
		Open: func(t *testing.T, state string) provider.Provider {
			content, err := store.OpenContent(state)
			if err != nil {
				t.Fatal(err)
			}
			return newProvider(t, Config{Content: content, Program: program})
		},
	})
}

// conformanceInputs has what was built before, and builds that fail.
func conformanceInputs(t *testing.T, state string) providertest.Inputs {
	t.Helper()
	content, err := store.OpenContent(state)
	if err != nil {
		t.Fatal(err)
	}
	built := func(name, suite string) *schema.Image {
		img := newImage(name, func(i *schema.Image) {
			i.Source = schema.SourceDebootstrap
			i.Debootstrap = &schema.Debootstrap{Suite: suite, Arch: "amd64"}
		})
		a := provider.Artifact{Recipe: img.Recipe, KernelVersion: "6.1.0", Filesystem: "ext4"}
		for part, blob := range map[string]*provider.Blob{"root": &a.Root, "kernel": &a.Kernel, "initrd": &a.Initrd} {
			if *blob, err = content.Put(t.Context(), strings.NewReader(name+suite+part)); err != nil {
				t.Fatal(err)
			}
		}
		if err := content.SetArtifact(a); err != nil {
			t.Fatal(err)
		}
		return img
	}
	input := func(images ...*schema.Image) provider.Input {
		return provider.Input{Want: &schema.Desired{Images: images}, Files: fstest.MapFS{}}
	}
	first := built("first", "bookworm")

	files := fstest.MapFS{}
	broken := input(first, tarImage(files, []byte(strings.Repeat("this is no archive", 100)), nil))
	broken.Files = files
	missing := input(first, tarImage(fstest.MapFS{}, []byte("not in the commit"), nil))
	unknown := input(first, tarImage(fstest.MapFS{}, []byte("not in the store"), nil))
	unknown.Offline, unknown.Files = true, nil
	return providertest.Inputs{
		One: input(first, built("second", "bookworm")),
		Two: input(first, built("second", "trixie")),
		Bad: map[string]provider.Input{
			"no archive": broken, "a file is missing": missing, "offline, and never built": unknown,
		},
	}
}
