package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// manager is what systemd is to a unit with FileDescriptorStoreMax=: it holds what the
// unit's process sends, and gives it to the next one (sd_pid_notify_with_fds(3),
// sd_notify_barrier(3)).
type manager struct {
	t      *testing.T
	socket *net.UnixConn

	mu      sync.Mutex // guards all below
	fds     map[string]*os.File
	removed []string
	changed chan struct{} // closed and replaced with every message
}

func newManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{t: t, fds: map[string]*os.File{}, changed: make(chan struct{})}
	var err error
	m.socket, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.serve()
	}()
	t.Cleanup(func() {
		m.socket.Close()
		<-done
		for _, f := range m.fds {
			f.Close()
		}
	})
	return m
}

func (m *manager) serve() {
	b, oob := make([]byte, 64<<10), make([]byte, 4<<10)
	for {
		n, on, _, _, err := m.socket.ReadMsgUnix(b, oob)
		if err != nil {
			return
		}
		var files []*os.File
		if messages, err := unix.ParseSocketControlMessage(oob[:on]); err == nil {
			for _, msg := range messages {
				if fds, err := unix.ParseUnixRights(&msg); err == nil {
					for _, fd := range fds {
						files = append(files, os.NewFile(uintptr(fd), "sent"))
					}
				}
			}
		}
		m.take(strings.Split(string(b[:n]), "\n"), files)
	}
}

// take does what one message says.
func (m *manager) take(lines []string, files []*os.File) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := ""
	for _, l := range lines {
		if v, ok := strings.CutPrefix(l, "FDNAME="); ok {
			name = v
		}
	}
	switch {
	case slices.Contains(lines, "FDSTORE=1") && len(files) == 1 && !strings.Contains(name, ":"):
		if old := m.fds[name]; old != nil {
			m.t.Errorf("%s is stored twice", name)
			old.Close()
		}
		m.fds[name], files = files[0], nil
	case slices.Contains(lines, "FDSTOREREMOVE=1"):
		if f := m.fds[name]; f != nil {
			f.Close()
			delete(m.fds, name)
		}
		m.removed = append(m.removed, name)
	}
	for _, f := range files { // of a barrier, for one
		f.Close()
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

// wait waits until something is so.
func (m *manager) wait(what string, ok func() bool) {
	m.t.Helper()
	limit := time.After(applyLimit)
	for {
		m.mu.Lock()
		done, changed := ok(), m.changed
		have := slices.Sorted(maps.Keys(m.fds))
		m.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-limit:
			m.t.Fatalf("no %s; stored: %v", what, have)
		}
	}
}

// kept lists names and inodes of what is stored.
func (m *manager) kept() map[string]uint64 {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]uint64{}
	for name, f := range m.fds {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			m.t.Fatal(err)
		}
		all[name] = st.Ino
	}
	return all
}

// start runs a program as the daemon of s, with what is stored.
func (m *manager) start(s *loopback, program string) *exec.Cmd {
	m.t.Helper()
	cmd := s.command("serve")
	// The number of the process is known to itself alone before it runs.
	cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, program}, cmd.Args[1:]...)
	var err error
	if cmd.Path, err = exec.LookPath("sh"); err != nil {
		m.t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(s.state, "..", "daemon.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	m.mu.Lock()
	names := slices.Sorted(maps.Keys(m.fds))
	for _, n := range names {
		cmd.ExtraFiles = append(cmd.ExtraFiles, m.fds[n])
	}
	m.mu.Unlock()
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.socket.LocalAddr().String(), fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		_ = cmd.Process.Kill() // if it has not ended
		_ = cmd.Wait()
		if b, err := os.ReadFile(log.Name()); m.t.Failed() && err == nil {
			m.t.Logf("the daemon's log:\n%s", tail(b, 6000))
		}
	})
	return cmd
}

