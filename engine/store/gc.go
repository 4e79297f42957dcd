package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/provider"
)

const (
	// DefaultKeep is how many generations are kept without anybody needing them.
	DefaultKeep = 5
	// grace is how long what no record mentions is kept: it may be about to be
	// recorded.
	grace = time.Hour
)

// Roots is what a collection must keep besides the current generation.
type Roots struct {
	Generations map[uint64]bool // some machine is pinned to them
	Digests     map[string]bool // blobs in use: under an overlay, an open connection
	Keep        int             // newest generations, the current one counted; 0 means DefaultKeep
	// Unknown says why nobody knows of all blobs that are in use; nil: they are in Digests,
	// or of Generations.
	Unknown error
}

// Report is what a collection removed.
type Report struct {
	Records int   `json:"records"`
	Recipes int   `json:"recipes"`
	Blobs   int   `json:"blobs"`
	Bytes   int64 `json:"bytes"` // of the blobs
	// Skipped says why nothing was collected this time, or no recipes and blobs; "" when
	// they were.
	Skipped string `json:"skipped,omitempty"`
}

// GC removes the records, recipes and blobs that neither the current generation
// nor the roots need. It does nothing while something is pinned (Content.Pin).
// Records go first, then recipes, then blobs, so a crash leaves only more to
// collect. When a record that is to be kept cannot be read, nobody knows what it
// needs: then older records go, and nothing else. So it is with roots that are Unknown.
func (s *Store) GC(ctx context.Context, roots Roots) (Report, error) {
	var rep Report
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writable(); err != nil {
		return rep, fmt.Errorf("collect: %w", err)
	}
	if !s.content.pins.TryLock() {
		rep.Skipped = "a build is in progress"
		return rep, nil
	}
	defer s.content.pins.Unlock()
	err := s.collect(ctx, roots, &rep)
	if err != nil {
		err = fmt.Errorf("collect: %w", err)
	}
	return rep, err
}

func (s *Store) collect(ctx context.Context, roots Roots, rep *Report) error {
	k, err := s.keep(roots)
	if err != nil {
		return err
	}
	if err := s.dropRecords(k, rep); err != nil {
		return err
	}
	if k.unreadable != nil {
		return fmt.Errorf("blobs are kept because of a record: %w", k.unreadable)
	}
	if roots.Unknown != nil {
		rep.Skipped = roots.Unknown.Error()
		return nil
	}
	if err := s.dropRecipes(ctx, k, rep); err != nil {
		return err
	}
	return s.dropBlobs(ctx, k, rep)
}

// kept is what stays.
type kept struct {
	records    map[uint64]bool
	artifacts  map[string]bool // recipes
	bases      map[string]bool // recipes
	blobs      map[string]bool // digests
	unreadable error           // of a record that stays
}

func (k *kept) blob(list ...provider.Blob) {
	for _, b := range list {
		k.blobs[b.Digest] = true
	}
}

// keep finds out what stays.
func (s *Store) keep(roots Roots) (*kept, error) {
	k := &kept{records: map[uint64]bool{}, artifacts: map[string]bool{}, bases: map[string]bool{}, blobs: map[string]bool{}}
	all, err := s.numbers()
	if err != nil {
		return nil, err
	}
	upTo, err := s.committed(all)
	if err != nil {
		// Which generation is current is not certain, so all stay.
		upTo = 0
	}
	n := roots.Keep
	if n <= 0 {
		n = DefaultKeep
	}
	for _, g := range slices.Backward(all) {
		// One above the current was never published; its number must not come again.
		k.records[g] = g >= upTo || n > 1 || roots.Generations[g]
		if g < upTo {
			n--
		}
	}
	// The one that is served when the current record is damaged.
	if cur, ok, err := s.current(); err == nil && ok {
		k.records[cur.Number] = true
	}
	for d := range roots.Digests {
		k.blobs[d] = true
	}
	for g, stays := range k.records {
		if !stays {
			continue
		}
		rec, blobs, err := s.needs(g)
		if err != nil {
			s.noted(err)
			k.unreadable = err
			continue
		}
		k.blob(blobs...)
		for recipe := range rec.Artifacts {
			k.artifacts[recipe] = true
		}
		for _, recipe := range rec.Bases {
			k.bases[recipe] = true
		}
	}
	return k, nil
}

func (s *Store) dropRecords(k *kept, rep *Report) error {
	for g, stays := range k.records {
		if stays {
			continue
		}
		path := s.recordPath(g)
		if err := failpoint.Hit("store.gc.record"); err != nil {
			return err
		}
		if err := remove(path); err != nil && !missing(err) {
			return err
		}
		delete(s.damage, path)
		rep.Records++
	}
	if rep.Records == 0 {
		return nil
	}
	if err := failpoint.Hit("store.gc.sync"); err != nil {
		return err
	}
	// Before a blob goes, no record that needs it may come back.
	return syncDir(filepath.Join(s.dir, "generations"))
}

// dropRecipes removes what says that something was built, unless a record needs it
// or it is new. What stays keeps its blobs.
func (s *Store) dropRecipes(ctx context.Context, k *kept, rep *Report) error {
	sweep := func(kind string, wanted map[string]bool, blobs func(recipe string) []provider.Blob) error {
		return s.content.eachRecipe(kind, func(recipe, file string) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			young, err := s.young(file)
			if err != nil {
				return err
			}
			if wanted[recipe] || young || s.promotedLately(kind, recipe, file) {
				k.blob(blobs(recipe)...)
				return nil
			}
			rep.Recipes++
			return removeRecipe(file)
		})
	}
	err := sweep("artifact", k.artifacts, func(recipe string) []provider.Blob {
		a, _ := s.content.Artifact(recipe)
		return blobsOf(a)
	})
	if err != nil {
		return err
	}
	return sweep("base", k.bases, func(recipe string) []provider.Blob {
		b, _ := s.content.Base(recipe)
		return []provider.Blob{b}
	})
}

func removeRecipe(file string) error {
	if err := failpoint.Hit("store.gc.recipe"); err != nil {
		return err
	}
	return remove(file)
}

func (s *Store) dropBlobs(ctx context.Context, k *kept, rep *Report) error {
	return s.content.Each(func(b provider.Blob) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		path, err := s.content.Path(b.Digest)
		if err != nil || k.blobs[b.Digest] {
			return nil // a file that is not ours stays
		}
		young, err := s.young(path)
		if err != nil || young {
			return err
		}
		if err := s.content.Remove(b.Digest); err != nil {
			return err
		}
		rep.Blobs++
		rep.Bytes += b.Size
		return nil
	})
}

// KeepPromoted is for how long an artifact that was made of what a machine wrote is kept
// while no generation names it: nothing can build it again, and somebody has to write
// its digest into the repo first.
const KeepPromoted = 7 * 24 * time.Hour

// promotedLately reports whether a recipe's artifact is such a one.
func (s *Store) promotedLately(kind, recipe, file string) bool {
	if kind != "artifact" {
		return false
	}
	a, ok := s.content.Artifact(recipe)
	if !ok || !a.Promoted {
		return false
	}
	st, err := os.Lstat(file)
	return err == nil && s.now().Sub(st.ModTime()) < KeepPromoted
}

// young reports whether a file was put in its place less than grace ago. The time
// of the last change of its inode says so, which a rename sets: its content may
// have been written hours before.
func (s *Store) young(path string) (bool, error) {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	changed := st.ModTime()
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		changed = time.Unix(sys.Ctim.Unix())
	}
	return s.now().Sub(changed) < grace, nil
}
