package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/google/go-cmp/cmp"
)

func TestTipFollowsTheRef(t *testing.T) {
	noGit(t)
	for _, bare := range []bool{false, true} {
		t.Run(fmt.Sprintf("bare=%v", bare), func(t *testing.T) {
			r := newRepo(t, bare)
			s := mustOpen(t, Config{Repo: "file://" + r.dir})
			if _, err := s.Tip(t.Context()); !errors.Is(err, ErrNoCommit) {
				t.Fatalf("Tip of an empty repository: %v, want ErrNoCommit", err)
			}
			first := r.commit("first\n\nbody", files{"site.hcl": "one"})
			if diff := cmp.Diff(first, mustTip(t, s)); diff != "" {
				t.Fatal(diff)
			}
			second := r.commit("second", files{"site.hcl": "two"})
			if diff := cmp.Diff(second, mustTip(t, s)); diff != "" {
				t.Fatal(diff)
			}
			wantFile(t, mustTree(t, s, first), "site.hcl", "one")
			wantFile(t, mustTree(t, s, second), "site.hcl", "two")
		})
	}
}

func TestTipNamesTheBranchesThereAre(t *testing.T) {
	noGit(t)
	r := newRepo(t, true)
	first := r.commit("first", files{"a": "1"})
	r.point("refs/heads/site/berlin", plumbing.NewHash(first.Hash))
	s := mustOpen(t, Config{Repo: r.dir, Ref: "site/berlin"})
	mustTip(t, s)
	if err := r.repo.Storer.RemoveReference("refs/heads/site/berlin"); err != nil {
		t.Fatal(err)
	}
	_, err := s.Tip(t.Context())
	if !errors.Is(err, ErrNoRef) || !strings.Contains(err.Error(), "the branches are: main") {
		t.Fatalf("Tip of a deleted branch: %v", err)
	}
	wantFile(t, mustTree(t, s, first), "a", "1") // the last good one stays readable
}

func TestTipSaysThatTheBranchWasRewritten(t *testing.T) {
	noGit(t)
	r := newRepo(t, true)
	s := mustOpen(t, Config{Repo: r.dir})
	first := r.commit("first", files{"a": "1"})
	mustTip(t, s)
	second := r.commit("second", files{"a": "2"})
	if got := mustTip(t, s); got.Rewrote != "" {
		t.Fatalf("a plain push counts as a rewrite: %+v", got)
	}
	h := r.commitTree(r.tree(files{"a": "other"}), "other", plumbing.NewHash(first.Hash))
	r.point("refs/heads/main", h)
	if got := mustTip(t, s); got.Hash != h.String() || got.Rewrote != second.Hash {
		t.Fatalf("after a force-push: %+v, want it to name %s", got, second.Hash)
	}
	if got := mustTip(t, s); got.Rewrote != "" {
		t.Fatalf("the rewrite is told twice: %+v", got)
	}
}

func TestSubjectIsFitForATerminal(t *testing.T) {
	noGit(t)
	r := newRepo(t, true)
	r.commit("red \x1b[31malert\x07\u202e\xff  x\nbody", files{"a": "1"})
	got := mustTip(t, mustOpen(t, Config{Repo: r.dir})).Subject
	if want := "red [31malert \uFFFD x"; got != want {
		t.Fatalf("subject %q, want %q", got, want)
	}
}

