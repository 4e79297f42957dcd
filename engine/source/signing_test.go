package source

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// foreign makes signatures with the programs that people use: git, ssh-keygen, gpg.
type foreign struct {
	t     testing.TB
	dir   string // a repository with a work tree
	date  time.Time
	zone  string // of dates; "" for +0000
	files int
}

// testNow is the time of the tests' clock.
var testNow = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func newForeign(t testing.TB) *foreign {
	t.Helper()
	providertest.Need(t, "git", "ssh-keygen")
	f := &foreign{t: t, dir: t.TempDir(), date: testNow.Add(-time.Hour)}
	f.git("init", "-q", "-b", "main")
	return f
}

func (f *foreign) run(name string, args ...string) string {
	f.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = f.dir
	stamp := fmt.Sprintf("%d %s", f.date.Unix(), cmp.Or(f.zone, "+0000"))
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "TZ=UTC",
		"GIT_AUTHOR_NAME=Test", "GIT_AUTHOR_EMAIL=test@example.org", "GIT_AUTHOR_DATE="+stamp,
		"GIT_COMMITTER_NAME=Test", "GIT_COMMITTER_EMAIL=test@example.org", "GIT_COMMITTER_DATE="+stamp)
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (f *foreign) git(args ...string) string { f.t.Helper(); return f.run("git", args...) }

// commit makes a commit that nobody signs, or with what sign gives.
func (f *foreign) commit(sign ...string) string {
	f.t.Helper()
	f.files++
	write(f.t, filepath.Join(f.dir, "site.hcl"), fmt.Sprint(f.files))
	f.git("add", "-A")
	f.git(append(append([]string{}, sign...), "commit", "-q", "-m", fmt.Sprint("commit ", f.files))...)
	return f.git("rev-parse", "HEAD")
}

// sshKey makes a key; it gives the private file and the public line.
func sshKey(t testing.TB, args ...string) (file, public string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "key")
	if len(args) == 0 {
		args = []string{"-t", "ed25519"}
	}
	cmd := exec.Command("ssh-keygen", append(args, "-q", "-N", "", "-C", "", "-f", file)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	return file, publicOf(t, file+".pub")
}

func publicOf(t testing.TB, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// withSSH has git sign with a key.
func withSSH(key string) []string {
	return []string{"-c", "gpg.format=ssh", "-c", "user.signingkey=" + key, "-c", "commit.gpgsign=true", "-c", "tag.gpgsign=true"}
}

// signersFile writes a file of allowed signers.
func signersFile(t testing.TB, lines ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "allowed_signers")
	write(t, file, strings.Join(lines, "\n")+"\n")
	return file
}

// rewrite changes the bytes of a commit and stores what comes of it.
func (f *foreign) rewrite(hash string, change func(string) string) string {
	f.t.Helper()
	cmd := exec.Command("git", "hash-object", "-t", "commit", "-w", "--literally", "--stdin")
	cmd.Dir = f.dir
	raw := exec.Command("git", "cat-file", "commit", hash)
	raw.Dir = f.dir
	b, err := raw.Output()
	if err != nil {
		f.t.Fatal(err)
	}
	after := change(string(b))
	if after == string(b) {
		f.t.Fatal("nothing was changed")
	}
	cmd.Stdin = strings.NewReader(after)
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("hash-object: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// gpg is a GnuPG home with keys of its own.
type gpg struct {
	t    testing.TB
	home string
}

func newGPG(t testing.TB) *gpg {
	t.Helper()
	providertest.Need(t, "gpg", "gpgconf")
	home, err := os.MkdirTemp("", "gpg") // the agent's socket wants a short path
	if err != nil {
		t.Fatal(err)
	}
	g := &gpg{t, home}
	t.Cleanup(func() {
		g.command("gpgconf", "--kill", "all").Run()
		os.RemoveAll(home)
	})
	return g
}

func (g *gpg) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+g.home)
	return cmd
}

func (g *gpg) run(input string, args ...string) string {
	g.t.Helper()
	cmd := g.command("gpg", append([]string{"--batch", "--yes", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		g.t.Fatalf("gpg %s: %v\n%s", strings.Join(args, " "), err, said.String())
	}
	return string(out)
}

// fakeTime has gpg believe in another time.
func fakeTime(at time.Time) string { return at.UTC().Format("20060102T150405") }

// key makes a key that was created at a time and lives so long ("0": for ever); it
// gives its fingerprint.
func (g *gpg) key(name, algo, use string, at time.Time, expire string) string {
	g.t.Helper()
	g.run("", "--faked-system-time", fakeTime(at), "--quick-gen-key", name+" <"+name+"@example.org>", algo, use, expire)
	for line := range strings.Lines(g.run("", "--with-colons", "--list-keys", name)) {
		if f := strings.Split(line, ":"); f[0] == "fpr" {
			return f[9]
		}
	}
	g.t.Fatal("no fingerprint")
	return ""
}

// export writes public keys into a file.
func (g *gpg) export(armored bool, names ...string) string {
	g.t.Helper()
	file := filepath.Join(g.t.TempDir(), "keys")
	args := append([]string{"--export"}, names...)
	if armored {
		args = append([]string{"--armor"}, args...)
	}
	write(g.t, file, g.run("", args...))
	return file
}

// sign makes a commit as an OpenPGP user does, at the repository's date.
func (g *gpg) sign(f *foreign, key string, options ...string) string {
	g.t.Helper()
	script := filepath.Join(g.t.TempDir(), "gpg")
	write(g.t, script, "#!/bin/sh\nexport GNUPGHOME="+g.home+"\nexec gpg --batch --no-tty --pinentry-mode loopback --passphrase '' --faked-system-time "+
		fakeTime(f.date)+" "+strings.Join(options, " ")+" \"$@\"\n")
	if err := os.Chmod(script, 0o755); err != nil {
		g.t.Fatal(err)
	}
	return f.commit("-c", "gpg.program="+script, "-c", "user.signingkey="+key, "-c", "commit.gpgsign=true")
}
