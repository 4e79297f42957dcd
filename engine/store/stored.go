package store

import (
	"cmp"
	"errors"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Stored is an artifact that is in the store, whole.
type Stored struct {
	Artifact    provider.Artifact
	Bytes       int64         // that its root takes on disk, without its holes
	Built       time.Time     // when it was recorded last
	Images      []schema.Addr // that it was in the generations that are kept, in order
	Generations []uint64      // that are kept and name it, in order
	// Until is when it may be collected, though nothing can build it again; zero for
	// one that was not promoted, or that a generation names.
	Until time.Time
}

// Artifacts lists what was built, fetched or promoted and is there, newest first. Several
// recipes may have given one artifact, which is listed once. A record that cannot be read
// names nothing.
func (s *Store) Artifacts() ([]Stored, error) {
	defer s.content.Pin()()
	found := map[string]*Stored{}
	err := s.content.eachRecipe("artifact", func(recipe, file string) error {
		a, ok := s.content.Artifact(recipe)
		if !ok {
			return nil
		}
		st, err := os.Lstat(file)
		if err != nil {
			return err
		}
		was := found[a.Root.Digest]
		if was != nil && !was.Built.Before(st.ModTime()) {
			was.Artifact.Promoted = was.Artifact.Promoted && a.Promoted // it can be built again
			return nil
		}
		now := &Stored{Artifact: a, Built: st.ModTime().UTC(), Bytes: s.content.bytes(a.Root)}
		if was != nil {
			now.Artifact.Promoted = now.Artifact.Promoted && was.Artifact.Promoted
		}
		found[a.Root.Digest] = now
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, n := range s.Numbers() {
		rec, err := s.Get(n)
		if missing(err) || errors.As(err, new(*DamagedError)) {
			continue // collected meanwhile; or the status tells
		}
		if err != nil {
			return nil, err
		}
		for image, a := range rec.Images {
			if st := found[a.Root.Digest]; st != nil && !slices.Contains(st.Images, image) {
				st.Images = append(st.Images, image)
			}
		}
		for _, a := range slices.AppendSeq(slices.Collect(maps.Values(rec.Images)), maps.Values(rec.Artifacts)) {
			if st := found[a.Root.Digest]; st != nil && !slices.Contains(st.Generations, n) {
				st.Generations = append(st.Generations, n)
			}
		}
	}
	out := make([]Stored, 0, len(found))
	for _, st := range found {
		slices.SortFunc(st.Images, schema.Addr.Compare)
		slices.Sort(st.Generations)
		if st.Artifact.Promoted && len(st.Generations) == 0 {
			st.Until = st.Built.Add(KeepPromoted)
		}
		out = append(out, *st)
	}
	slices.SortFunc(out, func(a, b Stored) int {
		return cmp.Or(b.Built.Compare(a.Built), cmp.Compare(a.Artifact.Root.Digest, b.Artifact.Root.Digest))
	})
	return out, nil
}

// bytes gives what a blob takes on disk; 0 when it is gone.
func (c *Content) bytes(b provider.Blob) int64 {
	path, err := c.Path(b.Digest)
	if err != nil {
		return 0
	}
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return sys.Blocks * 512
	}
	return st.Size()
}
