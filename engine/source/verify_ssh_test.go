package source

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// judge asks for a verdict about a commit.
func (f *foreign) judge(trust Trust, hash, since string) error {
	f.t.Helper()
	return f.judgeSince(trust, hash, Trusted{since, VerifyEvery})
}

// verdict asks with since as a commit that passed whatever was asked for.
func verdict(s *Source, ctx context.Context, rev Revision, since string) error {
	_, err := s.Verify(ctx, rev, Trusted{since, VerifyEvery})
	return err
}

func (f *foreign) judgeSince(trust Trust, hash string, since Trusted) error {
	f.t.Helper()
	s := mustOpen(f.t, Config{Repo: f.dir, Trust: trust, Now: func() time.Time { return testNow }})
	now, err := s.Verify(f.t.Context(), Revision{Hash: hash}, since)
	if err == nil && now != (Trusted{hash, s.cfg.Trust.Verify}) {
		f.t.Errorf("what is trusted now: %+v", now)
	}
	return err
}

// gitSays asks git itself about a signature.
func (f *foreign) gitSays(kind, name, signers string) bool {
	cmd := exec.Command("git", "-c", "gpg.ssh.allowedSignersFile="+signers, "verify-"+kind, name)
	cmd.Dir = f.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "TZ=UTC")
	return cmd.Run() == nil
}

