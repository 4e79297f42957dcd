package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/node"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/engine/source"
)

// asCommand makes this test binary behave as dlreconcile itself, so that tests run
// the real thing as a process of its own: killed, restarted, and in a network
// namespace.
const asCommand = "DLRECONCILE_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if dir := os.Getenv(confinedTo); dir != "" {
		panic(confine(dir, os.Args[1:]))
	}
	if os.Getenv(asCommand) != "" {
		if at := os.Getenv(gaugesAt); at != "" {
			if err := showGauges(at); err != nil {
				panic(err)
			}
		}
		main()
		return
	}
	code := m.Run()
	if images.dir != "" {
		os.RemoveAll(images.dir)
	}
	os.Exit(code)
}

// Deadlines only guard against hanging: a loaded machine is three times slower
// than an idle one.
const (
	bootLimit  = 6 * time.Minute
	applyLimit = 4 * time.Minute
	cliLimit   = 2 * time.Minute
)

// site is one daemon with its repo, state directory and network.
type site struct {
	t      *testing.T
	ctx    context.Context
	lab    *lab.Lab
	repo   string
	state  string
	client *api.Client
	daemon *exec.Cmd
	exited chan error
	log    *os.File
}

// newSite makes a network, and a repo with one commit of files. Nothing serves yet.
func newSite(t *testing.T, files map[string]string) *site {
	t.Helper()
	needLab(t)
	ctx, cancel := context.WithCancel(context.Background())
	dir := t.TempDir()
	s := &site{t: t, ctx: ctx, repo: filepath.Join(dir, "site"), state: filepath.Join(dir, "state")}
	l, err := lab.New(ctx, lab.Config{Name: "e2e", Dir: filepath.Join(dir, "lab")})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	s.lab = l
	s.client = api.NewClient(filepath.Join(s.state, "api.sock"))
	if s.log, err = os.Create(filepath.Join(dir, "daemon.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.stop()
		if err := l.Close(); err != nil {
			t.Errorf("lab: %v", err)
		}
		cancel()
		if t.Failed() {
			b, _ := os.ReadFile(s.log.Name())
			t.Logf("the daemon's log:\n%s", tail(b, 12000))
		}
		s.log.Close()
	})
	if err := source.Init(s.repo); err != nil {
		t.Fatal(err)
	}
	s.commit(files, "first")
	return s
}

func needLab(t *testing.T) {
	t.Helper()
	providertest.NeedRoot(t)
	providertest.Need(t, "ip", "qemu-system-x86_64", "mmdebstrap", "mke2fs", "mksquashfs")
	if missing := lab.Missing(lab.BIOS); len(missing) > 0 {
		providertest.Need(t, missing...)
	}
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// commit writes files into the repo and commits them; a nil map commits nothing new.
func (s *site) commit(files map[string]string, message string) string {
	s.t.Helper()
	rev, err := source.Commit(s.repo, files, message)
	if err != nil {
		s.t.Fatal(err)
	}
	return rev.Hash
}

// command is dlreconcile with arguments, in the lab's namespace or outside.
func (s *site) command(inLab bool, args ...string) *exec.Cmd {
	args = append(args, "--repo", s.repo, "--state", s.state, "--config", os.DevNull, "--poll", "1s")
	var cmd *exec.Cmd
	if inLab {
		cmd = s.lab.Command(s.ctx, os.Args[0], args...)
	} else {
		cmd = exec.CommandContext(s.ctx, os.Args[0], args...)
	}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, asCommand+"=1")
	return cmd
}

// start runs the daemon and waits until it serves what is recorded.
func (s *site) start() {
	s.t.Helper()
	cmd := s.command(true, "serve")
	cmd.Stderr = s.log
	cmd.Stdout = s.log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.daemon, s.exited = cmd, make(chan error, 1)
	go func() { s.exited <- cmd.Wait() }()
	s.waitStatus("the daemon is up", func(st engine.Status) bool { return st.Phase != engine.PhaseStarting })
}

// kill9 ends the daemon as a power cut would, and waits until it is gone.
func (s *site) kill9() {
	s.t.Helper()
	if err := s.daemon.Process.Signal(syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	<-s.exited
	s.daemon = nil
}

// stop ends the daemon in good order, if one runs.
func (s *site) stop() {
	if s.daemon == nil {
		return
	}
	s.daemon.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-s.exited:
		if err != nil {
			s.t.Errorf("the daemon ended with %v", err)
		}
	case <-time.After(time.Minute):
		s.t.Error("the daemon did not end within a minute of SIGTERM")
		s.daemon.Process.Kill()
		<-s.exited
	}
	s.daemon = nil
}

