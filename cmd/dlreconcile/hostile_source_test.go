package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/engine/source"
)

// hostileSource is a repository that people push to, and a daemon that follows it and
// has no git.
type hostileSource struct {
	*loopback
	work    string // a clone, in which commits are made with the real git
	bare    string // what is served
	url     string
	turn    func(serverMode)
	key     string // that the daemon trusts
	other   string // and one that it does not
	config  string
	signers string
	daemon  *os.Process // nil before it runs
	n       int
}

func newHostileSource(t *testing.T, serve func(*testing.T, string) (string, func(serverMode)), verify string) *hostileSource {
	t.Helper()
	providertest.Need(t, "git", "ssh-keygen")
	root := filepath.Join(t.TempDir(), "srv")
	h := &hostileSource{loopback: newLoopback(t), work: t.TempDir(), bare: filepath.Join(root, "site.git")}
	h.url, h.turn = serve(t, root)
	h.url += "/site.git"
	keys := t.TempDir()
	h.key, h.other = filepath.Join(keys, "key"), filepath.Join(keys, "other")
	for _, k := range []string{h.key, h.other} {
		h.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", k)
	}
	public, err := os.ReadFile(h.key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	h.signers, h.config = filepath.Join(keys, "signers"), filepath.Join(keys, "daemon.hcl")
	h.write(h.signers, "test@example.org "+string(public))
	h.write(h.config, fmt.Sprintf("trust {\n  verify          = %q\n  allowed_signers = %q\n}\n", verify, h.signers))
	h.git("init", "-q", "-b", "main")
	h.git("init", "-q", "-b", "main", "--bare", h.bare)
	h.git("remote", "add", "origin", h.bare)
	return h
}

func (h *hostileSource) write(file, text string) {
	h.t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hostileSource) run(name string, args ...string) string {
	h.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = h.work
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=Test", "GIT_AUTHOR_EMAIL=test@example.org", "GIT_COMMITTER_NAME=Test", "GIT_COMMITTER_EMAIL=test@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (h *hostileSource) git(args ...string) string { h.t.Helper(); return h.run("git", args...) }

// site is a configuration with one machine, another each time.
func (h *hostileSource) site() string {
	h.n++
	return fmt.Sprintf(`server "main" {
  address = "127.0.0.1"
  dhcp { listen = ":%d" }
  tftp { enabled = false }
  http { enabled = false }
  nbd { enabled = false }
}
subnet "loopback" {
  cidr       = "127.0.0.0/8"
  lease_time = "%dm"
}
host "one" {
  mac     = "52:54:00:00:00:01"
  address = "127.0.0.11"
}
`, h.ports[0], 10+h.n)
}

// boots has the machine ask for its address, as firmware does.
func (h *hostileSource) boots() {
	h.t.Helper()
	mac, err := provider.ParseMAC("52:54:00:00:00:01")
	if err != nil {
		h.t.Fatal(err)
	}
	w := &walker{mac: mac, ports: h.ports}
	if _, err := w.dhcp(h.t.Context()); err != nil || w.addr.String() != "127.0.0.11" {
		h.t.Errorf("the machine gets %s, %v", w.addr, err)
	}
}

// metric reads one of the daemon's metrics.
func (h *hostileSource) metric(name string) float64 {
	h.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(h.state, "api.sock"))
	}}}
	resp, err := client.Get("http://daemon/metrics")
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				h.t.Fatal(err)
			}
			return v
		}
	}
	h.t.Fatalf("there is no metric %s (%s)", name, resp.Status)
	return 0
}

// commit commits the work tree with a new configuration, signed with key ("" is
// unsigned), and gives the hash.
func (h *hostileSource) commit(key string) string {
	h.t.Helper()
	h.write(filepath.Join(h.work, "site.hcl"), h.site())
	return h.commitAsIs(key)
}

