package store

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// role makes the test binary be another process of a test: see TestMain.
const role = "STORE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch dir := os.Getenv("STORE_TEST_DIR"); os.Getenv(role) {
	case "":
		goleak.VerifyTestMain(m)
	case "hold": // the lock, until killed
		if _, err := Open(dir, Options{Command: "dlreconcile serve"}); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("held")
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "record": // one generation after the other, until killed
		s, err := Open(dir, Options{})
		for err == nil {
			rec := sampleRecord(0)
			if rec.Number, err = s.Next(); err != nil {
				break
			}
			rec.Revision = fmt.Sprintf("%040d", rec.Number)
			rec.Held = &Held{Revision: rec.Revision}
			if err = s.Record(rec); err == nil {
				fmt.Println("recorded", rec.Number)
				// Not what the record has already: nothing would be written.
				err = s.UpdateState(func(st *State) { st.Held.Reason = "recorded" })
			}
		}
		fmt.Println("error", err)
		os.Exit(1)
	}
}

// process is another process of the test.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Scanner
}

func start(t *testing.T, as, dir string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(exe)}
	p.cmd.Env = append(os.Environ(), role+"="+as, "STORE_TEST_DIR="+dir)
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// expect reads the next line, which starts with what.
func (p *process) expect(t *testing.T, what string) string {
	t.Helper()
	if !p.out.Scan() || !strings.HasPrefix(p.out.Text(), what) {
		t.Fatalf("the other process says %q, want %q", p.out.Text(), what)
	}
	return strings.TrimPrefix(p.out.Text(), what)
}

// kill ends the process without warning, and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	for p.out.Scan() {
	}
	_ = p.cmd.Wait()
}

// withMounts runs f in a mount namespace of its own, which goes when f returns. f
// may not end the test.
func withMounts(t *testing.T, f func() error) {
	t.Helper()
	providertest.NeedRoot(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func mustOpen(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func mustRecord(t testing.TB, s *Store, rec *Record) *Record {
	t.Helper()
	if err := s.Record(rec); err != nil {
		t.Fatal(err)
	}
	return rec
}

func mustCurrent(t testing.TB, s *Store) *Record {
	t.Helper()
	rec, ok, err := s.Current()
	if err != nil || !ok {
		t.Fatalf("current: %v, %v", ok, err)
	}
	return rec
}