func TestSSHSignatures(t *testing.T) {
	t.Parallel()
	f := newForeign(t)
	key, public := sshKey(t)
	rsaKey, rsaPublic := sshKey(t, "-t", "rsa", "-b", "2048")
	ecKey, ecPublic := sshKey(t, "-t", "ecdsa")
	_, stranger := sshKey(t)

	plain := f.commit()
	good := f.commit(withSSH(key)...)
	byRSA := f.commit(withSSH(rsaKey)...)
	byEC := f.commit(withSSH(ecKey)...)
	forged := f.rewrite(good, func(s string) string { return strings.Replace(s, "commit 2", "commit 3", 1) })
	signature := f.rewrite(good, func(s string) string { // a bit of the signature itself
		lines := strings.Split(s, "\n")
		for i, l := range lines {
			if strings.Contains(l, "END SSH") {
				l = lines[i-1]
				c := byte('A')
				if l[8] == c {
					c = 'B'
				}
				lines[i-1] = l[:8] + string(c) + l[9:]
			}
		}
		return strings.Join(lines, "\n")
	})
	hidden := f.rewrite(good, func(s string) string { // one more signature before it
		i, j := strings.Index(s, "gpgsig "), strings.Index(s, "\n\n")
		return s[:i] + s[i:j+1] + s[i:]
	})
	x509 := f.rewrite(plain, func(s string) string {
		return strings.Replace(s, "\n\n", "\ngpgsig -----BEGIN SIGNED MESSAGE-----\n MII=\n -----END SIGNED MESSAGE-----\n\n", 1)
	})
	otherNamespace := f.rewrite(plain, func(s string) string {
		payload := filepath.Join(t.TempDir(), "payload")
		write(t, payload, s)
		f.run("ssh-keygen", "-Y", "sign", "-q", "-n", "file", "-f", key, payload)
		sig := strings.ReplaceAll(publicOf(t, payload+".sig"), "\n", "\n ")
		return strings.Replace(s, "\n\n", "\ngpgsig "+sig+"\n\n", 1)
	})
	write(t, filepath.Join(f.dir, "allowed_signers"), "test@example.org "+rsaPublic+"\n")
	f.git("config", "gpg.ssh.allowedSignersFile", filepath.Join(f.dir, "allowed_signers"))
	bringsItsKey := f.commit(withSSH(rsaKey)...)
	f.git("config", "--unset", "gpg.ssh.allowedSignersFile")

	const anybody = "test@example.org "
	for _, tc := range []struct {
		name, commit, signers string
		want                  string
		stricter              bool // than git
	}{
		{name: "trusted", commit: good, signers: anybody + public},
		{name: "trusted RSA", commit: byRSA, signers: anybody + rsaPublic},
		{name: "trusted ECDSA", commit: byEC, signers: anybody + ecPublic},
		{name: "comments and empty lines", commit: good, signers: "# who\n\n  " + anybody + public + " of the office"},
		{name: "someone else's address", commit: good, signers: "boss@example.org " + public},
		{name: "quoted principals", commit: good, signers: `"test@example.org" ` + public},
		{name: "the second line", commit: good, signers: anybody + stranger + "\n" + anybody + public},
		{name: "unsigned", commit: plain, signers: anybody + public, want: ReasonUnsigned},
		{name: "unknown key", commit: good, signers: anybody + stranger, want: ReasonUnknownKey},
		{name: "no key at all", commit: good, signers: "# nobody", want: ReasonUnknownKey},
		{name: "key brought by the commit", commit: bringsItsKey, signers: anybody + public, want: ReasonUnknownKey},
		{name: "forged content", commit: forged, signers: anybody + public, want: ReasonBadSignature},
		{name: "forged signature", commit: signature, signers: anybody + public, want: ReasonBadSignature},
		{name: "two signatures", commit: hidden, signers: anybody + public, want: ReasonBadSignature, stricter: true},
		{name: "X.509", commit: x509, signers: anybody + public, want: ReasonBadSignature},
		{name: "made for another namespace", commit: otherNamespace, signers: anybody + public, want: ReasonBadSignature},
		{name: "trusted for another namespace", commit: good, signers: anybody + `namespaces="file" ` + public, want: ReasonUnknownKey},
		{name: "trusted for git too", commit: good, signers: anybody + `namespaces="file,git" ` + public},
		{name: "trusted for all but git", commit: good, signers: anybody + `namespaces="!git,*" ` + public, want: ReasonUnknownKey},
		{name: "in its time", commit: good, signers: anybody + `valid-after="20260101Z",valid-before="20270101Z" ` + public},
		{name: "expired", commit: good, signers: anybody + `valid-before="20260101Z" ` + public, want: ReasonExpired},
		{name: "not yet valid", commit: good, signers: anybody + `valid-after="20261231Z" ` + public, want: ReasonExpired},
		{name: "expired since its date", commit: good, signers: anybody + `valid-before="202606011130Z" ` + public, want: ReasonExpired, stricter: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			signers := signersFile(t, tc.signers)
			refused(t, f.judge(Trust{AllowedSigners: signers}, tc.commit, ""), tc.want, tc.commit)
			if git := f.gitSays("commit", tc.commit, signers); git != (tc.want == "") && !(tc.stricter && git) {
				t.Errorf("git says %v", git)
			}
		})
	}

	t.Run("trusted before it expired", func(t *testing.T) {
		signers := Trust{AllowedSigners: signersFile(t, anybody+`valid-before="202606011130Z" `+public)}
		refused(t, f.judge(signers, good, good), "", "")
		// Gone back to by an operator: not new either.
		refused(t, f.judge(signers, good, byRSA), ReasonRewound, good)
	})
	t.Run("removed after it was trusted", func(t *testing.T) {
		refused(t, f.judge(Trust{AllowedSigners: signersFile(t, anybody+stranger)}, good, good), ReasonUnknownKey, good)
	})
	t.Run("keys are read each time", func(t *testing.T) {
		file := signersFile(t, anybody+stranger)
		s := mustOpen(t, Config{Repo: f.dir, Trust: Trust{AllowedSigners: file}})
		verify := func() error { _, err := s.Verify(t.Context(), Revision{Hash: good}, Trusted{}); return err }
		refused(t, verify(), ReasonUnknownKey, good)
		write(t, file, anybody+public+"\n")
		refused(t, verify(), "", "")
		write(t, file, "test@example.org no-such-option "+public+"\n")
		if err := verify(); !errors.Is(err, ErrKeys) || !strings.Contains(err.Error(), "line 1: the option \"no-such-option\"") {
			t.Errorf("a file that is broken: %v", err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if err := verify(); !errors.Is(err, ErrKeys) || errors.As(err, new(*UntrustedError)) {
			t.Errorf("a file that is gone: %v", err)
		}
	})
}

// A time zone with half or quarter hours is one like any other.
func TestSignedInAnyTimeZone(t *testing.T) {
	t.Parallel()
	f := newForeign(t)
	key, public := sshKey(t)
	trust := Trust{AllowedSigners: signersFile(t, "x "+public)}
	for _, f.zone = range []string{"+0530", "+0545", "-0330", "-0800", "+0000"} {
		refused(t, f.judge(trust, f.commit(withSSH(key)...), ""), "", "")
	}
}

// Whoever holds a key before its time can write a date within it.
func TestNotYetValidByTheClock(t *testing.T) {
	t.Parallel()
	f := newForeign(t)
	f.date = testNow.Add(48 * time.Hour)
	key, public := sshKey(t)
	commit := f.commit(withSSH(key)...)
	trust := Trust{AllowedSigners: signersFile(t, `x valid-after="202606021200Z" `+public)}
	refused(t, f.judge(trust, commit, ""), ReasonExpired, commit)
	refused(t, f.judge(trust, commit, commit), "", "") // it was trusted already

	ca, caPublic := sshKey(t)
	own, _ := sshKey(t)
	f.run("ssh-keygen", "-q", "-s", ca, "-I", "test", "-n", "test@example.org", "-V", "20260602:20260701", own+".pub")
	certified := f.commit(withSSH(own + "-cert.pub")...)
	trust = Trust{AllowedSigners: signersFile(t, "*@example.org cert-authority "+caPublic)}
	refused(t, f.judge(trust, certified, ""), ReasonExpired, certified)
	refused(t, f.judge(trust, certified, certified), "", "")
}

func TestSSHCertificates(t *testing.T) {
	t.Parallel()
	f := newForeign(t)
	ca, caPublic := sshKey(t)
	_, otherCA := sshKey(t)
	certified := func(args ...string) []string {
		key, _ := sshKey(t)
		f.run("ssh-keygen", append([]string{"-q", "-s", ca, "-I", "test"}, append(args, key+".pub")...)...)
		return withSSH(key + "-cert.pub")
	}
	good := f.commit(certified("-n", "test@example.org")...)
	past := f.commit(certified("-n", "test@example.org", "-V", "20250101:20260101")...)
	lately := f.commit(certified("-n", "test@example.org", "-V", "20250101:202606011130Z")...)
	nobody := f.commit(certified()...)
	host := f.commit(certified("-n", "test@example.org", "-h")...)
	for _, tc := range []struct{ name, commit, signers, want string }{
		{"trusted", good, "*@example.org cert-authority " + caPublic, ""},
		{"only for git", good, `*@example.org cert-authority,namespaces="git" ` + caPublic, ""},
		{"not an authority", good, "*@example.org " + caPublic, ReasonUnknownKey},
		{"other authority", good, "*@example.org cert-authority " + otherCA, ReasonUnknownKey},
		{"other principals", good, "*@example.com cert-authority " + caPublic, ReasonUnknownKey},
		{"refused principal", good, "!test@example.org,*@example.org cert-authority " + caPublic, ReasonUnknownKey},
		{"expired", past, "*@example.org cert-authority " + caPublic, ReasonExpired},
		{"expired since its date", lately, "*@example.org cert-authority " + caPublic, ReasonExpired},
		{"no principals", nobody, "*@example.org cert-authority " + caPublic, ReasonUnknownKey},
		{"a host's", host, "*@example.org cert-authority " + caPublic, ReasonUnknownKey},
	} {
		t.Run(tc.name, func(t *testing.T) {
			signers := signersFile(t, tc.signers)
			refused(t, f.judge(Trust{AllowedSigners: signers}, tc.commit, ""), tc.want, tc.commit)
			if git := f.gitSays("commit", tc.commit, signers); git != (tc.want == "") && tc.name != "expired since its date" && tc.name != "a host's" {
				t.Errorf("git says %v", git)
			}
		})
	}
}

func TestSignedTags(t *testing.T) {
	t.Parallel()
	f := newForeign(t)
	key, public := sshKey(t)
	_, stranger := sshKey(t)
	commit := f.commit()
	tag := func(name string, sign bool) {
		args := []string{"tag", "-m", "version", name}
		if sign {
			args = append(withSSH(key), append(args, "-s")...)
		} else {
			args = append(args, "-a")
		}
		f.git(args...)
	}
	tag("v1.0.0", true)
	tag("v1.1.0", false)
	f.git("update-ref", "refs/tags/v2.0.0", f.git("rev-parse", "v1.0.0")) // an old signature for a new version
	later := f.commit()
	for _, tc := range []struct {
		name, ref, commit string
		trust             Trust
		want, says        string
	}{
		{name: "signed", ref: "v1.0.0", commit: commit},
		{name: "signed, full name", ref: "refs/tags/v1.0.0", commit: commit},
		{name: "signed, by range", ref: "semver:~1.0", commit: commit},
		{name: "unsigned", ref: "v1.1.0", commit: commit, want: ReasonUnsigned},
		{name: "another name", ref: "v2.0.0", commit: commit, want: ReasonBadSignature, says: "was made with another name, v1.0.0"},
		{name: "another name, by range", ref: "semver:>=1", commit: commit, want: ReasonBadSignature, says: "was made with another name, v1.0.0"},
		{name: "a branch", ref: "main", commit: commit, want: ReasonUnsigned},
		{name: "another commit", ref: "v1.0.0", commit: later, want: ReasonUnsigned},
		{name: "every", ref: "v1.0.0", commit: commit, trust: Trust{Verify: VerifyEvery}, want: ReasonUnsigned},
		{name: "stranger", ref: "v1.0.0", commit: commit, trust: Trust{AllowedSigners: signersFile(t, "x "+stranger)}, want: ReasonUnknownKey},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.trust.AllowedSigners == "" {
				tc.trust.AllowedSigners = signersFile(t, "x "+public)
			}
			s := mustOpen(t, Config{Repo: f.dir, Ref: tc.ref, Trust: tc.trust})
			_, err := s.Verify(t.Context(), Revision{Hash: tc.commit}, Trusted{})
			refused(t, err, tc.want, tc.commit)
			if tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
				t.Errorf("%v, want it to say %q", err, tc.says)
			}
		})
	}
}

