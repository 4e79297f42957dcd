package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOneDaemonPerStateDirectory: the kernel's lock holds against a second daemon that
// comes by another path, and while the first is stopped; it falls with the process.
func TestOneDaemonPerStateDirectory(t *testing.T) {
	s := newLoopback(t)
	files, err := loopbackSite(s.ports, 1)
	if err != nil {
		t.Fatal(err)
	}
	rev := s.commit(files)
	first := s.start()
	s.synced(rev)

	paths := map[string]string{"the same path": s.state}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(s.state, link); err != nil {
		t.Fatal(err)
	}
	paths["a symbolic link"] = link
	if os.Geteuid() == 0 {
		bound := t.TempDir()
		if err := unix.Mount(s.state, bound, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(bound, 0); err != nil {
				t.Error(err)
			}
		})
		paths["a bind mount"] = bound
	} else if os.Getenv("DLRECONCILE_TEST_FULL") != "" {
		t.Error("a bind mount needs root")
	}
	refused := func(what, state string) {
		t.Helper()
		var stderr bytes.Buffer
		cmd := exec.Command(os.Args[0], "serve", "--repo", s.repo, "--state", state, "--config", os.DevNull, "--socket", filepath.Join(t.TempDir(), "s"))
		cmd.Env = append(os.Environ(), asCommand+"=1")
		cmd.Stderr = &stderr
		var exit *exec.ExitError
		if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != exitLocked {
			t.Errorf("%s: the second daemon ends with %v, want exit %d: %s", what, err, exitLocked, stderr.String())
		}
		if who := fmt.Sprintf("process %d", first.Process.Pid); !strings.Contains(stderr.String(), who) {
			t.Errorf("%s: %q does not name %s", what, stderr.String(), who)
		}
	}
	for what, state := range paths {
		refused(what, state)
	}
	if err := first.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for what, state := range paths {
		refused(what+", the first stopped", state)
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := first.Wait(); err == nil {
		t.Error("it was killed, and ends well")
	}
	_, stop := s.serve()
	s.synced(rev)
	stop()
}
