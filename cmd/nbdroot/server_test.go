package main

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// freeAddr gives a loopback address that nobody listens on.
func freeAddr(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// foreign is a running NBD server that is not ours.
type foreign struct {
	addr netip.AddrPort
	cmd  *exec.Cmd
	wait func() error
	out  lockedBuffer
}

// lockedBuffer is what a process writes while the test reads.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// kill is what a power cut is to the server.
func (f *foreign) kill() {
	f.cmd.Process.Kill()
	f.wait()
}

// runServer starts a server that ends with the test.
func runServer(t *testing.T, addr netip.AddrPort, argv ...string) *foreign {
	t.Helper()
	providertest.Need(t, argv[0])
	f := &foreign{addr: addr, cmd: exec.Command(argv[0], argv[1:]...)}
	f.cmd.Stdout, f.cmd.Stderr = &f.out, &f.out
	var err error
	if f.wait, err = providertest.Start(f.cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.kill)
	return f
}

// connect dials until the server listens. There is no probing beforehand:
// nbd-server in the foreground serves one connection and ends.
func (f *foreign) connect(t *testing.T) net.Conn {
	t.Helper()
	var conn net.Conn
	within(t, 10*time.Second, func() bool {
		var err error
		conn, err = dialTo(target{server: f.addr})()
		return err == nil
	}, func() string { return f.cmd.Path + " does not listen: " + f.out.String() })
	return conn
}

func nbdkit(t *testing.T, addr netip.AddrPort, args ...string) *foreign {
	return runServer(t, addr, append([]string{"nbdkit", "-f", "--exit-with-parent", "-i", addr.Addr().String(),
		"-p", fmt.Sprint(addr.Port())}, args...)...)
}

func nbdServer(t *testing.T, addr netip.AddrPort, export, file string, readOnly bool) *foreign {
	conf := filepath.Join(t.TempDir(), "nbd-server.conf")
	text := fmt.Sprintf("[generic]\nport = %d\nlistenaddr = %s\n[%s]\nexportname = %s\nreadonly = %v\n",
		addr.Port(), addr.Addr(), export, file, readOnly)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return runServer(t, addr, "nbd-server", "-C", conf, "-d")
}

// within polls for what has no event to wait on: another program's state.
func within(t *testing.T, limit time.Duration, ok func() bool, what func() string) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what())
		}
	}
}
