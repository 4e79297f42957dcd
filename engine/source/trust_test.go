package source

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

// refused holds an error of Verify against what is wanted; "" wants trust.
func refused(t *testing.T, err error, reason, at string) {
	t.Helper()
	if reason == "" {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	var u *UntrustedError
	if !errors.As(err, &u) {
		t.Errorf("got %v, want reason %s", err, reason)
		return
	}
	if u.Reason != reason || at != "" && u.Commit != at || !strings.Contains(u.Error(), short(u.Commit)) {
		t.Errorf("got %+v, want reason %s at %s", u, reason, at)
	}
}

func TestRewind(t *testing.T) {
	r := newRepo(t, true)
	noGit(t)
	tree := r.tree(files{"site.hcl": "x"})
	rev := func(h plumbing.Hash) Revision { return Revision{Hash: h.String()} }
	root := r.commitTree(tree, "root")
	a := r.commitTree(tree, "a", root)
	b := r.commitTree(tree, "b", a)
	side := r.commitTree(tree, "side", root)
	merge := r.commitTree(tree, "merge", b, side)
	stranger := r.commitTree(tree, "stranger")
	gone := plumbing.NewHash(strings.Repeat("12", 20))
	s := mustOpen(t, Config{Repo: r.dir})
	loose := mustOpen(t, Config{Repo: r.dir, Trust: Trust{Rewind: RewindAccept}})
	for _, tc := range []struct {
		name       string
		tip, since plumbing.Hash
		want       string
	}{
		{"first", b, plumbing.ZeroHash, ""},
		{"same", b, b, ""},
		{"one on", b, a, ""},
		{"two on", b, root, ""},
		{"merged", merge, b, ""},
		{"merged, the other way", merge, side, ""},
		{"back", a, b, ReasonRewound},
		{"aside", side, b, ReasonRewound},
		{"unrelated", stranger, b, ReasonRewound},
		{"the last one is gone", b, gone, ReasonRewound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			since := tc.since.String()
			if tc.since.IsZero() {
				since = ""
			}
			refused(t, verdict(s, t.Context(), rev(tc.tip), since), tc.want, tc.tip.String())
			refused(t, verdict(loose, t.Context(), rev(tc.tip), since), "", "")
		})
	}
	anchored := mustOpen(t, Config{Repo: r.dir, Trust: Trust{Anchor: a.String()}})
	refused(t, verdict(anchored, t.Context(), rev(b), ""), "", "")
	refused(t, verdict(anchored, t.Context(), rev(side), ""), ReasonRewound, side.String())
	refused(t, verdict(anchored, t.Context(), rev(side), root.String()), "", "")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var u *UntrustedError
	if err := verdict(s, ctx, rev(b), a.String()); !errors.Is(err, context.Canceled) || errors.As(err, &u) {
		t.Errorf("cancelled: %v", err)
	}
	if err := verdict(s, t.Context(), rev(gone), a.String()); err == nil || errors.As(err, &u) {
		t.Errorf("a commit that is not there: %v", err)
	}
}

// Dates are the committer's, and may lie.
func TestLineageWithWrongDates(t *testing.T) {
	r := newRepo(t, true)
	tree := r.tree(files{"site.hcl": "x"})
	r.n = 1000
	root := r.commitTree(tree, "root") // newer than all that follow
	r.n = 500
	a := r.commitTree(tree, "a", root)
	r.n = 100
	b := r.commitTree(tree, "b", a)
	r.n = 2000
	side := r.commitTree(tree, "side", root)
	r.n = 0
	tip := r.commitTree(tree, "tip", b, side)
	o := &objects{dirs: gitDirs{dot: r.dir, common: r.dir}}
	line, err := o.lineage(t.Context(), tip, a)
	if err != nil || line.descends != yes {
		t.Fatalf("%+v, %v", line, err)
	}
	added := map[plumbing.Hash]bool{}
	for _, c := range line.added {
		added[c] = true
	}
	for _, h := range []plumbing.Hash{tip, b, side} {
		if !added[h] {
			t.Errorf("%s is missing of %v", h, added)
		}
	}
	if added[a] {
		t.Error("the older commit itself counts as added")
	}
	if line, err = o.lineage(t.Context(), a, tip); err != nil || line.descends != no {
		t.Errorf("backwards: %+v, %v", line, err)
	}
}

func TestRewindInAShallowClone(t *testing.T) {
	dir := gitRepo(t)
	first := gitIn(t, dir, "rev-parse", "HEAD")
	for range 3 {
		gitIn(t, dir, "commit", "-q", "--allow-empty", "-m", "more")
	}
	to := filepath.Join(t.TempDir(), "c")
	gitIn(t, dir, "clone", "-q", "--depth=2", "file://"+dir, to)
	s := mustOpen(t, Config{Repo: to})
	tip := mustTip(t, s)
	refused(t, verdict(s, t.Context(), tip, gitIn(t, to, "rev-parse", "HEAD~1")), "", "")
	refused(t, verdict(s, t.Context(), tip, first), ReasonHistory, tip.Hash)
	gitIn(t, to, "fetch", "-q", "--unshallow")
	refused(t, verdict(s, t.Context(), tip, first), "", "")
}

func TestTrustSettings(t *testing.T) {
	r := newRepo(t, false)
	outside := filepath.Join(t.TempDir(), "signers")
	write(t, outside, "")
	link := filepath.Join(t.TempDir(), "link")
	write(t, filepath.Join(r.dir, "signers"), "")
	if err := os.Symlink(filepath.Join(r.dir, "signers"), link); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		trust Trust
		want  string
	}{
		"no keys":             {Trust{Verify: VerifyEvery}, "needs keys"},
		"word":                {Trust{Verify: "tips"}, `want "none", "tip" or "every"`},
		"rewind":              {Trust{Rewind: "no"}, `want "refuse" or "accept"`},
		"anchor":              {Trust{Anchor: "abc"}, "full hash"},
		"keys in the repo":    {Trust{AllowedSigners: filepath.Join(r.dir, "signers")}, "inside of the repository"},
		"keys below .git":     {Trust{OpenPGPKeys: []string{filepath.Join(r.dir, ".git", "keys")}}, "inside of the repository"},
		"a link into it":      {Trust{AllowedSigners: link}, "inside of the repository"},
		"signatures, no keys": {Trust{Verify: VerifyTip}, "needs keys"},
	} {
		if _, err := Open(Config{Repo: r.dir, Trust: tc.trust}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	if _, err := Open(Config{Repo: r.dir, Trust: Trust{AllowedSigners: outside, Verify: VerifyNone}}); err != nil {
		t.Error(err)
	}
}
