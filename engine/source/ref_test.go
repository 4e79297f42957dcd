package source

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

func TestVersionRanges(t *testing.T) {
	r := newRemote(t)
	noGit(t)
	hash := map[string]string{}
	for _, tag := range []string{"v1.1.0", "v1.2.0", "1.10.0", "v1.9.9", "v2.0.0-rc.1", "v2.0.0-rc.2", "2026", "v3", "v1.99", "release-1.50.0", "v01.60.0"} {
		rev := r.commit(tag, files{"a": tag})
		h := plumbing.NewHash(rev.Hash)
		if tag == "1.10.0" { // an annotated one
			h = r.object(plumbing.TagObject, []byte("object "+rev.Hash+"\ntype commit\ntag "+tag+"\ntagger T <t@e> 1 +0000\n\nm\n"))
		}
		r.point("refs/tags/"+tag, h)
		hash[tag] = rev.Hash
	}
	r.point("refs/heads/v1.70.0", plumbing.NewHash(hash["v1.1.0"])) // a branch is no version
	for _, tc := range []struct{ ref, tag, fail string }{
		{ref: "semver:*", tag: "1.10.0"},
		{ref: "semver:>=1.2 <2", tag: "1.10.0"},
		{ref: "semver:~1.9", tag: "v1.9.9"},
		{ref: "semver:1.2.0", tag: "v1.2.0"},
		{ref: "semver:^1 <1.5", tag: "v1.2.0"},
		{ref: "semver:>=2.0.0-0", tag: "v2.0.0-rc.2"},
		{ref: "semver:>=2", fail: "no tag is a version of semver:>=2; the highest is v2.0.0-rc.2"},
	} {
		for where, cfg := range map[string]Config{"remote": {Repo: r.url, Mirror: t.TempDir()}, "local": {Repo: r.dir}} {
			cfg.Ref = tc.ref
			rev, err := mustOpen(t, cfg).Tip(t.Context())
			if tc.fail != "" {
				if !errors.Is(err, ErrNoRef) || !strings.Contains(err.Error(), tc.fail) {
					t.Errorf("%s, %s: %v, want %q", tc.ref, where, err, tc.fail)
				}
				continue
			}
			if err != nil || rev.Hash != hash[tc.tag] {
				t.Errorf("%s, %s: %+v, %v; want %s", tc.ref, where, rev, err, tc.tag)
			}
		}
	}
	for ref, want := range map[string]string{"semver:": "want a range", "semver:newest": "want a range", "semver:" + strings.Repeat(">1 ", 200): "too long"} {
		if _, err := Open(Config{Repo: r.dir, Ref: ref}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %q", ref, err, want)
		}
	}

	// A new version is found at the next look; one that is taken back is given up, which
	// is a rewind.
	s := mustOpen(t, Config{Repo: r.url, Mirror: t.TempDir(), Ref: "semver:1.x"})
	before := mustTip(t, s)
	next := r.commit("v1.11.0", files{"a": "new"})
	r.point("refs/tags/v1.11.0", plumbing.NewHash(next.Hash))
	if got := mustTip(t, s); got.Hash != next.Hash {
		t.Errorf("a new version: %+v", got)
	}
	refused(t, verdict(s, t.Context(), next, before.Hash), "", "")
	if err := r.repo.Storer.RemoveReference("refs/tags/v1.11.0"); err != nil {
		t.Fatal(err)
	}
	if got := mustTip(t, s); got.Hash != before.Hash {
		t.Errorf("a version that is taken back: %+v", got)
	}
	refused(t, verdict(s, t.Context(), before, next.Hash), ReasonRewound, before.Hash)
}

func TestSignedTagOfARemote(t *testing.T) {
	f := newForeign(t)
	key, public := sshKey(t)
	commit := f.commit()
	f.git(append(withSSH(key), "tag", "-s", "-m", "version", "v1.0.0")...)
	r := newRemote(t)
	f.git("push", "-q", r.dir, "HEAD:main", "v1.0.0")
	noGit(t)
	for _, ref := range []string{"v1.0.0", "semver:^1"} {
		s := mustOpen(t, Config{Repo: r.url, Mirror: t.TempDir(), Ref: ref, Trust: Trust{AllowedSigners: signersFile(t, "x "+public)}})
		refused(t, verdict(s, t.Context(), mustTip(t, s), ""), "", "")
	}
	s := mustOpen(t, Config{Repo: r.url, Mirror: t.TempDir(), Ref: "main", Trust: Trust{AllowedSigners: signersFile(t, "x "+public)}})
	refused(t, verdict(s, t.Context(), mustTip(t, s), ""), ReasonUnsigned, commit)
}
