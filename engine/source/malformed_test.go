package source

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// What was pushed malformed is told from a repository that lost something: nothing is
// made anew for it, and the commit before is read on.
func TestMalformedIsNotDamaged(t *testing.T) {
	r := newRepo(t, true)
	good := r.commit("good", files{"site.hcl": "one"})
	s := mustOpen(t, Config{Repo: r.dir})
	mustTip(t, s)
	who := "author A <a@example.org> 1 +0000\ncommitter A <a@example.org> 1 +0000\n\n"
	says := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrMalformed) || damaged(err) || !strings.Contains(err.Error(), "nothing here is damaged") || strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("%s: %v", what, err)
		}
	}
	tip := func(what string, h plumbing.Hash) {
		t.Helper()
		r.point("refs/heads/main", h)
		_, err := s.Tip(t.Context())
		says(what, err)
	}
	_, public := sshKey(t)
	garbage := r.object(plumbing.CommitObject, []byte("garbage\x1b[2J\n"))
	tip("a commit of garbage", garbage)
	tip("a commit without a tree", r.object(plumbing.CommitObject, []byte("parent "+good.Hash+"\n"+who)))
	tip("a tag of garbage", r.object(plumbing.TagObject, []byte("object x\n")))

	// Reached on the way: the folders of a commit, and its signature.
	tree := r.object(plumbing.TreeObject, []byte("10x644 f\x00short"))
	bad := r.object(plumbing.CommitObject, []byte("tree "+tree.String()+"\n"+who))
	_, err := s.Tree(t.Context(), Revision{Hash: bad.String()})
	says("a folder", err)
	keyed := mustOpen(t, Config{Repo: r.dir, Trust: Trust{Verify: VerifyTip, AllowedSigners: signersFile(t, "x "+public)}})
	_, err = keyed.Verify(t.Context(), Revision{Hash: garbage.String()}, Trusted{})
	says("verified", err)

	r.point("refs/heads/main", plumbing.NewHash(good.Hash))
	if got := mustTip(t, s); got.Hash != good.Hash {
		t.Errorf("put right: %+v", got)
	}
}

// A server whose tip is malformed is looked at again and again, and the mirror is kept.
func TestMalformedTipKeepsTheMirror(t *testing.T) {
	r := newRemote(t)
	noGit(t)
	good := r.commit("good", files{"site.hcl": "one"})
	var log bytes.Buffer
	s := mustOpen(t, Config{Repo: r.url, Mirror: t.TempDir() + "/m", Log: slog.New(slog.NewTextHandler(&log, nil))})
	mustTip(t, s)
	bad := r.object(plumbing.CommitObject, []byte("garbage\n"))
	var pack bytes.Buffer
	if _, err := packfile.NewEncoder(&pack, r.repo.Storer, false).Encode([]plumbing.Hash{bad}, 0); err != nil {
		t.Fatal(err)
	}
	// git-upload-pack(1) would not send it.
	r.breakWith(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/info/refs") {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			fmt.Fprint(w, "001e# service=git-upload-pack\n0000"+pkt(bad.String()+" HEAD\x00agent=x symref=HEAD:refs/heads/main\n")+pkt(bad.String()+" refs/heads/main\n")+"0000")
			return
		}
		w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
		fmt.Fprint(w, "0008NAK\n"+pack.String())
	})
	for range 2 {
		if _, err := s.Tip(t.Context()); !errors.Is(err, ErrMalformed) || damaged(err) {
			t.Errorf("%v", err)
		}
	}
	if strings.Contains(log.String(), "anew") {
		t.Error(log.String())
	}
	wantFile(t, mustTree(t, s, good), "site.hcl", "one")
	r.mend()
	second := r.commit("second", files{"site.hcl": "two"})
	if got := mustTip(t, s); got.Hash != second.Hash {
		t.Errorf("put right: %+v", got)
	}
}
