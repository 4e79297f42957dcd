package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/source"
)

// loopback is a site of processes on the loopback interface, without machines.
type loopback struct {
	t           testing.TB
	ports       []int
	repo, state string
	client      *api.Client
	lab         *lab.Lab // whose network the daemon is in; nil: the test's own
	config      string   // daemon.hcl; "": none
	logged      string   // the file that the daemon of serve logs to
	bin         string   // the program; "": this one
}

func newLoopback(t testing.TB) *loopback {
	t.Helper()
	ports, err := freePorts(4)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &loopback{t: t, ports: ports, repo: filepath.Join(dir, "site"), state: filepath.Join(dir, "state")}
	s.client = api.NewClient(filepath.Join(s.state, "api.sock"))
	if err := source.Init(s.repo); err != nil {
		t.Fatal(err)
	}
	return s
}

// command is dlreconcile with arguments, on this site.
func (s *loopback) command(args ...string) *exec.Cmd {
	config := s.config
	if config == "" {
		config = os.DevNull
	}
	args = append(args, "--repo", s.repo, "--state", s.state, "--config", config, "--poll", "1s")
	bin := s.bin
	if bin == "" {
		bin = os.Args[0]
	}
	cmd := exec.Command(bin, args...)
	if s.lab != nil {
		cmd = s.lab.Command(context.Background(), bin, args...)
	}
	cmd.Env = append(os.Environ(), asCommand+"=1")
	return cmd
}

func (s *loopback) commit(files map[string]string) string {
	s.t.Helper()
	rev, err := source.Commit(s.repo, files, "edit")
	if err != nil {
		s.t.Fatal(err)
	}
	return rev.Hash
}

// start runs a daemon that the test ends.
func (s *loopback) start() *exec.Cmd {
	s.t.Helper()
	daemon := s.command("serve")
	if err := daemon.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = daemon.Process.Kill() }) // it has ended, in good order
	return daemon
}

// serve runs the daemon, and gives its process. stop ends it, which the end of the test
// does too.
func (s *loopback) serve() (daemon *exec.Cmd, stop func()) {
	s.t.Helper()
	log, err := os.Create(filepath.Join(s.t.TempDir(), "daemon.log"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.logged = log.Name()
	daemon = s.command("serve")
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		s.t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		defer log.Close()
		if err := daemon.Process.Signal(syscall.SIGTERM); err != nil {
			s.t.Error(err)
		}
		if err := daemon.Wait(); err != nil || s.t.Failed() {
			b, _ := os.ReadFile(log.Name())
			s.t.Errorf("the daemon ends with %v; its log:\n%s", err, tail(b, 4000))
		}
	})
	s.t.Cleanup(stop)
	return daemon, stop
}

// synced waits until a revision is what the daemon serves.
func (s *loopback) synced(rev string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), applyLimit)
	defer cancel()
	var st engine.Status
	for st.Synced != rev || st.Phase != engine.PhaseIdle {
		got, err := s.client.Status(ctx, st.Seq)
		switch {
		case err == nil && got.Failure != nil && got.Failure.Revision == rev:
			s.t.Fatalf("%s is refused: %+v", rev, got.Failure)
		case err == nil:
			st = got
		case ctx.Err() != nil:
			s.t.Fatalf("waited in vain for %s; the last status: %+v", rev, st)
		default:
			<-time.After(10 * time.Millisecond) // nobody listens yet
		}
	}
}