func (h *hostileSource) commitAsIs(key string) string {
	h.t.Helper()
	h.git("add", "-A")
	args := []string{"commit", "-q", "--allow-empty", "-m", fmt.Sprint("commit ", h.n)}
	if key != "" {
		args = append([]string{"-c", "gpg.format=ssh", "-c", "user.signingkey=" + key, "-c", "commit.gpgsign=true"}, args...)
	}
	h.git(args...)
	return h.git("rev-parse", "HEAD")
}

// push moves the branch, and has the daemon look.
func (h *hostileSource) push() {
	h.t.Helper()
	h.git("push", "-q", "-f", "origin", "HEAD:main")
	h.poke()
}

func (h *hostileSource) poke() {
	if h.daemon == nil {
		return
	}
	if err := h.daemon.Signal(syscall.SIGHUP); err != nil {
		h.t.Error(err)
	}
}

// command is dlreconcile on this repository, without programs.
func (h *hostileSource) command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], append(args, "--repo", h.url, "--ref", "main", "--state", h.state, "--config", h.config, "--poll", "1s")...)
	cmd.Env = append(os.Environ(), asCommand+"=1", "PATH="+filepath.Join(h.work, "no-such-folder"))
	return cmd
}

func (h *hostileSource) serve() {
	h.t.Helper()
	log, err := os.Create(filepath.Join(h.t.TempDir(), "daemon.log"))
	if err != nil {
		h.t.Fatal(err)
	}
	daemon := h.command("serve")
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.daemon = daemon.Process
	h.t.Cleanup(func() {
		defer log.Close()
		_ = daemon.Process.Signal(syscall.SIGTERM)
		if err := daemon.Wait(); err != nil || h.t.Failed() {
			b, _ := os.ReadFile(log.Name())
			h.t.Errorf("the daemon ends with %v; its log:\n%s", err, tail(b, 6000))
		}
	})
}

// await waits for a status, and gives it.
func (h *hostileSource) await(what string, ok func(engine.Status) bool) engine.Status {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), applyLimit)
	defer cancel()
	var st engine.Status
	for st.Seq == 0 || !ok(st) {
		got, err := h.client.Status(ctx, st.Seq)
		switch {
		case err == nil:
			st = got
		case ctx.Err() != nil:
			h.t.Fatalf("waited in vain for %s; the last status: %+v", what, st)
		default:
			<-time.After(10 * time.Millisecond) // nobody listens yet
		}
	}
	return st
}

func (h *hostileSource) synced(rev string) engine.Status {
	h.t.Helper()
	return h.await(short12(rev)+" is served", func(s engine.Status) bool {
		return s.Synced == rev && s.Tip == rev && s.Phase == engine.PhaseIdle && s.Failure == nil && s.RepoError == ""
	})
}

func short12(rev string) string { return rev[:min(12, len(rev))] }

// conditions gives which hold, as "Ready Trusted".
func conditionsOf(s engine.Status) string {
	var list []string
	for _, c := range s.Conditions {
		if c.Status {
			list = append(list, c.Type)
		}
	}
	return strings.Join(list, " ")
}

// What people who may push, or who took over the server, can do to the repository is
// refused by name, and what was served is served on; when it is put right, the next
// commit is live.
func TestHostileSource(t *testing.T) {
	for name, serve := range gitServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time is spent waiting
			h := newHostileSource(t, serve, source.VerifyEvery)
			defer func() { h.t = t }() // for what is left to clean up
			hostileTable(t, h)
		})
	}
}

