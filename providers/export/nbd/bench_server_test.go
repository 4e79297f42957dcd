package nbd

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// benchServer is a server as a process.
type benchServer struct {
	name   string
	export string
	port   int
	pid    int
	ask    func() standing // nil for others than ours
}

// startServers starts all of them on one image: read-only, or with what is written kept
// beside it. Ours is the first.
func startServers(t testing.TB, image string, layered bool) []*benchServer {
	t.Helper()
	if !layered {
		return []*benchServer{
			startRole(t, "dlreconcile", "sealed", image),
			startNBDServer(t, "readonly = true", image),
			startPeer(t, "nbdkit", func(port string) []string {
				return []string{"nbdkit", "-f", "-r", "-i", "127.0.0.1", "-p", port, "file", image}
			}),
			startPeer(t, "qemu-nbd", func(port string) []string {
				return []string{"qemu-nbd", "-r", "-t", "-e", "1000", "-f", "raw", "-b", "127.0.0.1", "-p", port, "-x", "", image}
			}),
			startRole(t, "go-nbd", "go-nbd", image),
		}
	}
	over := filepath.Join(t.TempDir(), "over.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image, over).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v: %s", err, out)
	}
	ours := startRole(t, "dlreconcile", "overlay", image, t.TempDir())
	ours.export = "one"
	return []*benchServer{
		ours,
		startNBDServer(t, "copyonwrite = true", image),
		startPeer(t, "nbdkit", func(port string) []string {
			return []string{"nbdkit", "-f", "-i", "127.0.0.1", "-p", port, "--filter=cow", "file", image}
		}),
		startPeer(t, "qemu-nbd", func(port string) []string {
			return []string{"qemu-nbd", "-t", "-e", "1000", "-f", "qcow2", "-b", "127.0.0.1", "-p", port, "-x", "", over}
		}),
	}
}

// startRole starts a server of this binary.
func startRole(t testing.TB, name, role string, args ...string) *benchServer {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", role, err)
		}
	})
	out := bufio.NewReader(pipe)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", role, err)
	}
	s := &benchServer{name: name, pid: cmd.Process.Pid}
	if s.port, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	s.ask = func() standing {
		var st standing
		if _, err := io.WriteString(in, "\n"); err != nil {
			t.Fatal(err)
		}
		line, err := out.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &st)
		}
		if err != nil {
			t.Fatalf("%s: %v", role, err)
		}
		return st
	}
	return s
}

// freeTCPPort gives a port that nobody has now.
func freeTCPPort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// startPeer starts a foreign server that stays in the foreground.
func startPeer(t testing.TB, name string, args func(port string) []string) *benchServer {
	t.Helper()
	s := &benchServer{name: name, port: freeTCPPort(t)}
	argv := args(strconv.Itoa(s.port))
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s.pid = cmd.Process.Pid
	s.listening(t)
	return s
}

// startNBDServer starts nbd-server, which goes into the background.
func startNBDServer(t testing.TB, mode, image string) *benchServer {
	t.Helper()
	dir := t.TempDir()
	s := &benchServer{name: "nbd-server", export: "bench", port: freeTCPPort(t)}
	conf, pid := filepath.Join(dir, "conf"), filepath.Join(dir, "pid")
	text := fmt.Sprintf("[generic]\nlistenaddr = 127.0.0.1\nport = %d\n[bench]\nexportname = %s\n%s\n", s.port, image, mode)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("nbd-server", "-C", conf, "-p", pid).CombinedOutput(); err != nil {
		t.Fatalf("nbd-server: %v: %s", err, out)
	}
	s.listening(t)
	b, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	if s.pid, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(s.pid, syscall.SIGTERM) })
	return s
}

// listening waits until somebody answers.
func (s *benchServer) listening(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", s.port))
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not listen: %v", s.name, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// measure runs a load against the server.
func (s *benchServer) measure(t testing.TB, l load) measured {
	t.Helper()
	l.Port, l.Name = s.port, s.export
	before := s.cpu(t)
	over, peak := make(chan struct{}), make(chan int64)
	var watch sync.WaitGroup
	watch.Go(func() { // memory is looked at while there are clients
		most := int64(0)
		for {
			most = max(most, s.memory())
			select {
			case <-over:
				peak <- most
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	r, _ := runLoad(t, l)
	close(over)
	m := measured{loaded: r, rss: <-peak}
	watch.Wait()
	m.cpu = s.cpu(t) - before
	return m
}

// perOp counts system calls, with perf where it is there, and allocations of ours.
func (s *benchServer) perOp(t testing.TB, l load) (calls, mallocs string) {
	t.Helper()
	l.Port, l.Name = s.port, s.export
	var before []string
	if _, err := exec.LookPath("perf"); err == nil {
		before = []string{"perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", strconv.Itoa(s.pid), "--"}
	}
	var was standing
	if s.ask != nil {
		was = s.ask()
	}
	r, said := runLoad(t, l, before...)
	mallocs = "–"
	if s.ask != nil {
		mallocs = fmt.Sprintf("%.4f", float64(s.ask().Mallocs-was.Mallocs)/float64(r.Ops))
	}
	if before == nil {
		return "not counted", mallocs
	}
	for line := range strings.Lines(said) {
		if n, rest, ok := strings.Cut(line, ","); ok && strings.Contains(rest, "sys_enter") {
			if n, err := strconv.ParseFloat(n, 64); err == nil {
				return fmt.Sprintf("%.2f", n/float64(r.Ops)), mallocs
			}
		}
	}
	return "not counted", mallocs
}

// family lists the process and its children.
func (s *benchServer) family() []int {
	all := []int{s.pid}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.pid, s.pid))
	if err != nil {
		return all
	}
	for _, f := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

// memory gives the anonymous memory of the server.
func (s *benchServer) memory() (sum int64) {
	for _, pid := range s.family() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue // it is gone
		}
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "RssAnon:"); ok {
				kib, _ := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
				sum += kib << 10
			}
		}
	}
	return sum
}

// cpu gives the processor time of the server, with that of children that are gone.
func (s *benchServer) cpu(t testing.TB) time.Duration {
	t.Helper()
	// A child that served a connection ends a little later than the client.
	for end := time.Now().Add(2 * time.Second); len(s.family()) > 1 && time.Now().Before(end); {
		<-time.After(5 * time.Millisecond)
	}
	sum := 0.0
	for _, pid := range s.family() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		for _, v := range f[11:15] { // utime stime cutime cstime, in ticks of 10 ms
			n, _ := strconv.ParseFloat(v, 64)
			sum += n
		}
	}
	return time.Duration(sum * 1e7)
}
