package providertest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// descriptors counts this process's open descriptors by what they refer to.
func descriptors(t *testing.T, keep func(target string) bool) map[string]int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]int{}
	for _, e := range list {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err == nil && keep(target) { // else it was that of the folder itself
			m[target]++
		}
	}
	return m
}

// sockets gives every socket of this process, by inode.
func sockets(t *testing.T) map[string]int {
	t.Helper()
	return descriptors(t, func(target string) bool { return strings.HasPrefix(target, "socket:") })
}

// blobs counts the files of the content store that are open.
func (s *house) blobs() map[string]int {
	s.t.Helper()
	dir := filepath.Join(s.state, "blobs") + "/"
	return descriptors(s.t, func(target string) bool { return strings.HasPrefix(target, dir) })
}

// moment is how long a descriptor may take to go when it is closed while somebody
// reads from it.
const moment = 2 * time.Second

// same waits until get gives want, for a moment; not for long in a test that has
// failed.
func same(t *testing.T, what string, want map[string]int, get func() map[string]int) {
	t.Helper()
	for deadline := time.Now().Add(moment); ; time.Sleep(2 * time.Millisecond) {
		got := get()
		if cmp.Equal(want, got) {
			return
		}
		if t.Failed() || time.Now().After(deadline) {
			t.Errorf("%s (-want +got)\n%s", what, cmp.Diff(want, got))
			return
		}
	}
}

// within checks that nothing of want is missing in got.
func within(t *testing.T, what string, want, got map[string]int) {
	t.Helper()
	for target := range want {
		if got[target] == 0 {
			t.Errorf("%s: %s is gone", what, target)
		}
	}
}

// files lists what is in the state directory, as far as keep wants it, with what
// tells whether it was written again.
func (s *house) files(keep func(path string) bool) map[string]string {
	s.t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(s.state, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(s.state, path)
		if err != nil || d.IsDir() || !keep(rel) {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		m[rel] = fmt.Sprintf("%s %d bytes of %s", st.Mode(), st.Size(), st.ModTime().Format(time.RFC3339Nano))
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// noScratch checks that no work in progress is left.
func (s *house) noScratch(when string) {
	s.t.Helper()
	list, err := os.ReadDir(filepath.Join(s.state, "tmp"))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	for _, e := range list {
		s.t.Errorf("%s: scratch %s is left", when, e.Name())
	}
}

// view is all that a Prepare must leave alone.
type view struct {
	current, one [][]provider.Answer
	sockets      map[string]int
	blobs        map[string]int
	private      map[string]string // files that are not the content store's
}

// look takes a view.
func (s *house) look() view {
	s.t.Helper()
	return view{
		current: s.answers(0), one: s.answers(1), sockets: sockets(s.t), blobs: s.blobs(),
		private: s.files(func(path string) bool {
			first, _, _ := strings.Cut(path, "/")
			return first != "blobs" && first != "recipes" && first != "tmp"
		}),
	}
}

// unchanged compares what is seen now with an earlier view. While something is
// prepared there may be more sockets and open files; afterwards not.
func (s *house) unchanged(when string, before view, prepared bool) {
	s.t.Helper()
	now := s.look()
	if diff := cmp.Diff([][][]provider.Answer{before.current, before.one}, [][][]provider.Answer{now.current, now.one}); diff != "" {
		s.t.Errorf("%s: answers changed (-before +after)\n%s", when, diff)
	}
	if diff := cmp.Diff(before.private, now.private); diff != "" {
		s.t.Errorf("%s: files outside of the content store changed (-before +after)\n%s", when, diff)
	}
	s.noScratch(when)
	if prepared {
		within(s.t, when, before.sockets, now.sockets)
		within(s.t, when, before.blobs, now.blobs)
		return
	}
	same(s.t, when+": sockets", before.sockets, func() map[string]int { return sockets(s.t) })
	same(s.t, when+": open files of the content store", before.blobs, s.blobs)
}