func hostileTable(t *testing.T, h *hostileSource) {
	first := h.commit(h.key)
	h.push()
	h.serve()
	h.synced(first)
	good := h.commit(h.key)
	h.push()
	h.synced(good)

	untrusted := func(cause string) func(engine.Status) bool {
		return func(s engine.Status) bool {
			return s.Failure != nil && s.Failure.Reason == engine.ReasonUntrusted && s.Failure.Cause == cause && s.Phase == engine.PhaseIdle
		}
	}
	for _, row := range []struct {
		name   string
		act    func() // what becomes of the repository
		cause  string // of the refusal; "" for an invalid commit
		exit   int    // of `apply`
		says   string // the failure
		unlike string // conditions that do not hold then
	}{
		{name: "unsigned tip", act: func() { h.commit("") }, cause: source.ReasonUnsigned, exit: exitDenied, says: "is not signed"},
		{name: "signed tip over unsigned middle", act: func() { h.commit(""); h.commit(h.key) }, cause: source.ReasonUnsigned, exit: exitDenied, says: "before it is not signed"},
		{name: "signed tip over an unsigned one that is too large", act: func() {
			h.write(filepath.Join(h.work, ".git", "message"), strings.Repeat("a line of 32 bytes, many of them\n", 64<<10))
			h.git("commit", "-q", "--allow-empty", "-F", filepath.Join(h.work, ".git", "message"))
			h.commit(h.key)
		}, cause: source.ReasonHistory, exit: exitDenied, says: "before it has more than 1048576 bytes"},
		{name: "unknown key", act: func() { h.commit(h.other) }, cause: source.ReasonUnknownKey, exit: exitDenied, says: "not among the allowed signers"},
		{name: "key added by the commit itself", act: func() {
			public, _ := os.ReadFile(h.other + ".pub")
			h.write(filepath.Join(h.work, "allowed_signers"), "test@example.org "+string(public))
			h.write(filepath.Join(h.work, "daemon.hcl"), "trust {\n  verify = \"none\"\n}\n")
			h.write(filepath.Join(h.work, ".gitconfig"), "[gpg \"ssh\"]\n\tallowedSignersFile = allowed_signers\n")
			h.commit(h.other)
		}, cause: source.ReasonUnknownKey, exit: exitDenied, says: "not among the allowed signers"},
		{name: "forged", act: func() {
			h.commit(h.key)
			raw := strings.Replace(h.git("cat-file", "commit", "HEAD")+"\n", "Test <test", "Toast <test", 1)
			file := filepath.Join(t.TempDir(), "commit")
			h.write(file, raw)
			h.git("reset", "-q", "--hard", h.git("hash-object", "-t", "commit", "-w", file))
		}, cause: source.ReasonBadSignature, exit: exitDenied, says: "does not match"},
		{name: "force-push", act: func() { h.git("reset", "-q", "--hard", "HEAD~1"); h.commit(h.key) }, cause: source.ReasonRewound, exit: exitDenied, says: "rewound or rewritten"},
		{name: "rewind", act: func() { h.git("reset", "-q", "--hard", first) }, cause: source.ReasonRewound, exit: exitDenied, says: "rewound or rewritten"},
		{name: "unrelated history", act: func() { h.git("checkout", "-q", "--orphan", fmt.Sprint("o", h.n)); h.commit(h.key) }, cause: source.ReasonRewound, exit: exitDenied, says: "rewound or rewritten"},
		{name: "symlink escape", act: func() {
			if err := os.Symlink("/etc/passwd", filepath.Join(h.work, "out")); err != nil {
				t.Fatal(err)
			}
			h.write(filepath.Join(h.work, "site.hcl"), h.site()+"locals {\n  a = file(\"out\")\n}\n")
			h.commitAsIs(h.key)
		}, exit: exitInvalid, says: "symbolic link"},
		{name: "LFS pointer", act: func() {
			h.write(filepath.Join(h.work, "big"), "version https://git-lfs.github.com/spec/v1\noid sha256:"+strings.Repeat("0", 64)+"\nsize 1\n")
			h.write(filepath.Join(h.work, "site.hcl"), h.site()+"locals {\n  a = file(\"big\")\n}\n")
			h.commitAsIs(h.key)
		}, exit: exitInvalid, says: "Git LFS pointer"},
		{name: "submodule", act: func() {
			h.write(filepath.Join(h.work, "site.hcl"), h.site()+"locals {\n  a = file(\"mod/x\")\n}\n")
			h.git("add", "site.hcl")
			h.git("update-index", "--add", "--cacheinfo", "160000,"+good+",mod")
			h.git("-c", "gpg.format=ssh", "-c", "user.signingkey="+h.key, "commit", "-q", "-S", "-m", "submodule")
		}, exit: exitInvalid, says: "s a submodule"},
	} {
		t.Run(row.name, func(t *testing.T) {
			h.t = t
			before := h.await("what is served", func(s engine.Status) bool { return s.Generation > 0 })
			row.act()
			tip := h.git("rev-parse", "HEAD")
			h.push()
			refused := untrusted(row.cause)
			if row.cause == "" {
				refused = func(s engine.Status) bool {
					return s.Failure != nil && s.Failure.Reason == engine.ReasonInvalid && s.Phase == engine.PhaseIdle
				}
			}
			st := h.await("a refusal", func(s engine.Status) bool { return s.Tip == tip && refused(s) })
			if !strings.Contains(st.Failure.Error()+fmt.Sprint(st.Failure.Diagnostics), row.says) || st.Failure.Revision != tip {
				t.Errorf("it says %+v, want %q", st.Failure, row.says)
			}
			if st.Generation != before.Generation || st.Synced != good {
				t.Errorf("generation %d of %s is served, want %d of %s", st.Generation, st.Synced, before.Generation, good)
			}
			holds := conditionsOf(st)
			if want := "SourceReachable Healthy"; row.cause != "" && holds != want {
				t.Errorf("conditions that hold: %s; want %s", holds, want)
			} else if want := "SourceReachable Trusted Healthy"; row.cause == "" && holds != want {
				t.Errorf("conditions that hold: %s; want %s", holds, want)
			}
			h.boots()
			out, errs, code := runCommand(t, h.command("apply"))
			if code != row.exit {
				t.Errorf("apply: exit %d, want %d\n%s%s", code, row.exit, out, errs)
			}
			t.Logf("apply: exit %d; conditions: %s\n%s", code, holds, st.Failure.Error())
			// Put right.
			h.git("checkout", "-q", "-f", "-B", "main", good)
			h.git("clean", "-q", "-f", "-d")
			good = h.commit(h.key)
			h.push()
			if st := h.synced(good); conditionsOf(st) != "Ready Synced SourceReachable Trusted Healthy" {
				t.Errorf("conditions that hold afterwards: %s", conditionsOf(st))
			}
		})
	}
	t.Run("branch deleted", func(t *testing.T) { h.t = t; h.branchDeleted(good) })
	t.Run("repo away", func(t *testing.T) { h.t = t; good = h.repoAway(good) })
	t.Run("keys away", func(t *testing.T) { h.t = t; good = h.keysAway(good) })
	t.Run("large blob", func(t *testing.T) { h.t = t; good = h.largeBlob() })
	t.Run("endless list of refs", func(t *testing.T) { h.t = t; h.endlessRefs(good) })
}

