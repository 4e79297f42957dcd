package lab_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// crashVar makes the test binary a process that makes a lab and waits to be killed.
const crashVar = "DLRECONCILE_TEST_LAB_CRASH"

func TestMain(m *testing.M) {
	if os.Getenv(crashVar) != "" {
		crash()
		return
	}
	goleak.VerifyTestMain(m)
}

// newLab makes a lab that is closed when the test ends.
func newLab(t *testing.T, c lab.Config) *lab.Lab {
	t.Helper()
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	l, err := lab.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("closing the lab: %v", err)
		}
	})
	return l
}

// poll waits for what gives no event.
func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited two minutes for %s", what)
		}
	}
}

func interfaces(t *testing.T) []string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprint(i.Name, i.HardwareAddr, i.Flags, addrs))
	}
	return names
}

// exists reports whether a namespace or a file is there.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func netns(name string) string { return filepath.Join("/run/netns", name) }

func TestNothingOutsideTheNamespaceChanges(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "ip")
	before := interfaces(t)
	l := newLab(t, lab.Config{Name: t.Name(), Address: netip.MustParsePrefix("192.168.7.1/26")})
	client, err := l.Client(t.Context(), lab.ClientConfig{Name: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, interfaces(t)); diff != "" {
		t.Errorf("outside, with a lab (-before +now):\n%s", diff)
	}
	var inside []string
	if err := l.Do(func() error { inside = interfaces(t); return nil }); err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(inside, "\n"); len(inside) != 3 || !strings.Contains(all, "192.168.7.1/26") || !strings.Contains(all, "fe80::") {
		t.Errorf("inside:\n%s", all)
	}
	// The link-local address serves at once: a tentative one cannot be bound.
	if err := l.Do(func() error {
		ifi, err := net.InterfaceByName(lab.Bridge)
		if err != nil {
			return err
		}
		addrs, err := ifi.Addrs()
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.IsLinkLocalUnicast() {
				c, err := net.ListenUDP("udp6", &net.UDPAddr{IP: n.IP, Zone: lab.Bridge})
				if err != nil {
					return err
				}
				return c.Close()
			}
		}
		return errors.New("no link-local address")
	}); err != nil {
		t.Error(err)
	}
	out, err := client.Command(t.Context(), "ls", "/sys/class/net").Output()
	if got := strings.Fields(string(out)); err != nil || !cmp.Equal(got, []string{lab.ClientInterface, "lo"}) {
		t.Errorf("a client sees %q, %v", got, err)
	}
}

