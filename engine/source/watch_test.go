package source

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// running starts Run and gives its hints; the first one, which comes at once, is
// taken already. Run is known to have ended when the test ends.
func running(t *testing.T, cfg Config) (*Source, <-chan struct{}) {
	t.Helper()
	s := mustOpen(t, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	wake, done := make(chan struct{}, 1), make(chan error, 1)
	go func() { done <- s.Run(ctx, wake) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	awaitHint(t, wake, "the start")
	return s, wake
}

func awaitHint(t *testing.T, wake <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-wake:
	case <-time.After(2 * time.Second):
		t.Fatalf("no hint within 2 s after %s", what)
	}
}

// awaitTip waits for hints until the tip is h: a hint may come from an earlier
// step of the same change.
func awaitTip(t *testing.T, s *Source, wake <-chan struct{}, h, what string) {
	t.Helper()
	deadline := time.After(2 * time.Second)
	for {
		select {
		case <-wake:
			if rev, err := s.Tip(t.Context()); err == nil && rev.Hash == h {
				return
			}
		case <-deadline:
			t.Fatalf("the tip was not hinted at within 2 s after %s", what)
		}
	}
}

func TestRunNoticesLocalCommits(t *testing.T) {
	noGit(t)
	for _, bare := range []bool{false, true} {
		r := newRepo(t, bare)
		r.commit("first", files{"a": "1"})
		s, wake := running(t, Config{Repo: r.dir, Poll: time.Hour})
		awaitTip(t, s, wake, r.commit("second", files{"a": "2"}).Hash, "a commit")
		awaitTip(t, s, wake, r.commit("third", files{"a": "3"}).Hash, "another")
	}
}

func TestRunNoticesNewFoldersOfBranches(t *testing.T) {
	noGit(t)
	r := newRepo(t, true)
	first := r.commit("first", files{"a": "1"})
	s, wake := running(t, Config{Repo: r.dir, Ref: "site/berlin/lab", Poll: time.Hour})
	r.point("refs/heads/site/berlin/lab", plumbing.NewHash(first.Hash))
	awaitTip(t, s, wake, first.Hash, "a branch in new folders")
	second := r.commit("second", files{"a": "2"})
	r.point("refs/heads/site/berlin/lab", plumbing.NewHash(second.Hash))
	awaitTip(t, s, wake, second.Hash, "a change of it")
}

func TestRunNoticesWhatGitDoes(t *testing.T) {
	dir := gitRepo(t)
	linked := filepath.Join(t.TempDir(), "wt")
	gitIn(t, dir, "worktree", "add", "-q", "-b", "linked", linked)
	s, wake := running(t, Config{Repo: linked, Poll: time.Hour})
	write(t, filepath.Join(linked, "site.hcl"), "two\n")
	awaitTip(t, s, wake, gitCommit(t, linked, "second"), "a commit in a linked work tree")
	gitIn(t, dir, "gc", "-q")
	awaitHint(t, wake, "packing the refs")
	write(t, filepath.Join(linked, "site.hcl"), "three\n")
	awaitTip(t, s, wake, gitCommit(t, linked, "third"), "a commit after packing")
	gitIn(t, linked, "checkout", "-q", "--detach", "HEAD~1")
	awaitTip(t, s, wake, gitIn(t, linked, "rev-parse", "HEAD"), "a checkout")
}

func TestRunPolls(t *testing.T) {
	noGit(t)
	r := newRepo(t, true)
	_, wake := running(t, Config{Repo: r.dir, Poll: 20 * time.Millisecond})
	for range 3 {
		awaitHint(t, wake, "the poll interval")
	}
}

// A repository that is moved away and cloned anew is watched again.
func TestRunSurvivesAReplacedRepository(t *testing.T) {
	noGit(t)
	r := newRepo(t, true)
	r.commit("first", files{"a": "1"})
	s, wake := running(t, Config{Repo: r.dir, Poll: 50 * time.Millisecond})
	if err := os.Rename(r.dir, r.dir+".away"); err != nil {
		t.Fatal(err)
	}
	other := newRepoAt(t, r.dir, true)
	awaitTip(t, s, wake, other.commit("other", files{"a": "2"}).Hash, "the new repository")
}