// unreachable is a status that says that the repository cannot be read, and that what
// was served is.
func (h *hostileSource) unreachable(good, says string) engine.Status {
	h.t.Helper()
	st := h.await("an unreachable repository", func(s engine.Status) bool { return s.RepoError != "" })
	c, _ := st.Condition(engine.ConditionSourceReachable)
	if c.Status || st.Synced != good || !strings.Contains(st.RepoError, says) {
		h.t.Errorf("%s holds, of %s; it says %q, want %q", conditionsOf(st), st.Synced, st.RepoError, says)
	}
	h.t.Logf("conditions: %s\n%s", conditionsOf(st), st.RepoError)
	return st
}

func (h *hostileSource) branchDeleted(good string) {
	h.git("push", "-q", "-f", "origin", good+":refs/heads/other")
	h.git("-C", h.bare, "update-ref", "-d", "refs/heads/main")
	h.poke()
	h.unreachable(good, "no such branch, tag or revision: main; the branches are: other")
	h.push()
	h.synced(good)
}

// repoAway takes the server away: a poll is all that it takes to catch up.
func (h *hostileSource) repoAway(good string) string {
	h.turn(away)
	h.poke()
	gone := h.unreachable(good, "")
	const age = "dlreconcile_repo_age_seconds"
	before := h.metric(age)
	h.poke() // one more look in vain
	h.await("another look", func(s engine.Status) bool { return s.Polls > gone.Polls })
	h.boots()
	rose := h.metric(age)
	if rose <= before {
		h.t.Errorf("%s was %f and is %f", age, before, rose)
	}
	next := h.commit(h.key)
	if h.url == h.bare { // it is pushed to where it was moved
		h.git("push", "-q", filepath.Join(filepath.Dir(h.bare)+".away", "site.git"), "HEAD:main")
	} else {
		h.push()
	}
	turned := time.Now()
	h.turn(serves)
	h.poke()
	// The first look that succeeds finds it.
	back := h.await("the repository", func(s engine.Status) bool { return s.RepoError == "" })
	if back.Tip != next {
		h.t.Errorf("the first look finds %s, want %s", back.Tip, next)
	}
	h.synced(next)
	if now := h.metric(age); now > time.Since(turned).Seconds() {
		h.t.Errorf("%s is %f, and the repository is back for less than %v", age, now, time.Since(turned))
	}
	return next
}

