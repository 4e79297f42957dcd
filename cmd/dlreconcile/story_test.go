package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/source"
)

// storyLimit only guards against hanging.
const storyLimit = 30 * time.Second

// portNames are the protocols of story.ports.
var portNames = []string{"dhcp", "tftp", "http", "nbd", "api", "webhook", "metrics", "forge"}

// story is what one script of testdata/script works on.
type story struct {
	ctx    context.Context
	ports  []int
	repo   string
	state  string
	tip    string // the newest commit
	daemon *exec.Cmd
	exited chan error
	log    *os.File
	forge  *forge
	client *walker // who asked DHCP last: files are asked for from its address
}

// end stops what still runs.
func (s *story) end() {
	if s.daemon != nil {
		_ = s.daemon.Process.Kill()
		<-s.exited
		s.daemon = nil
	}
	if s.forge != nil {
		s.forge.close()
		s.forge = nil
	}
	if s.log != nil {
		s.log.Close()
	}
}

func cmdCommit(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: commit MESSAGE DIR")
	}
	files, err := s.readTree(ts.MkAbs(args[1]))
	if err != nil {
		return err
	}
	return s.commit(ts, args[0], files)
}

// cmdCommitRoot commits the site of the demo, with an image: commit-root MESSAGE N.
func cmdCommitRoot(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 2 || len(args[1]) != 1 {
		return errors.New("usage: commit-root MESSAGE N")
	}
	files, err := loopbackSite(s.ports, int(args[1][0]-'0'))
	if err != nil {
		return err
	}
	return s.commit(ts, args[0], files)
}

// cmdLayRoot puts the files of commit-root into the work tree only.
func cmdLayRoot(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 1 || len(args[0]) != 1 {
		return errors.New("usage: lay-root N")
	}
	files, err := loopbackSite(s.ports, int(args[0][0]-'0'))
	if err != nil {
		return err
	}
	return s.lay(files)
}

func (s *story) commit(ts *testscript.TestScript, message string, files map[string]string) error {
	if _, err := os.Stat(s.repo); errors.Is(err, os.ErrNotExist) {
		if err := source.Init(s.repo); err != nil {
			return err
		}
	}
	rev, err := source.Commit(s.repo, files, message)
	if err != nil {
		return err
	}
	s.tip = rev.Hash
	ts.Setenv("TIP", rev.Hash)
	ts.Setenv("SHORT", short(rev.Hash))
	return nil
}

func cmdLay(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: lay DIR")
	}
	files, err := s.readTree(ts.MkAbs(args[0]))
	if err != nil {
		return err
	}
	return s.lay(files)
}

func (s *story) lay(files map[string]string) error {
	for name, content := range files {
		path := filepath.Join(s.repo, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func cmdServe(s *story, ts *testscript.TestScript, args []string) error {
	if s.daemon != nil {
		return errors.New("a daemon runs already")
	}
	var err error
	if s.log == nil {
		if s.log, err = os.Create(ts.MkAbs("daemon.log")); err != nil {
			return err
		}
	}
	cmd := exec.Command(os.Args[0], append([]string{"serve"}, args...)...)
	cmd.Env = os.Environ()
	for _, name := range []string{asCommand, "DLRECONCILE_CONFIG", "DLRECONCILE_REPO", "DLRECONCILE_STATE", "DLRECONCILE_POLL", "CREDENTIALS_DIRECTORY"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	cmd.Dir = ts.MkAbs(".")
	cmd.Stdout, cmd.Stderr = s.log, s.log
	if err := cmd.Start(); err != nil {
		return err
	}
	s.daemon, s.exited = cmd, make(chan error, 1)
	go func() { s.exited <- cmd.Wait() }()
	_, err = s.wait("a daemon that answers", func(st engine.Status) bool { return st.Phase != engine.PhaseStarting })
	return err
}

func cmdEnd(s *story, _ *testscript.TestScript, _ []string) error {
	if s.daemon == nil {
		return errors.New("no daemon runs")
	}
	if err := s.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := <-s.exited
	s.daemon = nil
	if err != nil {
		return fmt.Errorf("the daemon ends with %w: %s", err, s.logged())
	}
	return nil
}

func cmdKill9(s *story, _ *testscript.TestScript, _ []string) error {
	if s.daemon == nil {
		return errors.New("no daemon runs")
	}
	if err := s.daemon.Process.Kill(); err != nil {
		return err
	}
	<-s.exited
	s.daemon = nil
	return nil
}

// logged is the end of the daemon's log.
func (s *story) logged() string {
	b, _ := os.ReadFile(s.log.Name())
	return string(tail(b, 4000))
}

// wait follows the daemon's status until it satisfies ok.
func (s *story) wait(what string, ok func(engine.Status) bool) (engine.Status, error) {
	ctx, cancel := context.WithTimeout(s.ctx, storyLimit)
	defer cancel()
	client := api.NewClient(filepath.Join(s.state, "api.sock"))
	var st engine.Status
	for {
		got, err := client.Status(ctx, st.Seq)
		switch {
		case err == nil && ok(got):
			return got, nil
		case err == nil:
			st = got
		case ctx.Err() != nil:
			return st, fmt.Errorf("waited in vain for %s; the last status: %+v; the log: %s", what, st, s.logged())
		default:
			select { // nobody listens yet, or no more
			case err := <-s.exited:
				s.daemon = nil
				return st, fmt.Errorf("waiting for %s: the daemon ended: %v: %s", what, err, s.logged())
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

func (s *story) isRefused(st engine.Status) bool {
	return st.Failure != nil && st.Failure.Revision == s.tip
}

func cmdWaitApplied(s *story, _ *testscript.TestScript, _ []string) error {
	st, err := s.wait("the newest commit to be served", func(st engine.Status) bool {
		// Before the first look is over, that is only what is recorded.
		return st.Polls > 0 && st.Synced == s.tip && st.Phase == engine.PhaseIdle && st.Held == nil && st.Failure == nil || s.isRefused(st)
	})
	if err == nil && st.Failure != nil {
		err = fmt.Errorf("it is refused: %+v", st.Failure)
	}
	return err
}

func cmdWaitRefused(s *story, _ *testscript.TestScript, _ []string) error {
	_, err := s.wait("the newest commit to be refused", s.isRefused)
	return err
}

func cmdWaitStatus(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: wait-status TEXT")
	}
	_, err := s.wait("a status with "+args[0], func(st engine.Status) bool {
		var b strings.Builder
		printStatus(&b, &st)
		return strings.Contains(b.String(), args[0])
	})
	return err
}
