package export

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// takenOver makes an ext4 that was not unmounted, and a script that is run in place of
// e2fsck on it.
func takenOver(t *testing.T, script string) (file string) {
	t.Helper()
	providertest.NeedRoot(t)
	providertest.Need(t, "mke2fs", "bash")
	dir := t.TempDir()
	file = filepath.Join(dir, "ext4")
	run(t, "mke2fs", "-q", "-t", "ext4", file, "16M")
	ext4Again(t, file)
	if err := os.WriteFile(filepath.Join(dir, "e2fsck"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return file
}

// A crafted file system that takes the program over finds nothing that it may touch.
func TestSettleIsContained(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file := takenOver(t, fmt.Sprintf(`echo "as $(id -u):$(id -g):$(id -G), $(ulimit -v) KiB, $(ulimit -f) blocks, process $$"
[ -w /disk ] && echo writable
for f in /* /.[!.]*; do [ -e "$f" ] && echo "$f"; done
for d in / /usr /usr/lib; do touch "$d/x" 2>&- && echo "writes to $d"; done
bash -c 'echo > /dev/tcp/127.0.0.1/%d' 2>&- && echo connected
exit 8
`, l.Addr().(*net.TCPAddr).Port))
	err = settle(t.Context(), file, "ext4")
	want := regexp.MustCompile(fmt.Sprintf(`: as %d:%[1]d:%[1]d, %d KiB, %d blocks, process 1 writable( /(bin|sbin|usr|dev|etc|e2fsck|disk|lib[^ ]*))+$`,
		confinedUser, confinedMemory, 16<<20/512+1))
	if err == nil || !want.MatchString(err.Error()) {
		t.Errorf("%v, want %s", err, want)
	}
	if st, err := os.Stat(file); err != nil || st.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	wantNothingLeft(t, file)
}

// Without root there was nothing that held it.
func TestSettleTakesRoot(t *testing.T) {
	file := takenOver(t, "exit 0")
	err := onThread(func() error {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 65534, ^uintptr(0)); errno != 0 { // of this thread
			return errno
		}
		f, err := os.Open("/dev/null") // the file it may not open
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = confined(t.Context(), filepath.Join(filepath.Dir(file), "e2fsck"), f)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "as root") {
		t.Errorf("%v", err)
	}
}

// wantNothingLeft looks for what a confined program leaves: a folder, or a mount that
// others see.
func wantNothingLeft(t *testing.T, file string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(filepath.Dir(file), "root-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), filepath.Dir(file)) {
		t.Errorf("others see its mounts: %v\n%s", err, mounts)
	}
}

// The unit's OOMScoreAdjust was that of e2fsck too; and what the unit lets the daemon do
// was not enough to end it.
func TestSettleCanBeEnded(t *testing.T) {
	if os.Getenv("DLRECONCILE_TEST_BOUNDED") == "" {
		providertest.NeedRoot(t)
		providertest.Need(t, "setpriv")
		b, err := os.ReadFile("../../docs/operations.md")
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`(?m)^CapabilityBoundingSet=(.*)$`).FindSubmatch(b)
		if m == nil {
			t.Fatal("operations.md has no unit")
		}
		set := "-all"
		for _, c := range strings.Fields(string(m[1])) {
			set += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
		}
		cmd := exec.Command("setpriv", "--bounding-set", set, "--no-new-privs", os.Args[0], "-test.run", "^TestSettleCanBeEnded$", "-test.v", "-test.timeout", "60s")
		cmd.Env = append(os.Environ(), "DLRECONCILE_TEST_BOUNDED=yes")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestSettleCanBeEnded") {
			t.Errorf("with %s: %v\n%s", set, err, out)
		}
		return
	}
	file := takenOver(t, "echo > /disk\nsleep 3600\nexit 0")
	n, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	seen := os.NewFile(uintptr(n), "inotify")
	defer seen.Close()
	if _, err := unix.InotifyAddWatch(n, file, unix.IN_MODIFY); err != nil {
		t.Fatal(err)
	}
	given := errors.New("it was given up")
	ctx, cancel := context.WithCancelCause(t.Context())
	ended, runs := make(chan error, 1), make(chan error, 1)
	go func() { ended <- settle(ctx, file, "ext4") }()
	go func() {
		_, err := seen.Read(make([]byte, 4096))
		runs <- err
	}()
	select {
	case err := <-runs:
		if err != nil {
			t.Fatal(err)
		}
	case err := <-ended:
		t.Fatal(err)
	}
	if adj := scores(t); len(adj) != 1 || adj[0] != fmt.Sprint(confinedOOM) {
		t.Errorf("the oom_score_adj of it is %v, want %d", adj, confinedOOM)
	}
	cancel(given)
	if err := <-ended; !errors.Is(err, given) {
		t.Errorf("%v", err)
	}
	if left := scores(t); len(left) != 0 {
		t.Error("it is left")
	}
	wantNothingLeft(t, file)
}

// scores gives the oom_score_adj of each child that is confined.
func scores(t *testing.T) (adj []string) {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	mine := fmt.Sprintf("\nPPid:\t%d\n", os.Getpid())
	for _, p := range procs {
		status, err := os.ReadFile(filepath.Join(p, "status"))
		if err != nil || !strings.Contains(string(status), mine) || !strings.Contains(string(status), fmt.Sprintf("\nUid:\t%d\t", confinedUser)) {
			continue // or it has ended
		}
		b, err := os.ReadFile(filepath.Join(p, "oom_score_adj"))
		if err != nil {
			t.Fatal(err)
		}
		adj = append(adj, strings.TrimSpace(string(b)))
	}
	return adj
}
