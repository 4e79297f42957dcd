package nbdprobe

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// foreign starts a server, and waits until it listens.
func foreign(t *testing.T, network, address string, args ...string) {
	t.Helper()
	providertest.Need(t, args[0])
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			c.Close()
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// disk writes a file of random bytes and holes, with an end that fits no block, and
// gives its digest.
func disk(t *testing.T, size int) (path, digest string) {
	t.Helper()
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{7}).Read(b)
	clear(b[size/4 : size/2])
	path = filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return path, "sha256:" + hex.EncodeToString(sum[:])
}

func port(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Servers of other people are read whole, on one connection and on several.
func TestForeignServers(t *testing.T) {
	path, digest := disk(t, 24<<20+512)
	dir := t.TempDir()
	sock := func(n string) string { return filepath.Join(dir, n) }
	n := port(t)
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "[generic]\nlistenaddr = 127.0.0.1\nport = %d\nallowlist = true\n[disk]\nexportname = %s\nreadonly = true\nmulticonn = true\n", n, path), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign(t, "unix", sock("kit"), "nbdkit", "-f", "-r", "-U", sock("kit"), "file", path)
	foreign(t, "unix", sock("simple"), "nbdkit", "-f", "-r", "--no-sr", "-U", sock("simple"), "file", path)
	foreign(t, "unix", sock("qemu"), "qemu-nbd", "-t", "-r", "-f", "raw", "-e", "9", "-x", "disk", "-k", sock("qemu"), path)
	// It serves more than one connection only as a daemon, which leaves its number behind.
	pid := filepath.Join(dir, "pid")
	foreign(t, "tcp", fmt.Sprintf("127.0.0.1:%d", n), "nbd-server", "-C", conf, "-p", pid)
	t.Cleanup(func() {
		b, err := os.ReadFile(pid)
		if err != nil {
			t.Fatal(err)
		}
		number, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil || syscall.Kill(number, syscall.SIGTERM) != nil {
			t.Errorf("nbd-server is left behind: %q", b)
		}
	})
	for _, c := range []struct {
		what       string
		conf       Config
		structured bool
		several    bool
	}{
		{"nbdkit", Config{Network: "unix", Address: sock("kit")}, true, true},
		{"nbdkit without structured replies", Config{Network: "unix", Address: sock("simple")}, false, true},
		{"qemu-nbd", Config{Network: "unix", Address: sock("qemu"), Export: "disk"}, true, true},
		{"nbd-server", Config{Network: "tcp", Address: fmt.Sprintf("127.0.0.1:%d", n), Export: "disk"}, false, true},
	} {
		for _, conns := range []int{1, 4} {
			c.conf.Connections, c.conf.Depth, c.conf.Request, c.conf.Hash = conns, 8, 100<<10, true
			r, err := Probe(t.Context(), c.conf)
			if err != nil {
				t.Errorf("%s: %v", c.what, err)
				continue
			}
			if want := map[bool]int{true: conns, false: 1}[c.several]; r.Connections != want {
				t.Errorf("%s: %d connections, want %d: %+v", c.what, r.Connections, want, r.Export)
			}
			if r.Structured != c.structured || r.Size != 24<<20+512 || r.Bytes != r.Size || r.Digest != digest {
				t.Errorf("%s, %d connections: %+v, %d bytes, digest %s, want %s", c.what, conns, r.Export, r.Bytes, r.Digest, digest)
			}
			if want := uint64((r.Size + 100<<10 - 1) / (100 << 10)); r.Latency.Count() != want || r.Latency.Quantile(0.5) > r.Latency.Quantile(0.99) || r.Latency.Quantile(0.99) > r.Latency.Max() || r.Latency.Quantile(0.5) <= 0 {
				t.Errorf("%s: %d requests, want %d; %s %s %s", c.what, r.Latency.Count(), want, r.Latency.Quantile(0.5), r.Latency.Quantile(0.99), r.Latency.Max())
			}
		}
	}
	if _, err := Probe(t.Context(), Config{Network: "unix", Address: sock("qemu"), Export: "other"}); !isRefused(err) {
		t.Errorf("an export that is not there: %v", err)
	}
	r, err := Probe(t.Context(), Config{Network: "unix", Address: sock("kit"), Bytes: 1 << 20, Request: 64 << 10})
	if err != nil || r.Bytes != 1<<20 || r.Latency.Count() != 16 || r.Digest != "" {
		t.Errorf("a part: %+v, %v", r, err)
	}
}

// What a server cannot read is an error that says where.
func TestForeignReadErrors(t *testing.T) {
	path, _ := disk(t, 1<<20)
	for name, more := range map[string][]string{"structured": nil, "simple": {"--no-sr"}} {
		sock := filepath.Join(t.TempDir(), "s")
		args := append([]string{"nbdkit", "-f", "-r", "-U", sock}, more...)
		foreign(t, "unix", sock, append(args, "--filter=error", "file", path, "error-pread=EIO", "error-pread-rate=100%")...)
		_, err := Probe(t.Context(), Config{Network: "unix", Address: sock})
		if err == nil || !strings.HasSuffix(err.Error(), " cannot be read: input/output error") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