func TestDoReturnsToTheNamespaceItCameFrom(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "ip")
	l := newLab(t, lab.Config{Name: t.Name()})
	client, err := l.Client(t.Context(), lab.ClientConfig{MAC: provider.MAC{2, 0, 0, 0, 0, 9}})
	if err != nil {
		t.Fatal(err)
	}
	where := func() string {
		name, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	outside := where()
	failed := errors.New("failed")
	err = l.Do(func() error {
		inLab := where()
		if err := client.Do(func() error {
			ifi, err := net.InterfaceByName(lab.ClientInterface)
			if err == nil && ifi.HardwareAddr.String() != "02:00:00:00:00:09" {
				t.Errorf("the client has %v", ifi.HardwareAddr)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
		if now := where(); now != inLab || now == outside {
			t.Errorf("in the lab %s, after a client's Do %s, outside %s", inLab, now, outside)
		}
		return failed
	})
	if err != failed {
		t.Errorf("Do gives %v", err)
	}
	func() {
		defer func() { recover() }()
		l.Do(func() error { panic("in the lab") })
	}()
	if now := where(); now != outside {
		t.Errorf("outside %s, after Do %s", outside, now)
	}
}

func TestCloseEndsWhatRunsAndRemovesEverything(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "ip")
	l := newLab(t, lab.Config{Name: t.Name()})
	client, err := l.Client(t.Context(), lab.ClientConfig{Name: "c"})
	if err != nil {
		t.Fatal(err)
	}
	capture, err := l.Capture(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	here, there := l.Command(t.Context(), "sleep", "1000"), client.Command(t.Context(), "sleep", "1000")
	for _, cmd := range []*exec.Cmd{here, there} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	// Both have to be inside: ip(8) enters the namespace, then becomes the program.
	for _, cmd := range []*exec.Cmd{here, there} {
		poll(t, "sleep", func() bool {
			name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
			return string(name) == "sleep\n"
		})
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, cmd := range []*exec.Cmd{here, there} {
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("sleep ended with %v", err)
		}
	}
	for _, path := range []string{netns(l.Namespace()), netns(client.Namespace()), l.Dir(), capture.Path()} {
		if exists(path) {
			t.Errorf("%s is still there", path)
		}
	}
	if _, err := l.Client(t.Context(), lab.ClientConfig{}); !errors.Is(err, lab.ErrClosed) {
		t.Errorf("a client of a closed lab: %v", err)
	}
	if _, err := l.Capture(t.Context()); !errors.Is(err, lab.ErrClosed) {
		t.Errorf("a capture of a closed lab: %v", err)
	}
	if _, err := l.Machine(t.Context(), lab.MachineConfig{Name: "m", MAC: provider.MAC{2}}); !errors.Is(err, lab.ErrClosed) {
		t.Errorf("a machine of a closed lab: %v", err)
	}
}

func TestLabsOfOneNameStandSideBySide(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "ip")
	dir := t.TempDir()
	a, b := newLab(t, lab.Config{Name: "same"}), newLab(t, lab.Config{Name: "same", Dir: dir})
	if a.Namespace() == b.Namespace() {
		t.Fatalf("both are %s", a.Namespace())
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Do(func() error { _, err := net.InterfaceByName(lab.Bridge); return err }); err != nil {
		t.Errorf("the second lab, after the first has been closed: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if !exists(dir) {
		t.Error("a folder that was given is gone")
	}
}

func TestMissingProgramIsSaidBeforeTheStart(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "ip")
	l := newLab(t, lab.Config{})
	if err := l.Command(t.Context(), "no-such-program").Run(); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("running it gives %v", err)
	}
}

// crash makes a lab with a machine, a client and a process that has left its
// parent, tells what they are, and waits for the end.
func crash() {
	fail := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	ctx := context.Background()
	l, err := lab.New(ctx, lab.Config{Name: "crash"})
	fail(err)
	client, err := l.Client(ctx, lab.ClientConfig{Name: "c"})
	fail(err)
	m, err := l.Machine(ctx, lab.MachineConfig{Name: "m", MAC: provider.MAC{2, 0, 0, 0, 0, 1}, Memory: 64})
	fail(err)
	_, err = m.QMP(ctx, "query-status", nil)
	fail(err)
	// A daemon's grandchild has no parent to die with.
	out, err := l.Command(ctx, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!").Output()
	fail(err)
	fmt.Printf("%s %s %s %s\n", l.Namespace(), client.Namespace(), l.Dir(), strings.TrimSpace(string(out)))
	select {}
}

func TestNewRemovesWhatAKilledProcessLeft(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "ip", "qemu-system-x86_64")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	other := exec.Command(self)
	other.Env = append(os.Environ(), crashVar+"=1")
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { other.Process.Kill(); other.Wait() }()
	var ns, clientNS, dir string
	var orphan int
	if _, err := fmt.Fscan(out, &ns, &clientNS, &dir, &orphan); err != nil {
		t.Fatalf("%v; %q %q", err, ns, clientNS)
	}

	// While it lives a new lab leaves it alone.
	newLab(t, lab.Config{Name: "meanwhile"})
	for _, path := range []string{netns(ns), netns(clientNS), dir, fmt.Sprintf("/proc/%d", orphan)} {
		if !exists(path) {
			t.Errorf("%s of a living process is gone", path)
		}
	}
	qemu := func() bool { return exec.Command("pgrep", "-f", dir).Run() == nil }
	if !qemu() {
		t.Error("no machine runs")
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	other.Wait()
	poll(t, "the machine to die with its process", func() bool { return !qemu() })

	newLab(t, lab.Config{Name: "after"})
	for _, path := range []string{netns(ns), netns(clientNS), dir} {
		if exists(path) {
			t.Errorf("%s is still there", path)
		}
	}
	if alive(orphan) {
		t.Errorf("process %d still runs", orphan)
	}
}

// alive reports whether a process runs; one that has died and was not reaped does not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(after, "Z")
}
