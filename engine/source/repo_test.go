package source

import (
	"encoding/pem"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"go.uber.org/goleak"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

func TestMain(m *testing.M) {
	if repo := os.Getenv(followVar); repo != "" {
		follow(repo)
		return
	}
	if err := trustTestServers(); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.Remove(os.Getenv("SSL_CERT_FILE"))
		os.Exit(code)
	}))
}

// trustTestServers makes the certificate of httptest's servers one of those that
// the machine trusts, as an operator does it with one of their own.
func trustTestServers() error {
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	f, err := os.CreateTemp("", "test-ca-*.pem")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Setenv("SSL_CERT_FILE", f.Name()); err != nil {
		return err
	}
	return pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
}

// noGit makes sure that the code under test cannot run the git program.
func noGit(t *testing.T) { t.Setenv("PATH", t.TempDir()) }

// testRepo writes commits straight into the object database, hostile ones too.
type testRepo struct {
	t    testing.TB
	dir  string
	repo *git.Repository
	n    int
}

func newRepo(t testing.TB, bare bool) *testRepo {
	t.Helper()
	return newRepoAt(t, t.TempDir(), bare)
}

func newRepoAt(t testing.TB, dir string, bare bool) *testRepo {
	t.Helper()
	repo, err := git.PlainInitWithOptions(dir, &git.PlainInitOptions{
		Bare: bare, InitOptions: git.InitOptions{DefaultBranch: "refs/heads/main"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &testRepo{t: t, dir: dir, repo: repo}
}

// entry is what a test tree holds at a path; the mode of a plain string is Regular.
type entry struct {
	mode filemode.FileMode
	data string
	hash plumbing.Hash // for a submodule or a ready-made tree
}

type files map[string]any // string or entry

func (r *testRepo) object(typ plumbing.ObjectType, data []byte) plumbing.Hash {
	r.t.Helper()
	h, err := r.repo.Storer.SetEncodedObject(encoded(typ, data))
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

func (r *testRepo) blob(data string) plumbing.Hash {
	return r.object(plumbing.BlobObject, []byte(data))
}

// rawTree writes a tree in the order given, whatever its names are.
func (r *testRepo) rawTree(entries ...object.TreeEntry) plumbing.Hash {
	var b []byte
	for _, e := range entries {
		b = fmt.Appendf(b, "%o %s\x00%s", uint32(e.Mode), e.Name, e.Hash[:])
	}
	return r.object(plumbing.TreeObject, b)
}

func (r *testRepo) tree(fl files) plumbing.Hash {
	r.t.Helper()
	top := map[string]files{}
	var entries []object.TreeEntry
	for name, v := range fl {
		if dir, rest, ok := strings.Cut(name, "/"); ok {
			if top[dir] == nil {
				top[dir] = files{}
			}
			top[dir][rest] = v
			continue
		}
		switch v := v.(type) {
		case string:
			entries = append(entries, object.TreeEntry{Name: name, Mode: filemode.Regular, Hash: r.blob(v)})
		case entry:
			if v.hash.IsZero() {
				v.hash = r.blob(v.data)
			}
			entries = append(entries, object.TreeEntry{Name: name, Mode: v.mode, Hash: v.hash})
		}
	}
	for dir, sub := range top {
		entries = append(entries, object.TreeEntry{Name: dir, Mode: filemode.Dir, Hash: r.tree(sub)})
	}
	slices.SortFunc(entries, func(a, b object.TreeEntry) int {
		key := func(e object.TreeEntry) string {
			if e.Mode == filemode.Dir {
				return e.Name + "/"
			}
			return e.Name
		}
		return strings.Compare(key(a), key(b))
	})
	return r.rawTree(entries...)
}

// commitTree makes a commit without moving a branch.
func (r *testRepo) commitTree(tree plumbing.Hash, message string, parents ...plumbing.Hash) plumbing.Hash {
	r.t.Helper()
	r.n++
	sig := object.Signature{Name: "Test", Email: "test@example.org", When: time.Unix(1700000000+int64(r.n), 0).UTC()}
	c := &object.Commit{Author: sig, Committer: sig, Message: message, TreeHash: tree, ParentHashes: parents}
	obj := &plumbing.MemoryObject{}
	if err := c.Encode(obj); err != nil {
		r.t.Fatal(err)
	}
	h, err := r.repo.Storer.SetEncodedObject(obj)
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

func (r *testRepo) point(ref string, h plumbing.Hash) {
	r.t.Helper()
	if err := r.repo.Storer.SetReference(plumbing.NewHashReference(plumbing.ReferenceName(ref), h)); err != nil {
		r.t.Fatal(err)
	}
}

// commit adds a commit to main.
func (r *testRepo) commit(message string, fl files) Revision {
	r.t.Helper()
	var parents []plumbing.Hash
	if ref, err := r.repo.Storer.Reference("refs/heads/main"); err == nil {
		parents = append(parents, ref.Hash())
	}
	h := r.commitTree(r.tree(fl), message, parents...)
	r.point("refs/heads/main", h)
	return Revision{Hash: h.String(), Subject: strings.Split(message, "\n")[0], Author: "Test <test@example.org>"}
}

func mustOpen(t testing.TB, cfg Config) *Source {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustTip(t testing.TB, s *Source) Revision {
	t.Helper()
	rev, err := s.Tip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func mustTree(t testing.TB, s *Source, rev Revision) *Tree {
	t.Helper()
	fsys, err := s.Tree(t.Context(), rev)
	if err != nil {
		t.Fatal(err)
	}
	return fsys.(*Tree)
}

func wantFile(t testing.TB, fsys fs.FS, name, want string) {
	t.Helper()
	got, err := fs.ReadFile(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Fatalf("%s holds %.80q, want %.80q", name, got, want)
	}
}

// gitIn runs the real git, for repositories as people have them.
func gitIn(t testing.TB, dir string, args ...string) string {
	t.Helper()
	providertest.Need(t, "git")
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=Test", "GIT_AUTHOR_EMAIL=test@example.org", "GIT_COMMITTER_NAME=Test", "GIT_COMMITTER_EMAIL=test@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func write(t testing.TB, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// gitRepo makes a repository with the real git and one commit.
func gitRepo(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	gitIn(t, dir, "init", "-q", "-b", "main")
	write(t, filepath.Join(dir, "site.hcl"), "one\n")
	write(t, filepath.Join(dir, "sub/deep/x.txt"), "x\n")
	gitCommit(t, dir, "first")
	return dir
}

func gitCommit(t testing.TB, dir, message string) string {
	t.Helper()
	gitIn(t, dir, "add", "-A")
	gitIn(t, dir, "commit", "-q", "-m", message)
	return gitIn(t, dir, "rev-parse", "HEAD")
}
