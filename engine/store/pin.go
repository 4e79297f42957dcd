package store

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Pin keeps everything in the store until release is called. Hold it from before
// looking whether an artifact is there until the generation that needs it is
// recorded, and around every build. Any number may be held; it waits for a
// collection that is under way. release may be called more than once.
func (c *Content) Pin() (release func()) {
	c.pins.RLock()
	return sync.OnceFunc(c.pins.RUnlock)
}

// Built gives the digest of the artifact that is there for each recipe: what needs
// no build. An empty store gives an empty map.
func (c *Content) Built() (map[string]string, error) {
	built := map[string]string{}
	err := c.eachRecipe("artifact", func(recipe, _ string) error {
		if a, ok := c.Artifact(recipe); ok {
			built[recipe] = a.Root.Digest
		}
		return nil
	})
	return built, err
}

// ArtifactOf gives the artifact whose root has a digest, of those that were built here
// and are whole.
func (c *Content) ArtifactOf(digest string) (found provider.Artifact, ok bool, err error) {
	err = c.eachRecipe("artifact", func(recipe, _ string) error {
		if a, whole := c.Artifact(recipe); whole && a.Root.Digest == digest && !ok {
			found, ok = a, true
		}
		return nil
	})
	return found, ok, err
}

// builtAs reports whether a digest is the root of an artifact that was built, and not
// promoted from a machine's disk.
func (c *Content) builtAs(digest string) (built bool, err error) {
	err = c.eachRecipe("artifact", func(recipe, _ string) error {
		a, whole := c.Artifact(recipe)
		built = built || whole && a.Root.Digest == digest && !a.Promoted
		return nil
	})
	return built, err
}

// Kernels says what plans need to know of the kernel of every artifact that is
// whole, by recipe.
func (c *Content) Kernels() (map[string]plan.Kernel, error) {
	kernels := map[string]plan.Kernel{}
	err := c.eachRecipe("artifact", func(recipe, _ string) error {
		if a, ok := c.Artifact(recipe); ok {
			kernels[recipe] = KernelOf(a)
		}
		return nil
	})
	return kernels, err
}

// KernelOf says what plans need to know of an artifact's kernel.
func KernelOf(a provider.Artifact) plan.Kernel {
	return plan.Kernel{Arch: cmp.Or(a.Arch, "amd64"), Signed: a.Signed}
}

// eachRecipe calls f with every recipe of a kind and the file that records it.
// Other files are passed over.
func (c *Content) eachRecipe(kind string, f func(recipe, file string) error) error {
	dir := filepath.Join(c.state(), "recipes", kind)
	list, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("content store: %w", err)
	}
	for _, e := range list {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if raw, err := hex.DecodeString(name); !ok || err != nil || len(raw) != 32 || e.Type() != fs.FileMode(0) {
			continue
		}
		if err := f("sha256:"+name, filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// state gives the state directory.
func (c *Content) state() string { return filepath.Dir(c.scratch) }

// blobsOf lists the files of an artifact: what a record or a recipe that names it
// keeps.
func blobsOf(a provider.Artifact) []provider.Blob {
	return slices.AppendSeq([]provider.Blob{a.Root, a.Kernel, a.Initrd}, maps.Values(a.Loaders))
}