// A daemon that dies or is replaced leaves its sockets to the next: they are the same
// ones, and whoever comes meanwhile waits and is answered.
func TestSocketsOutliveTheDaemon(t *testing.T) {
	for _, program := range []string{"sh", "curl", "nbdinfo", "mke2fs"} {
		providertest.Need(t, program)
	}
	s := newLoopback(t)
	files, err := loopbackSite(s.ports, 1)
	if err != nil {
		t.Fatal(err)
	}
	rev := s.commit(files)
	m := newManager(t)
	daemon := m.start(s, os.Args[0])
	s.synced(rev)
	at := func(protocol string, i int) string {
		return fmt.Sprintf("%s-127.0.0.1_%d", protocol, s.ports[i])
	}
	want := []string{fmt.Sprintf("dhcp-127.0.0.1_%d-", s.ports[0]), at("tftp", 1), at("http", 2), at("nbd", 3)}
	unixSockets := func(kept []string) (n int) {
		for _, k := range kept {
			if strings.HasPrefix(k, "api@") || strings.HasPrefix(k, "nbd@") {
				n++
			}
		}
		return n
	}
	m.wait("listeners in the store", func() bool {
		names := slices.Collect(maps.Keys(m.fds))
		return unixSockets(names) == 2 && !slices.ContainsFunc(want, func(w string) bool { return m.fds[w] == nil })
	})
	kept, answers := m.kept(), listeners(t, daemon.Process.Pid)

	upgraded := filepath.Join(t.TempDir(), "dlreconcile")
	if err := copyFile(os.Args[0], upgraded); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(upgraded, 0o700); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		what, program string
		signal        syscall.Signal
	}{
		{"killed", os.Args[0], syscall.SIGKILL},
		{"ended for an upgrade", upgraded, syscall.SIGTERM},
	} {
		if err := daemon.Process.Signal(c.signal); err != nil {
			t.Fatal(err)
		}
		if err := daemon.Wait(); (err == nil) != (c.signal == syscall.SIGTERM) {
			t.Fatalf("%s: it ends with %v", c.what, err)
		}
		meanwhile := s.meanwhile(t, byte(i+1))
		daemon = m.start(s, c.program)
		meanwhile(c.what)
		if diff := cmp.Diff(answers, listeners(t, daemon.Process.Pid)); diff != "" {
			t.Errorf("%s: other sockets (-before +after):\n%s", c.what, diff)
		}
		if diff := cmp.Diff(kept, m.kept()); diff != "" {
			t.Errorf("%s: other sockets in the store (-before +after):\n%s", c.what, diff)
		}
	}

	// What the configuration has no use for goes, and so does what is not what it is called.
	stray, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stray.Close()
	file := func() *os.File {
		f, err := stray.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	m.mu.Lock()
	m.fds["nbd-127.0.0.1_1"] = file()
	m.fds[at("http", 2)].Close()
	m.fds[at("http", 2)] = file()
	m.removed = nil
	m.mu.Unlock()
	if err := daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = daemon.Wait() // it was killed
	daemon = m.start(s, os.Args[0])
	m.wait("end of the stray listeners", func() bool {
		return slices.Contains(m.removed, "nbd-127.0.0.1_1") && slices.Contains(m.removed, at("http", 2)) && m.fds[at("http", 2)] != nil
	})
	if now := m.kept(); now[at("http", 2)] == kept[at("http", 2)] || now["nbd-127.0.0.1_1"] != 0 || now[at("nbd", 3)] != kept[at("nbd", 3)] {
		t.Errorf("stored afterwards: %v, before %v", now, kept)
	}
	s.synced(rev)
	if err := daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := daemon.Wait(); err != nil {
		t.Error(err)
	}
}

// meanwhile has clients come while no daemon is there, and returns once they wait. What it
// gives waits for their answers.
func (s *loopback) meanwhile(t *testing.T, n byte) func(what string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	type outcome struct {
		who string
		out string
		err error
	}
	said := make(chan outcome)
	clients := 0
	begin := func(who string, do func() (string, error)) {
		clients++
		go func() {
			out, err := do()
			said <- outcome{who, out, err}
		}()
	}
	program := func(want string, args ...string) {
		begin(args[0], func() (string, error) {
			out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
			if err == nil && !bytes.Contains(out, []byte(want)) {
				err = fmt.Errorf("want %q", want)
			}
			return string(out), err
		})
	}
	program("404", "curl", "-sS", "-o", os.DevNull, "-w", "%{http_code}", fmt.Sprintf("http://127.0.0.1:%d/nothing", s.ports[2]))
	program("protocol: newstyle-fixed", "nbdinfo", "--list", fmt.Sprintf("nbd://127.0.0.1:%d", s.ports[3]))
	program("16777216", "nbdinfo", "--size", "nbd+unix:///small?socket="+filepath.Join(s.state, "nbd.sock"))
	begin("status", func() (string, error) {
		_, err := s.client.Status(ctx, 0)
		return "", err
	})
	begin("a machine's DHCP", func() (string, error) {
		w := walker{mac: provider.MAC{0x52, 0x54, 0, 0, 7, n}, ports: s.ports}
		return w.dhcp(ctx)
	})
	for _, i := range []int{2, 3} { // connected: what the kernel calls 01
		mark := fmt.Sprintf(":%04X 01 ", s.ports[i])
		for b := ""; !strings.Contains(b, mark); {
			raw, err := os.ReadFile("/proc/thread-self/net/tcp")
			if err != nil || ctx.Err() != nil {
				t.Fatal(err, ctx.Err())
			}
			b = string(raw)
			select {
			case got := <-said:
				t.Fatalf("%s did not wait: %v: %s", got.who, got.err, got.out)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return func(what string) {
		defer cancel()
		for range clients {
			if got := <-said; got.err != nil {
				t.Errorf("%s: %s, who came meanwhile: %v: %s", what, got.who, got.err, got.out)
			}
		}
	}
}
