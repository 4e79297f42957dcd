package source

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOpenPGPSignatures(t *testing.T) {
	t.Parallel()
	f := newForeign(t)
	g := newGPG(t)
	long := testNow.AddDate(-2, 0, 0)
	alice := g.key("alice", "ed25519", "sign", long, "0")
	bob := g.key("bob", "rsa3072", "sign", long, "0")
	small := g.key("small", "rsa1024", "sign", long, "0")
	short := g.key("short", "ed25519", "sign", long, "1y")    // until a year ago
	brief := g.key("brief", "ed25519", "sign", long, "731d")  // until tomorrow
	subkeys := g.key("subkeys", "ed25519", "cert", long, "0") // signs with a subkey only
	g.run("", "--faked-system-time", fakeTime(long), "--quick-add-key", subkeys, "ed25519", "sign", "0")
	revoked := g.key("revoked", "ed25519", "sign", long, "0")
	before := g.export(true, revoked)

	f.commit()
	byAlice := g.sign(f, alice)
	byBob := g.sign(f, bob)
	bySmall := g.sign(f, small)
	bySubkey := g.sign(f, subkeys)
	byRevoked := g.sign(f, revoked)
	weak := g.sign(f, bob, "--digest-algo", "SHA1")
	f.date = long.AddDate(0, 6, 0)
	byShort := g.sign(f, short) // while the key was valid
	f.date = testNow.Add(-24 * time.Hour)
	byBrief := g.sign(f, brief)
	forged := f.rewrite(byAlice, func(s string) string { return strings.Replace(s, "commit 2", "commit 3", 1) })
	cut := f.rewrite(byAlice, func(s string) string { // the armor is whole, the packet is not
		i := strings.Index(s, "\n \n ") + 4
		return s[:i] + s[i+40:]
	})

	// The certificate of revocation that gpg makes with each key.
	cert, err := os.ReadFile(filepath.Join(g.home, "openpgp-revocs.d", revoked+".rev"))
	if err != nil {
		t.Fatal(err)
	}
	g.run(strings.Replace(string(cert), ":-----BEGIN", "-----BEGIN", 1), "--import")
	whole := g.export(true, subkeys)
	if cert, err = os.ReadFile(filepath.Join(g.home, "openpgp-revocs.d", subkeys+".rev")); err != nil {
		t.Fatal(err)
	}
	g.run(strings.Replace(string(cert), ":-----BEGIN", "-----BEGIN", 1), "--import")
	after := g.export(true, revoked)

	// The same key once more, and its user has revoked it.
	both := filepath.Join(t.TempDir(), "both")
	write(t, both, publicOf(t, before)+"\n"+publicOf(t, after)+"\n")
	for _, tc := range []struct{ name, commit, keys, want string }{
		{"armored", byAlice, g.export(true, alice), ""},
		{"binary", byAlice, g.export(false, alice, bob), ""},
		{"RSA", byBob, g.export(false, alice, bob), ""},
		{"subkey", bySubkey, whole, ""},
		{"subkey of a revoked key", bySubkey, g.export(true, subkeys), ReasonExpired},
		{"many blocks", byAlice, join(t, g.export(true, bob), g.export(true, alice)), ""},
		{"unknown key", byAlice, g.export(true, bob), ReasonUnknownKey},
		{"small key", bySmall, g.export(true, small), ReasonBadSignature},
		{"weak hash", weak, g.export(true, bob), ReasonBadSignature},
		{"forged content", forged, g.export(true, alice), ReasonBadSignature},
		{"cut off", cut, g.export(true, alice), ReasonBadSignature},
		{"expired since its date", byShort, g.export(true, short), ReasonExpired},
		{"expires later", byBrief, g.export(true, brief), ""},
		{"not known to be revoked", byRevoked, before, ""},
		{"revoked", byRevoked, after, ReasonExpired},
		{"revoked in one of two files", byRevoked, both, ReasonExpired},
	} {
		t.Run(tc.name, func(t *testing.T) {
			refused(t, f.judge(Trust{OpenPGPKeys: []string{tc.keys}}, tc.commit, ""), tc.want, tc.commit)
		})
	}
	t.Run("trusted before it expired", func(t *testing.T) {
		refused(t, f.judge(Trust{OpenPGPKeys: []string{g.export(true, short)}}, byShort, byShort), "", "")
	})
	t.Run("both kinds", func(t *testing.T) {
		key, public := sshKey(t)
		trust := Trust{AllowedSigners: signersFile(t, "x "+public), OpenPGPKeys: []string{g.export(true, alice), g.export(false, bob)}}
		for _, c := range []string{byAlice, byBob, f.commit(withSSH(key)...)} {
			refused(t, f.judge(trust, c, ""), "", "")
		}
	})
	t.Run("files that are no keys", func(t *testing.T) {
		secret := filepath.Join(t.TempDir(), "secret")
		write(t, secret, g.run("", "--armor", "--export-secret-keys", alice))
		rawSecret := filepath.Join(t.TempDir(), "secret")
		write(t, rawSecret, g.run("", "--export-secret-keys", alice))
		text := filepath.Join(t.TempDir(), "text")
		write(t, text, "alice\n")
		for file, want := range map[string]string{
			filepath.Join(g.home, "pubring.kbx"): "gpg --export",
			secret:                               "want public keys",
			rawSecret:                            "holds the private key",
			text:                                 text,
			t.TempDir():                          "is not a file",
		} {
			err := f.judge(Trust{OpenPGPKeys: []string{file}}, byAlice, "")
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), ErrKeys.Error()) {
				t.Errorf("%s: %v, want %q", file, err, want)
			}
		}
	})
}

// join puts files behind one another.
func join(t *testing.T, files ...string) string {
	t.Helper()
	var all strings.Builder
	for _, f := range files {
		all.WriteString(publicOf(t, f) + "\n\n")
	}
	file := filepath.Join(t.TempDir(), "joined")
	write(t, file, all.String())
	return file
}
