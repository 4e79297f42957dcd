package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/source"
)

// What cannot be applied changes nothing on the wire, says why in the status, and
// is over within one poll of the commit that mends it.
func TestE2ERefusals(t *testing.T) {
	s := newSite(t, siteFiles("commit-one"))
	s.withImages()
	good := s.commit(nil, "go")
	s.start()
	s.applied(good)
	before, sockets := s.answers(), s.listeners()

	// refused commits files and checks everything that must hold meanwhile.
	refused := func(t *testing.T, files map[string]string, reason string, want ...string) {
		t.Helper()
		bad := s.commit(files, t.Name())
		st := s.waitStatus("a refusal", func(st engine.Status) bool {
			return st.Failure != nil && st.Failure.Revision == bad && st.Phase == engine.PhaseIdle
		})
		if st.Failure.Reason != reason {
			t.Errorf("refused for reason %q, want %q: %s", st.Failure.Reason, reason, st.Failure.Message)
		}
		if st.Synced != good || st.Generation != 1 {
			t.Errorf("serving generation %d, as of %s, want 1 and the last good %s", st.Generation, st.Synced, good)
		}
		for _, c := range st.Conditions {
			if c.Type == "Ready" && c.Status {
				t.Error("Ready is true while a commit is refused")
			}
		}
		if diff := cmp.Diff(before, s.answers()); diff != "" {
			t.Errorf("answers changed (-before +after):\n%s", diff)
		}
		if diff := cmp.Diff(sockets, s.listeners()); diff != "" {
			t.Errorf("sockets changed (-before +after):\n%s", diff)
		}
		text := s.must("status")
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("status does not say %q:\n%s", w, text)
			}
		}
		t.Logf("status:\n%s", text)
	}
	// mended commits the good files again, under another message.
	mended := func(t *testing.T) {
		t.Helper()
		good = s.commit(siteFiles("commit-one"), "mended: "+t.Name())
		st := s.applied(good)
		if st.Failure != nil {
			t.Errorf("still failing: %+v", st.Failure)
		}
		if diff := cmp.Diff(before, s.answers()); diff != "" {
			t.Errorf("answers differ after mending (-before +after):\n%s", diff)
		}
	}

	t.Run("broken commit", func(t *testing.T) {
		refused(t, edited("commit-one", `entries = [entry.disk]`, `entries = [entry.dsik]`), engine.ReasonInvalid, "site.hcl:", "entry.disk")
		_, errs, code := s.run("apply", "--auto-approve")
		if code != exitInvalid || !strings.Contains(errs, "site.hcl:") {
			t.Errorf("apply: exit %d, want %d:\n%s", code, exitInvalid, errs)
		}
		if _, _, code := s.run("validate"); code != exitInvalid {
			t.Errorf("validate: exit %d, want %d", code, exitInvalid)
		}
		mended(t)
	})

	t.Run("failing build", func(t *testing.T) {
		// The package does not exist, and there is no mirror in here anyway. Both images
		// want it: either may be the one that fails first.
		refused(t, edited("commit-one", `"kmod"]`, `"kmod", "no-such-package"]`), engine.ReasonMachine, "image.", "mmdebstrap: exit status")
		_, errs, code := s.run("apply", "--auto-approve")
		if code != exitError {
			t.Errorf("apply: exit %d, want %d:\n%s", code, exitError, errs)
		}
		mended(t)
		s.scratchIsEmpty()
	})

	t.Run("port in use", func(t *testing.T) {
		var l net.Listener
		if err := s.lab.Do(func() (err error) {
			l, err = net.Listen("tcp", "10.77.0.1:8080")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		refused(t, edited("commit-one", `address   = "10.77.0.1"`, `address   = "10.77.0.1"
  http {
    listen = ":8080"
  }`), engine.ReasonMachine, "10.77.0.1:8080", "in use")
		mended(t)
	})

	t.Run("disk full", func(t *testing.T) {
		// The scratch folder gets a file system too small for any image, in the
		// daemon's own view of the mounts.
		inDaemon := func(args ...string) {
			t.Helper()
			args = append([]string{"-t", fmt.Sprint(s.daemon.Process.Pid), "-m"}, args...)
			if out, err := exec.Command("nsenter", args...).CombinedOutput(); err != nil {
				t.Fatalf("nsenter %v: %v\n%s", args, err, out)
			}
		}
		tmp := filepath.Join(s.state, "tmp")
		inDaemon("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", tmp)
		refused(t, siteFiles("commit-with-no-room"), engine.ReasonMachine, "no space left")
		inDaemon("umount", tmp)
		mended(t)
	})

	t.Run("second daemon", func(t *testing.T) {
		_, errs, code := runCommand(t, s.command(true, "serve"))
		if code != exitLocked || !strings.Contains(errs, fmt.Sprint(s.daemon.Process.Pid)) {
			t.Errorf("a second daemon: exit %d, want %d and the first one's process number:\n%s", code, exitLocked, errs)
		}
	})

	t.Run("killed build", func(t *testing.T) {
		bad := s.commit(siteFiles("commit-killed"), "a build that is killed")
		s.waitStatus("the build", func(st engine.Status) bool { return st.Attempt == bad && len(st.Progress) > 0 })
		s.kill9()
		s.start()
		s.applied(bad)
		s.scratchIsEmpty()
	})
}

// Without a daemon the same mistakes have the same exit codes.
func TestExitCodes(t *testing.T) {
	repo, state := t.TempDir(), t.TempDir()
	if err := source.Init(repo); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Commit(repo, map[string]string{"site.hcl": "server {\n"}, "broken"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"validate"}, exitInvalid},
		{[]string{"plan"}, exitInvalid},
		{[]string{"plan", "--rev", "HEAD"}, exitInvalid},
		{[]string{"status"}, exitLocked},
		{[]string{"explain", "52:54:00:00:00:01"}, exitLocked},
		{[]string{"nodes"}, exitLocked},
		{[]string{"release"}, exitLocked},
		{[]string{"explain"}, exitUsage},
		{[]string{"nonsense"}, exitUsage},
		{[]string{"plan", "--nonsense"}, exitUsage},
		{[]string{"plan", "--rev", "no-such-branch"}, exitError},
		{[]string{"history"}, exitOK},
		{[]string{"version"}, exitOK},
		{[]string{"help"}, exitOK},
	} {
		args := append(c.args, "--repo", repo, "--state", state, "--config", os.DevNull)
		var out, errs strings.Builder
		got := run(t.Context(), streams{in: strings.NewReader(""), out: &out, err: &errs}, args)
		if got != c.want {
			t.Errorf("dlreconcile %s: exit %d, want %d\n%s%s", strings.Join(c.args, " "), got, c.want, out.String(), errs.String())
		}
		if got != exitOK && errs.Len() == 0 && out.Len() == 0 {
			t.Errorf("dlreconcile %s: exit %d and not a word", strings.Join(c.args, " "), got)
		}
	}
}

// scratchIsEmpty waits until nothing is left of any build. A build that was not at
// fault goes on for a while after another has failed, in case the next commit
// wants it; it may not leave anything either.
func (s *site) scratchIsEmpty() {
	s.t.Helper()
	deadline := time.After(applyLimit)
	for {
		left, err := filepath.Glob(filepath.Join(s.state, "tmp", "*"))
		if err != nil {
			s.t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-deadline:
			s.t.Errorf("left in scratch: %v", left)
			return
		}
	}
}