func TestResolve(t *testing.T) {
	noGit(t)
	r := newRepo(t, true)
	a := r.commit("a", files{"f": "a"})
	b := r.commit("b", files{"f": "b"})
	side := r.commitTree(r.tree(files{"f": "side"}), "side", plumbing.NewHash(a.Hash))
	merge := r.commitTree(r.tree(files{"f": "merge"}), "merge", plumbing.NewHash(b.Hash), side)
	r.point("refs/heads/main", merge)
	r.point("refs/tags/light", plumbing.NewHash(b.Hash))
	tag := r.object(plumbing.TagObject, fmt.Appendf(nil, "object %s\ntype commit\ntag v1\ntagger T <t@e> 1 +0000\n\nm\n", a.Hash))
	r.point("refs/tags/v1", tag)
	treeTag := r.object(plumbing.TagObject, fmt.Appendf(nil, "object %s\ntype tree\ntag t\ntagger T <t@e> 1 +0000\n\nm\n", r.tree(files{"f": "a"})))
	r.point("refs/tags/tree", treeTag)
	s := mustOpen(t, Config{Repo: r.dir})
	for spec, want := range map[string]string{
		a.Hash: a.Hash, a.Hash[:7]: a.Hash, strings.ToUpper(b.Hash[:12]): b.Hash, "HEAD": merge.String(), "@": merge.String(),
		"main": merge.String(), "light": b.Hash, "v1": a.Hash, "refs/tags/v1": a.Hash, tag.String(): a.Hash,
		"HEAD~": b.Hash, "HEAD^1": b.Hash, "HEAD^2": side.String(), "@^2~1": a.Hash, "main~2": a.Hash, "main^0": merge.String(), "main^^": a.Hash,
	} {
		got, err := s.Resolve(t.Context(), spec)
		if err != nil || got.Hash != want {
			t.Errorf("Resolve(%s) = %s, %v; want %s", spec, got.Hash, err, want)
		}
	}
	for _, spec := range []string{"", "~1", "nope", "deadbeef", strings.Repeat("0", 40), "HEAD~9", "HEAD^3", "HEAD~99999999999999999999",
		"HEAD^{tree}", ":/text", "main@{1}", "a..b", "-x", "tree", "../../HEAD", "main~1x", strings.Repeat("x", 1000)} {
		if got, err := s.Resolve(t.Context(), spec); err == nil {
			t.Errorf("Resolve(%.40q) = %s, want an error", spec, got.Hash)
		}
	}
	if _, err := s.Resolve(t.Context(), "nope"); !errors.Is(err, ErrNoRef) {
		t.Errorf("Resolve(nope): %v, want ErrNoRef", err)
	}
}

func FuzzParseRevSpec(f *testing.F) {
	for _, s := range []string{"HEAD~3^2", "@", "v1^^", "a~999999999999", "x^{y}", "refs/heads/a b", "~"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		rs, err := parseRevSpec(s)
		if err == nil && (rs.base == "" || !strings.HasPrefix(s, rs.base)) {
			t.Fatalf("%q parsed to %+v", s, rs)
		}
	})
}

func TestOpenRefusesWhatItCannotFollow(t *testing.T) {
	noGit(t)
	r := newRepo(t, false)
	inside := filepath.Join(r.dir, "examples/quickstart")
	write(t, filepath.Join(inside, "x"), "x")
	write(t, filepath.Join(r.dir, "file"), "x")
	for repo, want := range map[string]string{
		"":                                     "no repository",
		"/does/not/exist":                      "no such file",
		t.TempDir():                            "is not a Git repository",
		filepath.Join(r.dir, "file"):           "not a folder",
		inside:                                 "did you mean the repository " + r.dir + " and the path examples/quickstart?",
		"git@example.org:team/site.git":        "ssh is not supported",
		"ssh://git@example.org/site.git":       "ssh is not supported",
		"git://example.org/site.git":           "folder for its mirror",
		"ext::sh -c touch% /tmp/x":             "ssh is not supported",
		"https://user:hunter2@example.org/x":   "token file",
		"https://example.org/site.git":         "folder for its mirror",
		"file://otherhost/srv/x":               "names this machine",
		"https://user:hunter2@exa mple.org/%x": "cannot be parsed",
	} {
		_, err := Open(Config{Repo: repo})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open(%q): %v, want %q", repo, err, want)
		}
	}
	for _, p := range []string{"../x", "/etc", "a/../../b"} {
		if _, err := Open(Config{Repo: r.dir, Path: p}); err == nil {
			t.Errorf("Open with path %q works", p)
		}
	}
	if _, err := Open(Config{Repo: "http://example.org/x", Mirror: t.TempDir(), TokenFile: "/x"}); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("a token over plain http: %v", err)
	}
	write(t, filepath.Join(r.dir, ".git/config"), "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectFormat = sha256\n")
	if _, err := Open(Config{Repo: r.dir}); err == nil || !strings.Contains(err.Error(), "sha256") {
		t.Errorf("a sha256 repository: %v", err)
	}
	write(t, filepath.Join(r.dir, ".git/config"), "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tworktreeConfig = true\n")
	if _, err := Open(Config{Repo: r.dir}); err != nil {
		t.Errorf("a repository with sparse checkouts: %v", err)
	}
}