// waitStatus follows the daemon's status until it satisfies ok.
func (s *site) waitStatus(what string, ok func(engine.Status) bool) engine.Status {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, applyLimit)
	defer cancel()
	var st engine.Status
	var seq uint64
	for {
		got, err := s.client.Status(ctx, seq)
		switch {
		case err == nil:
			if st, seq = got, got.Seq; ok(st) {
				return st
			}
		case ctx.Err() != nil:
			b, _ := json.MarshalIndent(st, "", "  ")
			s.t.Fatalf("waited in vain for: %s\nlast status: %s", what, b)
		default:
			// No daemon listens yet. It may also be one that died.
			select {
			case err := <-s.exited:
				s.t.Fatalf("waiting for %s: the daemon ended: %v", what, err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}

// applied waits until rev is what is served.
func (s *site) applied(rev string) engine.Status {
	s.t.Helper()
	st := s.waitStatus("revision "+short(rev)+" applied", func(st engine.Status) bool {
		return st.Synced == rev && st.Phase == engine.PhaseIdle || st.Failure != nil && st.Failure.Revision == rev
	})
	if st.Failure != nil {
		s.t.Fatalf("revision %s was refused: %+v", short(rev), st.Failure)
	}
	return st
}

// run runs a command line against the site and gives its output and exit code.
func (s *site) run(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	return runCommand(s.t, s.command(true, args...))
}

func runCommand(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must is run for commands that must succeed.
func (s *site) must(args ...string) string {
	s.t.Helper()
	out, errs, code := s.run(args...)
	if code != 0 {
		s.t.Fatalf("dlreconcile %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// boot starts a machine that boots from the network.
func (s *site) boot(name string, last byte) *lab.Machine {
	s.t.Helper()
	m, err := s.lab.Machine(s.ctx, lab.MachineConfig{Name: name, MAC: macOf(last), Memory: 512})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("the console of %s:\n%s", name, tail([]byte(m.Console()), 6000))
		}
	})
	return m
}

func macOf(last byte) provider.MAC { return provider.MAC{0x52, 0x54, 0, 0, 0, last} }

// console waits for a line on a machine's console, from mark on.
func (s *site) console(m *lab.Machine, mark int, re string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, bootLimit)
	defer cancel()
	line, err := m.WaitConsoleFrom(ctx, mark, regexp.MustCompile(re))
	if err != nil {
		s.t.Fatalf("%s: waiting for %q: %v", m.Name(), re, err)
	}
	return line
}

// node gives what the daemon knows of a machine.
func (s *site) node(mac provider.MAC) (node.Node, bool) {
	s.t.Helper()
	var list []node.Node
	if err := s.client.Get(s.ctx, "/v1/nodes", nil, &list); err != nil {
		s.t.Fatal(err)
	}
	for _, n := range list {
		if n.MAC == mac {
			return n, true
		}
	}
	return node.Node{}, false
}

// errFound ends a walk over events.
var errFound = errors.New("found")

// event waits for an event that satisfies ok, from the first one on.
func (s *site) event(what string, ok func(node.Logged) bool) node.Logged {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, bootLimit)
	defer cancel()
	var found node.Logged
	err := s.client.Events(ctx, 0, func(raw json.RawMessage) error {
		var ev node.Logged
		if err := json.Unmarshal(raw, &ev); err != nil {
			return err
		}
		if ok(ev) {
			found = ev
			return errFound
		}
		return nil
	})
	if !errors.Is(err, errFound) {
		s.t.Fatalf("waiting for %s: %v", what, err)
	}
	return found
}

// phoned waits until a machine has reported a stage for the nth time.
func (s *site) phoned(mac provider.MAC, stage string, n int) {
	s.t.Helper()
	s.event(fmt.Sprintf("%s from %s", stage, mac), func(ev node.Logged) bool {
		if ev.Kind == provider.EventPhone && ev.MAC == mac && ev.Name == stage {
			n--
		}
		return n == 0
	})
}

// listeners lists the sockets that the daemon answers on: protocol, address and inode.
func (s *site) listeners() []string {
	s.t.Helper()
	return listeners(s.t, s.daemon.Process.Pid)
}

// listeners lists the sockets that a process answers on: protocol, address and inode.
func listeners(t testing.TB, pid int) []string {
	t.Helper()
	own := map[string]bool{}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(fds) == 0 {
		t.Fatalf("no descriptors of process %d: %v", pid, err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil {
			if inode, ok := strings.CutPrefix(to, "socket:["); ok {
				own[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	var list []string
	for _, proto := range []string{"tcp", "udp", "tcp6", "udp6", "raw6", "packet"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, proto))
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(b), "\n")[1:] {
			f := strings.Fields(line)
			if len(f) < 10 {
				if proto == "packet" && len(f) >= 9 && own[f[8]] {
					list = append(list, "packet "+f[8])
				}
				continue
			}
			const listening, unconnected = "0A", "07"
			if own[f[9]] && (f[3] == listening || f[3] == unconnected) {
				list = append(list, proto+" "+f[1]+" "+f[9])
			}
		}
	}
	slices.Sort(list)
	return list
}

// images holds the state directory whose content store all boot tests share: a
// base system is fetched from Debian once.
var images struct {
	once sync.Once
	dir  string
	err  error
}

// withImages fills the site's content store, before the daemon starts, with every
// image that its repo wants; bases that another test has fetched are reused.
func (s *site) withImages() {
	s.t.Helper()
	images.once.Do(func() { images.dir, images.err = os.MkdirTemp("", "dlreconcile-images-") })
	if images.err != nil {
		s.t.Fatal(images.err)
	}
	started := time.Now()
	args := []string{"image", "build", "--repo", s.repo, "--state", images.dir, "--config", os.DevNull}
	cmd := exec.CommandContext(s.ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	out, errs, code := runCommand(s.t, cmd)
	if code != 0 {
		s.t.Fatalf("image build: exit %d\n%s%s", code, out, errs)
	}
	s.t.Logf("images ready after %.0f s:\n%s", time.Since(started).Seconds(), out)
	for _, dir := range []string{"blobs", "recipes"} {
		if err := linkTree(filepath.Join(images.dir, dir), filepath.Join(s.state, dir)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// linkTree gives dst a hard link to every file below src.
func linkTree(src, dst string) error {
	return filepath.WalkDir(src, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dst, rel)
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		if err := os.Link(path, to); err != nil && !errors.Is(err, os.ErrExist) {
			return copyFile(path, to)
		}
		return nil
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