// keysAway removes the file of keys: nothing new is trusted until it is back.
func (h *hostileSource) keysAway(good string) string {
	if err := os.Rename(h.signers, h.signers+".away"); err != nil {
		h.t.Fatal(err)
	}
	next := h.commit(h.key)
	h.push()
	st := h.await("a failure", func(s engine.Status) bool { return s.Failure != nil && s.Failure.Cause == engine.CauseKeys })
	c, _ := st.Condition(engine.ConditionTrusted)
	if st.Synced != good || c.Status || c.Reason != "KeysUnreadable" || !st.Failure.Retry {
		h.t.Errorf("%s is served; %+v; %+v", st.Synced, c, st.Failure)
	}
	h.t.Logf("conditions: %s\n%s", conditionsOf(st), st.Failure.Error())
	if err := os.Rename(h.signers+".away", h.signers); err != nil {
		h.t.Fatal(err)
	}
	h.synced(next) // by itself
	return next
}

// largeBlob commits a file larger than the daemon may hold.
func (h *hostileSource) largeBlob() string {
	size := int64(16 << 20)
	if strings.HasPrefix(h.url, "http") {
		size = 64 << 20
	}
	if os.Getenv(providertest.Full) != "" {
		size = 1 << 30
	}
	if err := sparse(filepath.Join(h.work, "large"), size); err != nil {
		h.t.Fatal(err)
	}
	h.git("config", "core.compression", "1")
	rev := h.commit(h.key)
	h.push()
	h.synced(rev)
	peak := peakMemory(h.t, h.daemon.Pid)
	h.t.Logf("%d MiB are there, %d MiB of memory", size>>20, peak>>20)
	if most := int64(96 << 20); peak > most {
		h.t.Errorf("%d MiB of memory, want at most %d", peak>>20, most>>20)
	}
	return rev
}

// endlessRefs has the server list refs for ever.
func (h *hostileSource) endlessRefs(good string) {
	if h.url == h.bare {
		return // a folder's end is where the kernel says
	}
	h.turn(endless)
	h.poke()
	h.unreachable(good, "the list of refs has more than 32 MiB")
	h.boots()
	peak := peakMemory(h.t, h.daemon.Pid)
	h.t.Logf("%d MiB of memory", peak>>20)
	if most := int64(144 << 20); peak > most {
		h.t.Errorf("%d MiB of memory, want at most %d", peak>>20, most>>20)
	}
	h.turn(serves)
	next := h.commit(h.key)
	h.push()
	h.synced(next)
}
