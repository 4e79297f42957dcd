package source

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/engine/source/sourcetest"
)

// remote is a bare repository behind git's own HTTP server.
type remote struct {
	*testRepo
	url     string
	lists   atomic.Int64 // questions for the refs
	fetches atomic.Int64
	fail    atomic.Pointer[http.HandlerFunc] // when set, answers instead
	srv     *httptest.Server
}

func newRemote(t *testing.T) *remote { return serveRemote(t, httptest.NewServer) }

func serveRemote(t *testing.T, serve func(http.Handler) *httptest.Server) *remote {
	t.Helper()
	providertest.Need(t, "git")
	root := t.TempDir()
	r := &remote{testRepo: newRepoAt(t, filepath.Join(root, "site.git"), true)}
	h := sourcetest.HTTP(t, root)
	r.srv = serve(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if f := r.fail.Load(); f != nil {
			(*f)(w, req)
			return
		}
		if strings.HasSuffix(req.URL.Path, "/info/refs") {
			r.lists.Add(1)
		} else {
			r.fetches.Add(1)
		}
		h.ServeHTTP(w, req)
	}))
	t.Cleanup(func() {
		r.srv.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	r.url = r.srv.URL + "/site.git"
	return r
}

func (r *remote) breakWith(f http.HandlerFunc) { r.fail.Store(&f) }
func (r *remote) mend()                        { r.fail.Store(nil) }

func TestRemoteTip(t *testing.T) {
	r := newRemote(t)
	noGit(t)
	mirror := filepath.Join(t.TempDir(), "state", "mirror")
	s := mustOpen(t, Config{Repo: r.url, Mirror: mirror})
	if _, err := s.Tip(t.Context()); !errors.Is(err, ErrNoCommit) {
		t.Fatalf("an empty repository: %v", err)
	}
	first := r.commit("first", files{"site.hcl": "one", "d/f": "f"})
	if diff := cmp.Diff(first, mustTip(t, s)); diff != "" {
		t.Fatal(diff)
	}
	tree := mustTree(t, s, first)
	wantFile(t, tree, "d/f", "f")
	fetches := r.fetches.Load()
	mustTip(t, s)
	if got := r.fetches.Load(); got != fetches {
		t.Errorf("nothing is new, and %d fetches were made", got-fetches)
	}
	second := r.commit("second", files{"site.hcl": "two", "d/f": "f"})
	if diff := cmp.Diff(second, mustTip(t, s)); diff != "" {
		t.Fatal(diff)
	}
	wantFile(t, tree, "site.hcl", "one") // the older tree is still whole
	wantFile(t, mustTree(t, s, second), "site.hcl", "two")

	// Somebody pushes by force.
	h := r.commitTree(r.tree(files{"site.hcl": "forced"}), "forced", plumbing.NewHash(first.Hash))
	r.point("refs/heads/main", h)
	if got := mustTip(t, s); got.Hash != h.String() || got.Rewrote != second.Hash {
		t.Fatalf("after a force-push: %+v", got)
	}

	// A new process goes on with what the old one fetched.
	again := mustOpen(t, Config{Repo: r.url, Mirror: mirror})
	fetches = r.fetches.Load()
	if got := mustTip(t, again); got.Hash != h.String() || r.fetches.Load() != fetches {
		t.Fatalf("after a restart: %+v and %d fetches", got, r.fetches.Load()-fetches)
	}
	// Revisions that are on no followed branch are fetched when they are asked for.
	side := r.commitTree(r.tree(files{"site.hcl": "side"}), "side", h)
	r.point("refs/heads/side", side)
	r.point("refs/tags/v1", plumbing.NewHash(first.Hash))
	for spec, want := range map[string]string{"side": side.String(), "v1": first.Hash, "HEAD": h.String(), "side~1": h.String(), second.Hash: second.Hash} {
		if got, err := again.Resolve(t.Context(), spec); err != nil || got.Hash != want {
			t.Errorf("Resolve(%s) = %s, %v; want %s", spec, got.Hash, err, want)
		}
	}
	// A branch that goes away frees its name for a folder of branches.
	if err := r.repo.Storer.RemoveReference("refs/heads/side"); err != nil {
		t.Fatal(err)
	}
	r.point("refs/heads/side/two", side)
	if got, err := again.Resolve(t.Context(), "side/two"); err != nil || got.Hash != side.String() {
		t.Errorf("Resolve(side/two) = %s, %v", got.Hash, err)
	}
	if _, err := again.Resolve(t.Context(), "side"); !errors.Is(err, ErrNoRef) {
		t.Errorf("Resolve of a deleted branch: %v", err)
	}
}

func TestRemoteRefs(t *testing.T) {
	r := newRemote(t)
	noGit(t)
	first := r.commit("first", files{"a": "1"})
	tag := r.object(plumbing.TagObject, []byte("object "+first.Hash+"\ntype commit\ntag v1\ntagger T <t@e> 1 +0000\n\nm\n"))
	r.point("refs/tags/v1", tag)
	r.commit("second", files{"a": "2"})
	if got := mustTip(t, mustOpen(t, Config{Repo: r.url, Mirror: t.TempDir(), Ref: "v1"})); got.Hash != first.Hash {
		t.Errorf("the tip of an annotated tag is %s, want %s", got.Hash, first.Hash)
	}
	r.point("refs/heads/gone", plumbing.NewHash(first.Hash))
	s := mustOpen(t, Config{Repo: r.url, Mirror: t.TempDir(), Ref: "gone"})
	mustTip(t, s)
	if err := r.repo.Storer.RemoveReference("refs/heads/gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tip(t.Context()); !errors.Is(err, ErrNoRef) || !strings.Contains(err.Error(), "the branches are: main") {
		t.Errorf("a deleted branch: %v", err)
	}
	wantFile(t, mustTree(t, s, first), "a", "1")
}

func TestUnreachableRemoteLeavesTheLastGood(t *testing.T) {
	r := newRemote(t)
	noGit(t)
	first := r.commit("first", files{"a": "1"})
	s := mustOpen(t, Config{Repo: r.url, Mirror: t.TempDir(), Timeout: 3 * time.Second})
	mustTip(t, s)
	second := r.commit("second", files{"a": "2"})
	stalled := make(chan struct{})
	defer close(stalled)
	for name, h := range map[string]http.HandlerFunc{
		"500": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "<html>oops", http.StatusInternalServerError)
		},
		"401":     func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>no", http.StatusUnauthorized) },
		"404":     func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) },
		"html":    func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>Wi-Fi login</html>")) },
		"stalled": func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() },
		"cut off": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"fetch fails": func(w http.ResponseWriter, req *http.Request) {
			if strings.HasSuffix(req.URL.Path, "/info/refs") {
				_, _ = io.WriteString(w, "001e# service=git-upload-pack\n0000"+
					pkt(second.Hash+" HEAD\x00symref=HEAD:refs/heads/main agent=x\n")+pkt(second.Hash+" refs/heads/main\n")+"0000")
				return
			}
			_, _ = io.WriteString(w, "0008NAK\nPACK\x00\x00\x00\x02\x00\x00\x00\x09garbage")
		},
	} {
		r.breakWith(h)
		if _, err := s.Tip(t.Context()); !errors.Is(err, ErrUnreachable) || strings.Contains(err.Error(), "<html>no") {
			t.Errorf("%s: %v, want ErrUnreachable", name, err)
		}
		wantFile(t, mustTree(t, s, first), "a", "1")
		if _, err := s.Resolve(t.Context(), first.Hash); err != nil {
			t.Errorf("%s: a commit that is there is not found: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Tip(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	r.mend()
	if got := mustTip(t, s); got.Hash != second.Hash {
		t.Errorf("the tip afterwards is %s, want %s", got.Hash, second.Hash)
	}
}

func pkt(s string) string {
	const digits = "0123456789abcdef"
	n := len(s) + 4
	return string([]byte{digits[n>>12&15], digits[n>>8&15], digits[n>>4&15], digits[n&15]}) + s
}

// The mirror is a cache. Whatever a power cut leaves of it, the next look mends it.
func TestDamagedMirrorIsMadeAnew(t *testing.T) {
	r := newRemote(t)
	noGit(t)
	first := r.commit("first", files{"a": string(noise(1, 5000)), "d/b": "b"})
	each := func(dir, pattern string, f func(string) error) func(*testing.T, string) {
		return func(t *testing.T, mirror string) {
			t.Helper()
			list, err := filepath.Glob(filepath.Join(mirror, dir, pattern))
			if err != nil || len(list) == 0 {
				t.Fatalf("%s/%s: %v, %v", dir, pattern, list, err)
			}
			for _, file := range list {
				_ = os.Chmod(file, 0o644)
				if err := f(file); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	empty := func(file string) error { return os.Truncate(file, 0) }
	half := func(file string) error {
		st, err := os.Stat(file)
		if err != nil {
			return err
		}
		return os.Truncate(file, st.Size()/2)
	}
	for name, damage := range map[string]func(*testing.T, string){
		"gone":         func(_ *testing.T, m string) { _ = os.RemoveAll(m) },
		"empty folder": func(_ *testing.T, m string) { _ = os.RemoveAll(m); _ = os.Mkdir(m, 0o755) },
		"empty ref":    each("refs/dlreconcile", "tip", empty),
		"garbage ref":  each("refs/dlreconcile", "tip", func(f string) error { return os.WriteFile(f, []byte("garbage"), 0o644) }),
		"no head":      each(".", "HEAD", os.Remove),
		"empty head":   each(".", "HEAD", empty),
		"empty config": each(".", "config", empty),
		"empty pack":   each("objects/pack", "*.pack", empty),
		"half a pack":  each("objects/pack", "*.pack", half),
		"empty index":  each("objects/pack", "*.idx", empty),
		"half index":   each("objects/pack", "*.idx", half),
		"no index":     each("objects/pack", "*.idx", os.Remove),
		"no pack":      each("objects/pack", "*.pack", os.Remove),
		"other repo": each(".", "config", func(f string) error {
			return os.WriteFile(f, []byte("[remote \"origin\"]\nurl = https://example.org/x\n"), 0o644)
		}),
	} {
		for _, change := range []bool{false, true} {
			mirror := filepath.Join(t.TempDir(), "m")
			mustTip(t, mustOpen(t, Config{Repo: r.url, Mirror: mirror}))
			damage(t, mirror)
			want := first
			if change {
				first = r.commit("next", files{"a": string(noise(1, 5000)), "d/b": "b"})
				want = first
			}
			s := mustOpen(t, Config{Repo: r.url, Mirror: mirror})
			rev, err := s.Tip(t.Context())
			if err != nil || rev.Hash != want.Hash {
				t.Errorf("%s: tip %s, %v; want %s", name, rev.Hash, err, want.Hash)
				continue
			}
			if err := fs.WalkDir(mustTree(t, s, rev), ".", func(p string, e fs.DirEntry, err error) error {
				if err == nil && !e.IsDir() {
					_, err = fs.ReadFile(mustTree(t, s, rev), p)
				}
				return err
			}); err != nil {
				// A file may turn out to be damaged only when it is read: then the
				// next look makes the mirror anew.
				mustTip(t, s)
				wantFile(t, mustTree(t, s, rev), "a", string(noise(1, 5000)))
			}
		}
	}
}

func TestMirrorDoesNotPileUpPacks(t *testing.T) {
	r := newRemote(t)
	noGit(t)
	r.commit("first", files{"a": "1"})
	mirror := t.TempDir()
	s := mustOpen(t, Config{Repo: r.url, Mirror: mirror})
	mustTip(t, s)
	for i := range maxPacks {
		// Real ones, many times over: what counts is their number.
		write(t, filepath.Join(mirror, "objects/pack", "pack-"+plumbing.ComputeHash(plumbing.BlobObject, []byte{byte(i), byte(i >> 8)}).String()+".pack"), "x")
	}
	mustTip(t, s)
	if list, _ := filepath.Glob(filepath.Join(mirror, "objects/pack/*.pack")); len(list) != 1 {
		t.Errorf("%d packs are left", len(list))
	}
}

func TestCredentials(t *testing.T) {
	r := serveRemote(t, httptest.NewTLSServer)
	noGit(t)
	first := r.commit("first", files{"a": "1"})
	token := filepath.Join(t.TempDir(), "token")
	s := mustOpen(t, Config{Repo: r.url, Mirror: t.TempDir(), TokenFile: token})
	var mu sync.Mutex
	var seen []string
	auth := func(inner http.Handler) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			user, pass, _ := req.BasicAuth()
			mu.Lock()
			seen = append(seen, user+"/"+pass)
			mu.Unlock()
			if pass != "s3cret" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			r.mend()
			inner.ServeHTTP(w, req)
		}
	}
	r.breakWith(auth(r.srv.Config.Handler))
	if _, err := s.Tip(t.Context()); err == nil || !strings.Contains(err.Error(), "token file") {
		t.Errorf("without the token file: %v", err)
	}
	write(t, token, "wrong\n")
	if _, err := s.Tip(t.Context()); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "check the token file") {
		t.Errorf("with a wrong token: %v", err)
	}
	write(t, token, "bot:s3cret\n")
	if rev, err := s.Tip(t.Context()); err != nil || rev.Hash != first.Hash {
		t.Errorf("with the token: %v %v", rev, err)
	}
	if diff := cmp.Diff([]string{"git/wrong", "bot/s3cret"}, seen); diff != "" {
		t.Error(diff)
	}
}

func TestMirrorThatCannotBeWritten(t *testing.T) {
	r := newRemote(t)
	noGit(t)
	r.commit("first", files{"a": "1"})
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	s := mustOpen(t, Config{Repo: r.url, Mirror: filepath.Join(file, "mirror")})
	if _, err := s.Tip(t.Context()); err == nil || errors.Is(err, ErrUnreachable) {
		t.Errorf("a mirror below a file: %v", err)
	}
}
