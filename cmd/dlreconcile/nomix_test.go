package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/engine/source"
)

// mixInside says to this test binary that it is in a network of its own, and how many
// switches to make there.
const mixInside = "DLRECONCILE_TEST_NOMIX_SWITCHES"

// TestNoMixing has machines boot in every way, one step at a time, while commit after
// commit is applied in between: each boot must be of one commit, and the newest.
// The daemon is the real one; the machines are a few lines that ask what firmware,
// boot loaders and initramfs ask.
func TestNoMixing(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "mke2fs", "ip", "grub-mkimage")
	inside := os.Getenv(mixInside)
	if inside == "" {
		out, err := ownNetwork(t, os.Args[0], "TestNoMixing", mixInside+"=200").CombinedOutput()
		if err != nil {
			t.Errorf("in a network of its own: %v", err)
		}
		t.Logf("%s", tail(out, 16000))
		return
	}
	switches, err := strconv.Atoi(inside)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("ip link: %v: %s", err, out)
	}
	mixAll(t, switches)
}

// TestMixingWithoutPinning shows that the test above would notice: with sessions
// that do not hold a machine on its generation, it fails.
func TestMixingWithoutPinning(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "mke2fs", "ip", "grub-mkimage", "go")
	binary := filepath.Join(t.TempDir(), "unpinned.test")
	if out, err := exec.Command("go", "test", "-c", "-tags", "unpinned", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	out, err := ownNetwork(t, binary, "TestNoMixing", mixInside+"=60").CombinedOutput()
	if err == nil {
		t.Fatalf("it passes without pinning:\n%s", out)
	}
	for _, way := range slices.Sorted(maps.Keys(mixWays())) {
		mixed := regexp.MustCompile(`(?m)^.*: ` + way + `, boot \d+: commits are mixed in one boot: .*$`)
		if line := mixed.Find(out); line != nil {
			t.Logf("%s", line)
		} else {
			t.Errorf("a machine that boots like %q noticed nothing", way)
		}
	}
	if t.Failed() {
		t.Logf("%v:\n%s", err, tail(out, 16000))
	}
}

// ownNetwork is a test of a test binary in a network namespace, with more of the
// environment. The test that calls this starts it.
func ownNetwork(t *testing.T, binary, test string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, "-test.run=^"+test+"$", "-test.v", "-test.timeout=50m")
	cmd.Env = append(os.Environ(), env...)
	// Pdeathsig comes when the thread ends that started it.
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// mixDaemon starts the daemon, and waits until it serves what is recorded.
func mixDaemon(t *testing.T, s *story, env ...string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "serve", "--repo", s.repo, "--state", s.state, "--config", os.DevNull)
	cmd.Env = append(append(os.Environ(), asCommand+"=1"), env...)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	wait, err := providertest.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	s.daemon, s.exited = cmd, make(chan error, 1)
	go func() { s.exited <- wait() }()
	if _, err := s.wait("a daemon that answers", func(st engine.Status) bool { return st.Phase != engine.PhaseStarting }); err != nil {
		t.Fatal(err)
	}
}

// mixStory gives a new repo, and a state directory in which nothing is.
func mixStory(t *testing.T, ctx context.Context) *story {
	t.Helper()
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "daemon.log"))
	if err != nil {
		t.Fatal(err)
	}
	s := &story{ctx: ctx, repo: filepath.Join(dir, "site"), state: filepath.Join(dir, "state"), log: log}
	if err := source.Init(s.repo); err != nil {
		t.Fatal(err)
	}
	return s
}

// reached waits until a revision is what the daemon serves.
func (s *story) reached(rev string) (engine.Status, error) {
	st, err := s.wait(rev, func(st engine.Status) bool {
		return st.Synced == rev && st.Phase == engine.PhaseIdle || st.Failure != nil && st.Failure.Revision == rev
	})
	if err == nil && st.Failure != nil {
		err = fmt.Errorf("it is refused: %+v", st.Failure)
	}
	return st, err
}

// mixAll makes the switches while one machine of each kind boots.
func mixAll(t *testing.T, switches int) {
	ctx, cancel := context.WithCancel(context.Background())
	s := mixStory(t, ctx)
	defer s.end()
	defer cancel()
	var newest, starts atomic.Int64
	commit := func(n int) (applied func()) {
		files, err := mixFiles(n)
		if err != nil {
			t.Fatal(err)
		}
		rev, err := source.Commit(s.repo, files, fmt.Sprintf("commit %d", n))
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			if _, err := s.reached(rev.Hash); err != nil {
				t.Fatalf("commit %d: %v", n, err)
			}
			newest.Store(int64(n))
		}
	}
	began := time.Now()
	applied := commit(1)
	mixDaemon(t, s)
	applied()
	t.Logf("the first commit is served after %.1f s", time.Since(began).Seconds())

	machines := mixMachines(ctx, &newest, &starts)
	var wg sync.WaitGroup
	for _, m := range machines {
		wg.Go(m.live)
	}
	for n := 2; n <= switches+1; n++ {
		applied := commit(n)
		// A third of the machines goes on while the switch is made.
		for i, m := range machines {
			if (i+n)%3 == 0 {
				m.turn <- true
			}
		}
		applied()
		for i, m := range machines {
			if (i+n)%3 != 0 {
				m.turn <- true
			}
		}
		for _, m := range machines {
			<-m.rest
		}
		if n%67 == 0 { // in the middle of all these boots
			if err := cmdEnd(s, nil, nil); err != nil {
				t.Fatal(err)
			}
			starts.Add(1)
			mixDaemon(t, s)
		}
	}
	t.Logf("%d switches took %.1f s", switches, time.Since(began).Seconds())
	for _, m := range machines {
		close(m.turn)
	}
	wg.Wait()
	for _, m := range machines {
		t.Logf("%-16s %d boots to userland", m.name, m.done)
		for i, w := range m.wrong {
			if i < 3 {
				t.Error(w)
			}
		}
		if len(m.wrong) > 3 {
			t.Errorf("%s: and %d more", m.name, len(m.wrong)-3)
		}
		if m.done < 3 {
			t.Errorf("%s reached userland %d times in %d switches", m.name, m.done, switches)
		}
	}
	if t.Failed() {
		t.Logf("the daemon's log:\n%s", s.logged())
	}
}

// mixMachines gives one machine for each way to boot.
func mixMachines(ctx context.Context, newest, starts *atomic.Int64) []*mixMachine {
	ways := mixWays()
	var list []*mixMachine
	for i, name := range slices.Sorted(maps.Keys(ways)) {
		m := newMixMachine(ctx, name, i, ways[name])
		m.newest, m.starts = newest, starts
		list = append(list, m)
	}
	return list
}

// newMixMachine gives machine number i, of at most 250.
func newMixMachine(ctx context.Context, name string, i int, boots func(*mixBoot) error) *mixMachine {
	m := &mixMachine{
		name: name, ctx: ctx, boots: boots, chance: rand.New(rand.NewPCG(1, uint64(i))),
		turn: make(chan bool, 1), rest: make(chan struct{}, 1),
	}
	m.mac, m.relay = mixMAC(name), netip.AddrFrom4([4]byte{127, 0, 2, byte(i)})
	if strings.HasPrefix(name, "foreign") || strings.HasPrefix(name, "proxied") {
		m.addr, m.relay = netip.AddrFrom4([4]byte{127, 9, 1, byte(i)}), netip.AddrFrom4([4]byte{127, 9, 2, byte(i)})
	}
	return m
}
