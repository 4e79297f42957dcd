package source

import (
	"errors"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// git may repack while a storage is new: what it does not find may be in a pack of since.
func TestNewStorageMayMissARepack(t *testing.T) {
	r := newRepo(t, true)
	r.commit("one", files{"site.hcl": "x"})
	for _, tc := range []struct {
		name   string
		opened bool // a storage is in use
		misses int
		err    error
	}{
		{"new", false, 0, nil},
		{"new, and repacked", false, 1, nil},
		{"in use, and repacked twice", true, 2, nil},
		{"not there", false, 2, plumbing.ErrObjectNotFound},
		{"in use, and not there", true, 3, plumbing.ErrObjectNotFound},
	} {
		o := &objects{dirs: gitDirs{dot: r.dir, common: r.dir}}
		if tc.opened {
			if err := o.with(func(*filesystem.Storage) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		seen := map[*filesystem.Storage]bool{}
		err := o.with(func(st *filesystem.Storage) error {
			seen[st] = true
			if len(seen) <= tc.misses {
				return plumbing.ErrObjectNotFound
			}
			return nil
		})
		if want := min(tc.misses+1, 3); !errors.Is(err, tc.err) || tc.err == nil && len(seen) != want {
			t.Errorf("%s: %v, of %d storages", tc.name, err, len(seen))
		}
	}
}