// Repositories as the real git leaves them.
func TestRealRepositories(t *testing.T) {
	dir := gitRepo(t)
	first := gitIn(t, dir, "rev-parse", "HEAD")
	s := mustOpen(t, Config{Repo: dir})
	check := func(t *testing.T, s *Source, hash, content string) {
		t.Helper()
		rev := mustTip(t, s)
		if rev.Hash != hash {
			t.Fatalf("tip %s, want %s", rev.Hash, hash)
		}
		wantFile(t, mustTree(t, s, rev), "site.hcl", content)
	}
	check(t, s, first, "one\n")

	t.Run("packed and collected while open", func(t *testing.T) {
		tree := mustTree(t, s, mustTip(t, s)) // from loose objects
		write(t, filepath.Join(dir, "site.hcl"), strings.Repeat("line\n", 20000))
		gitCommit(t, dir, "large")
		write(t, filepath.Join(dir, "site.hcl"), strings.Repeat("line\n", 20000)+"two\n")
		second := gitCommit(t, dir, "second")
		gitIn(t, dir, "gc", "-q", "--aggressive", "--prune=now")
		if _, err := os.Stat(filepath.Join(dir, ".git/refs/heads/main")); err == nil {
			t.Fatal("refs were not packed")
		}
		wantFile(t, tree, "sub/deep/x.txt", "x\n")
		check(t, s, second, strings.Repeat("line\n", 20000)+"two\n") // one of the two is a delta
		gitIn(t, dir, "repack", "-q", "-adf", "--depth=1")
		wantFile(t, tree, "site.hcl", "one\n")
	})
	tip := gitIn(t, dir, "rev-parse", "HEAD")
	content := strings.Repeat("line\n", 20000) + "two\n"

	t.Run("linked work tree", func(t *testing.T) {
		linked := filepath.Join(t.TempDir(), "wt")
		gitIn(t, dir, "worktree", "add", "-q", "-b", "other", linked, first)
		s := mustOpen(t, Config{Repo: linked})
		check(t, s, first, "one\n")
		write(t, filepath.Join(linked, "site.hcl"), "linked\n")
		check(t, s, gitCommit(t, linked, "in the linked tree"), "linked\n")
	})
	t.Run("clones", func(t *testing.T) {
		for name, args := range map[string][]string{
			"bare":      {"clone", "-q", "--bare", dir},
			"shallow":   {"clone", "-q", "--depth=1", "file://" + dir},
			"shared":    {"clone", "-q", "--shared", dir}, // objects are in another repository
			"separated": {"clone", "-q", "--separate-git-dir=" + filepath.Join(t.TempDir(), "g"), dir},
		} {
			to := filepath.Join(t.TempDir(), "c")
			gitIn(t, dir, append(args, to)...)
			s := mustOpen(t, Config{Repo: to})
			check(t, s, tip, content)
			if name == "shallow" {
				if _, err := s.Resolve(t.Context(), "HEAD~1"); err == nil {
					t.Error("the parent of a shallow commit was found")
				}
				gitIn(t, dir, "commit", "-q", "--allow-empty", "-m", "next")
				gitIn(t, to, "fetch", "-q", "--depth=1", "origin", "main")
				gitIn(t, to, "reset", "-q", "--hard", "FETCH_HEAD")
				if rev := mustTip(t, s); rev.Rewrote != "" {
					t.Errorf("a new tip of a shallow clone counts as a rewrite: %+v", rev)
				}
				gitIn(t, dir, "reset", "-q", "--hard", "HEAD~1")
			}
		}
	})
	t.Run("submodule", func(t *testing.T) {
		gitIn(t, dir, "-c", "protocol.file.allow=always", "submodule", "add", "-q", dir, "mod")
		gitCommit(t, dir, "submodule")
		tree := mustTree(t, s, mustTip(t, s))
		if _, err := tree.Open("mod/site.hcl"); !errors.Is(err, ErrSubmodule) {
			t.Errorf("a file of a submodule: %v", err)
		}
	})
}

func TestConcurrentReadersWhileGitRepacks(t *testing.T) {
	dir := gitRepo(t)
	s := mustOpen(t, Config{Repo: dir})
	rev := mustTip(t, s)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				tree, err := s.Tree(ctx, rev)
				if err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					return
				}
				b, err := tree.(*Tree).ReadFile("sub/deep/x.txt")
				if err != nil || string(b) != "x\n" {
					t.Errorf("%q, %v", b, err)
					return
				}
				if _, err := s.Tip(ctx); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 4 {
		write(t, filepath.Join(dir, "new"), fmt.Sprint(i))
		gitCommit(t, dir, "more")
		gitIn(t, dir, "gc", "-q", "--prune=now")
	}
	cancel()
	wg.Wait()
}

func TestLocalRepositoryGoesAway(t *testing.T) {
	dir := gitRepo(t)
	s := mustOpen(t, Config{Repo: dir})
	tip := mustTip(t, s)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tip(t.Context()); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a repository that is gone: %v", err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if again := mustTip(t, s); again != tip {
		t.Errorf("back again: %+v", again)
	}
}
