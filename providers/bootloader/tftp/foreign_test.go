package tftp

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// foreign runs the clients that people have. get gives the command line that
// fetches name from addr into the file out.
var foreign = []struct {
	name    string
	program string
	window  int
	block   int
	get     func(addr netip.AddrPort, name, out string) []string
}{
	{"tftp-hpa", "tftp", 1, 512, func(a netip.AddrPort, name, out string) []string {
		return []string{"-m", "binary", a.Addr().String(), fmt.Sprint(a.Port()), "-c", "get", name, out}
	}},
	{"atftp", "atftp", 1, 512, func(a netip.AddrPort, name, out string) []string {
		return []string{"-g", "-r", name, "-l", out, a.Addr().String(), fmt.Sprint(a.Port())}
	}},
	{"atftp blksize", "atftp", 1, 1428, func(a netip.AddrPort, name, out string) []string {
		return []string{"-g", "--option", "blksize 1428", "--option", "tsize enable", "-r", name, "-l", out, a.Addr().String(), fmt.Sprint(a.Port())}
	}},
	{"atftp windowsize", "atftp", 4, 1428, func(a netip.AddrPort, name, out string) []string {
		return []string{"-g", "--option", "blksize 1428", "--option", "windowsize 4", "-r", name, "-l", out, a.Addr().String(), fmt.Sprint(a.Port())}
	}},
	{"atftp windowsize 32 timeout", "atftp", 32, 512, func(a netip.AddrPort, name, out string) []string {
		return []string{"-g", "--option", "windowsize 32", "--option", "timeout 1", "-r", name, "-l", out, a.Addr().String(), fmt.Sprint(a.Port())}
	}},
	{"curl", "curl", 1, 1400, func(a netip.AddrPort, name, out string) []string {
		return []string{"-sS", "--tftp-blksize", "1400", "-o", out, fmt.Sprintf("tftp://%s/%s", a, name)}
	}},
	{"busybox", "busybox", 1, 65464, func(a netip.AddrPort, name, out string) []string {
		return []string{"tftp", "-g", "-b", "65464", "-r", name, "-l", out, a.Addr().String(), fmt.Sprint(a.Port())}
	}},
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestForeignClients(t *testing.T) {
	files := map[string][]byte{}
	for _, n := range []int{0, 1, 511, 512, 513, 1428 * 4, 1428*8 + 1, 300_000} {
		files[fmt.Sprintf("d/%d", n)] = random(n)
	}
	for _, f := range foreign {
		t.Run(f.name, func(t *testing.T) {
			providertest.Need(t, f.program)
			s := serve(t, "127.0.0.1:0", Config{Timeout: time.Second}, files)
			for name, want := range files {
				out := filepath.Join(t.TempDir(), "out")
				run(t, f.program, f.get(s.addr, name, out)...)
				got, err := os.ReadFile(out)
				if err != nil && len(want) > 0 { // curl makes no empty file
					t.Error(err)
					continue
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s: wrong bytes", name)
				}
				tr := s.next()
				if tr.Err != nil || tr.Bytes != int64(len(want)) || tr.Size != int64(len(want)) ||
					tr.BlockSize != f.block || tr.Name != name || tr.WindowSize != f.window {
					t.Errorf("%+v", tr)
				}
			}
		})
	}
}

func TestForeignClientsOnABadNetwork(t *testing.T) {
	file := random(500_000)
	for _, f := range foreign {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			providertest.Need(t, f.program)
			// Quicker than the clients' own timers, so that ours are what is tested.
			s := serve(t, "127.0.0.1:0", Config{Timeout: 30 * time.Millisecond, Retries: 20}, map[string][]byte{"f": file})
			out := filepath.Join(t.TempDir(), "out")
			run(t, f.program, f.get(lossy(t, s.addr, 0.02), "f", out)...)
			got, err := os.ReadFile(out)
			if err != nil || !bytes.Equal(got, file) {
				t.Errorf("wrong bytes (%v)", err)
			}
			tr := s.next()
			t.Logf("%d blocks, %d sent again, %v", tr.Size/int64(tr.BlockSize)+1, tr.Resent, tr.Took.Round(time.Millisecond))
		})
	}
}

func TestForeignClientsAreTold(t *testing.T) {
	providertest.Need(t, "tftp", "curl")
	s := serve(t, "127.0.0.1:0", Config{}, map[string][]byte{})
	dir := t.TempDir()
	host, port := s.addr.Addr().String(), fmt.Sprint(s.addr.Port())

	cmd := exec.Command("tftp", "-m", "binary", host, port, "-c", "get", "nope", filepath.Join(dir, "a"))
	if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), "file not found") {
		t.Errorf("tftp get: %s", out)
	}
	s.next()
	up := filepath.Join(dir, "up")
	if err := os.WriteFile(up, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command("tftp", "-m", "binary", host, port, "-c", "put", up, "up")
	if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), "read-only") {
		t.Errorf("tftp put: %s", out)
	}
	cmd = exec.Command("curl", "-sS", fmt.Sprintf("tftp://%s/nope", s.addr))
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 68 { // "File not found on TFTP server"
		t.Errorf("curl: %v", err)
	}
	s.next()
}

// Text mode: what a text-mode client writes is the file, lines ended as here.
func TestNetascii(t *testing.T) {
	providertest.Need(t, "tftp")
	text := []byte(strings.Repeat("a line\nand a \r return\n", 100))
	s := serve(t, "127.0.0.1:0", Config{}, map[string][]byte{"f": text})
	out := filepath.Join(t.TempDir(), "out")
	run(t, "tftp", "-m", "netascii", s.addr.Addr().String(), fmt.Sprint(s.addr.Port()), "-c", "get", "f", out)
	got, err := os.ReadFile(out)
	if err != nil || !bytes.Equal(got, text) {
		t.Errorf("%d bytes, want %d (%v)", len(got), len(text), err)
	}
	if tr := s.next(); tr.Err != nil {
		t.Error(tr.Err)
	}
	// tsize counts other bytes than those on the wire, so it is not answered.
	c := dial(t, s.addr)
	c.send(rrq("f", "netascii", "tsize", "0", "windowsize", "4"))
	if op, block, _ := c.read(); op != opDATA || block != 1 {
		t.Errorf("opcode %d block %d, want the first block", op, block)
	}
	c.fail(codeUndefined)
	s.next()
}