func TestVerifyEvery(t *testing.T) {
	t.Parallel()
	f := newForeign(t)
	key, public := sshKey(t)
	sign := withSSH(key)
	trust := Trust{Verify: VerifyEvery, AllowedSigners: signersFile(t, "x "+public)}
	tick := func() { f.date = f.date.Add(time.Minute) }
	root := f.commit()
	tick()
	first := f.commit(sign...)
	tick()
	second := f.commit(sign...)
	tick()
	middle := f.commit()
	tick()
	tip := f.commit(sign...)

	tipOnly := trust
	tipOnly.Verify = VerifyTip
	refused(t, f.judge(tipOnly, tip, first), "", "")
	refused(t, f.judge(trust, second, first), "", "")
	refused(t, f.judge(trust, second, root), "", "")
	refused(t, f.judge(trust, tip, first), ReasonUnsigned, middle)
	refused(t, f.judge(trust, tip, middle), "", "") // it was trusted, whoever said so
	refused(t, f.judge(trust, tip, ""), "", "")     // the first tip is the anchor
	refused(t, f.judge(trust, root, ""), ReasonUnsigned, root)
	anchored := trust
	anchored.Anchor = root
	refused(t, f.judge(anchored, second, ""), "", "")
	refused(t, f.judge(anchored, tip, ""), ReasonUnsigned, middle)
	refused(t, f.judge(anchored, tip, middle), "", "")

	// A merge brings all of a side branch.
	f.git("checkout", "-q", "-b", "side", second)
	tick()
	aside := f.commit()
	f.git("checkout", "-q", "-b", "merged", second)
	tick()
	f.git(append(append([]string{}, sign...), "merge", "-q", "-s", "ours", "--no-ff", "-m", "merge", "side")...)
	merge := f.git("rev-parse", "HEAD")
	refused(t, f.judge(trust, merge, second), ReasonUnsigned, aside)
	refused(t, f.judge(trust, merge, aside), "", "")

	// What was rewound to has no commit to check, but its own signature counts.
	refused(t, f.judge(trust, first, second), ReasonRewound, first)
	refused(t, f.judge(trust, root, second), ReasonUnsigned, root)
	accept := trust
	accept.Rewind = RewindAccept
	refused(t, f.judge(accept, first, second), "", "")
	f.git("checkout", "-q", "-b", "forced", first)
	tick()
	unsigned := f.commit()
	tick()
	forced := f.commit(sign...)
	refused(t, f.judge(accept, forced, second), ReasonUnsigned, unsigned)
	refused(t, f.judge(trust, forced, unsigned), "", "")
}

