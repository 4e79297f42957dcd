package lease_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
)

// crashFile names the database that a child process of the test fills.
const crashFile = "LEASE_CRASH_FILE"

// crashWant gives machine n of the crash test.
func crashWant(n int) lease.Want {
	return lease.Want{
		MAC:  lease.MAC{2, 0, 0, 0, byte(n >> 8), byte(n)},
		Pool: lease.Pool{Ranges: []lease.Range{{From: netip.MustParseAddr("10.1.0.0"), To: netip.MustParseAddr("10.1.255.255")}}},
	}
}

// bindUntilKilled gives leases from several goroutines, and prints each only
// after Bind has returned.
func bindUntilKilled() int {
	db, err := bbolt.Open(os.Getenv(crashFile), 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	db.MaxBatchDelay = 2 * time.Millisecond
	s, err := lease.Open(db, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	failed := make(chan error)
	for g := range 8 {
		go func() {
			for n := g; ; n = (n + 8) % 60000 {
				w := crashWant(n)
				a, err := s.Offer(w)
				if err == nil {
					_, err = s.Bind(w, a, time.Hour)
				}
				if err != nil {
					failed <- err
					return
				}
				fmt.Printf("%s %s\n", w.MAC, a)
			}
		}()
	}
	fmt.Fprintln(os.Stderr, <-failed)
	return 1
}

func TestLeasesSurviveKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), crashFile+"="+path)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		if m, a, ok := bytes.Cut(sc.Bytes(), []byte(" ")); ok {
			told[string(m)] = string(a)
		}
		if len(told) == 300 {
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
	if len(told) < 300 {
		t.Fatalf("the child gave %d leases: %s", len(told), stderr.String())
	}
	s, err := lease.Open(openDB(t, path), nil)
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]string{}
	for _, l := range s.All() {
		kept[l.MAC.String()] = l.Addr.String()
	}
	for m, a := range told {
		if kept[m] != a {
			t.Errorf("%s was told %s, the disk says %q", m, a, kept[m])
		}
	}
	t.Logf("%d leases were told, %d are on disk", len(told), len(kept))
}
