package store

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// recipeFile gives the file that says what was made from a recipe. kind keeps
// artifacts and bases apart.
func (c *Content) recipeFile(kind, recipe string) (string, error) {
	if _, err := c.Path(recipe); err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(filepath.Dir(c.dir)), "recipes", kind)
	return filepath.Join(dir, strings.TrimPrefix(recipe, "sha256:")+".json"), nil
}

func (c *Content) readRecipe(kind, recipe string, v any) bool {
	path, err := c.recipeFile(kind, recipe)
	if err != nil {
		return false
	}
	b, err := readState(path, maxState)
	return err == nil && json.Unmarshal(b, v) == nil
}

// writeRecipe records what a recipe gave: v, made of blobs.
func (c *Content) writeRecipe(kind, recipe string, v any, blobs ...provider.Blob) error {
	path, err := c.recipeFile(kind, recipe)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("content store: %w", err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("content store: %w", err)
	}
	if err := c.journal.built(kind, recipe); err != nil {
		return fmt.Errorf("content store: %w", err)
	}
	if err := c.replace(path, b, renameio.WithPermissions(0o644)); err != nil {
		return fmt.Errorf("content store: %w", err)
	}
	c.journal.named(blobs...)
	return nil
}

// Artifact gives the artifact that was built from a recipe, if there is one and
// all of its files are still there.
func (c *Content) Artifact(recipe string) (provider.Artifact, bool) {
	var a provider.Artifact
	ok := c.readRecipe("artifact", recipe, &a) && c.hasAll(a)
	return a, ok
}

// hasAll reports whether all files of an artifact are there.
func (c *Content) hasAll(a provider.Artifact) bool {
	for _, b := range blobsOf(a) {
		if !c.Has(b) {
			return false
		}
	}
	return true
}

// SetArtifact records that a is what its recipe gives. Its blobs must be sealed
// already. The record is on disk when it returns.
func (c *Content) SetArtifact(a provider.Artifact) error {
	return c.writeRecipe("artifact", a.Recipe, a, blobsOf(a)...)
}

// Base gives the archive that was made from a base recipe, if it is there.
func (c *Content) Base(recipe string) (provider.Blob, bool) {
	var b provider.Blob
	ok := c.readRecipe("base", recipe, &b) && c.Has(b)
	return b, ok
}

// SetBase records that b is what the base recipe gives.
func (c *Content) SetBase(recipe string, b provider.Blob) error {
	return c.writeRecipe("base", recipe, b, b)
}