// What was served before signatures counted was checked by nobody: the anchor still
// says where to begin.
func TestAnchorAfterUnverifiedCommits(t *testing.T) {
	t.Parallel()
	f := newForeign(t)
	key, public := sshKey(t)
	tick := func() { f.date = f.date.Add(time.Minute) }
	root := f.commit()
	tick()
	unsigned := f.commit()
	tick()
	served := f.commit(withSSH(key)...)
	tick()
	tip := f.commit(withSSH(key)...)
	trust := Trust{Verify: VerifyEvery, AllowedSigners: signersFile(t, "x "+public), Anchor: root}
	for _, before := range []string{"", VerifyNone, VerifyTip} {
		refused(t, f.judgeSince(trust, tip, Trusted{served, before}), ReasonUnsigned, unsigned)
		refused(t, f.judgeSince(trust, served, Trusted{served, before}), ReasonUnsigned, unsigned)
	}
	refused(t, f.judgeSince(trust, tip, Trusted{served, VerifyEvery}), "", "")
	tip2 := trust
	tip2.Verify = VerifyTip
	refused(t, f.judgeSince(tip2, tip, Trusted{unsigned, VerifyNone}), "", "")
	// An anchor that is newer than what was served.
	trust.Anchor = unsigned
	refused(t, f.judgeSince(trust, tip, Trusted{root, VerifyNone}), "", "")
	refused(t, f.judgeSince(trust, tip, Trusted{root, VerifyEvery}), ReasonUnsigned, unsigned)
	// A rewind is one from what was served, whatever the anchor.
	trust.Anchor = root
	refused(t, f.judgeSince(tip2, served, Trusted{tip, VerifyNone}), ReasonRewound, served)
	// And a key that has expired makes nothing trusted that nobody had looked at.
	trust.AllowedSigners = signersFile(t, `x valid-before="202606011130Z" `+public)
	trust.Verify, trust.Anchor = VerifyTip, ""
	refused(t, f.judgeSince(trust, served, Trusted{served, VerifyNone}), ReasonExpired, served)
	refused(t, f.judgeSince(trust, served, Trusted{served, VerifyTip}), "", "")
}

// A commit that both have may look new when somebody's clock was wrong; it was trusted
// all the same.
func TestVerifyEveryWithWrongDates(t *testing.T) {
	t.Parallel()
	f := newForeign(t)
	key, public := sshKey(t)
	sign := withSSH(key)
	at := func(hours int) { f.date = testNow.Add(time.Duration(hours-100) * time.Hour) }
	at(90)
	f.commit() // the root, unsigned, newer than what follows
	root := f.git("rev-parse", "HEAD")
	at(1)
	old := f.commit()
	f.git("checkout", "-q", "-b", "side", root)
	at(80)
	f.commit(sign...)
	f.git("checkout", "-q", "main")
	at(2)
	f.git(append(append([]string{}, sign...), "merge", "-q", "-s", "ours", "--no-ff", "-m", "merge", "side")...)
	tip := f.git("rev-parse", "HEAD")
	trust := Trust{Verify: VerifyEvery, AllowedSigners: signersFile(t, "x "+public)}
	refused(t, f.judge(trust, tip, old), "", "")
}
