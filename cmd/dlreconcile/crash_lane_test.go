package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/source"
)

// crashLane is a place where one daemon after the other runs and is made to fail:
// a repo behind git's own HTTP server, ports, and a state directory that is copied
// into place for each run.
type crashLane struct {
	t      testing.TB
	dir    string
	bin    string // dlreconcile with failpoints
	ports  []int
	client *api.Client
	url    string // of the repo
	gate   gate
	points *pointLog
	runs   int
}

// gate keeps the repo from answering until it is opened: the daemon waits for its
// tip, and nobody has to guess when it looks next.
type gate struct {
	mu sync.Mutex
	c  chan struct{} // closed while the gate is open
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.c = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.c:
	default:
		close(g.c)
	}
}

func (g *gate) wait(ctx context.Context) {
	g.mu.Lock()
	c := g.c
	g.mu.Unlock()
	select {
	case <-c:
	case <-ctx.Done():
	}
}

const gitBackend = "/usr/lib/git-core/git-http-backend"

func newCrashLane(t testing.TB, bin string) *crashLane {
	t.Helper()
	ports, err := freePorts(6)
	if err != nil {
		t.Fatal(err)
	}
	l := &crashLane{t: t, dir: t.TempDir(), bin: bin, ports: ports}
	l.client = api.NewClient(filepath.Join(l.state(), "api.sock"))
	l.gate.shut()
	l.gate.open()
	if err := source.Init(l.repo()); err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{Path: gitBackend, Env: []string{
		"GIT_PROJECT_ROOT=" + l.dir, "GIT_HTTP_EXPORT_ALL=1", "PATH=" + os.Getenv("PATH"), "GIT_CONFIG_COUNT=1",
		"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.gate.wait(r.Context())
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { l.gate.open(); srv.CloseClientConnections(); srv.Close() })
	l.url = srv.URL + "/site/.git"
	if err := l.configure(); err != nil {
		t.Fatal(err)
	}
	if l.points, err = newPointLog(filepath.Join(l.dir, "points")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.points.close)
	return l
}

func (l *crashLane) config() string          { return filepath.Join(l.dir, "daemon.hcl") }
func (l *crashLane) state() string           { return filepath.Join(l.dir, "state") }
func (l *crashLane) repo() string            { return filepath.Join(l.dir, "site") }
func (l *crashLane) base(name string) string { return filepath.Join(l.dir, "base-"+name) }

func (l *crashLane) commit(files map[string]string) {
	l.t.Helper()
	if _, err := source.Commit(l.repo(), files, "edit"); err != nil {
		l.t.Fatal(err)
	}
}

// keep makes the state directory as it is the base of that name, restore the other
// way round. Sealed files are linked: nobody writes them.
func (l *crashLane) keep(name string)    { l.copyState(l.state(), l.base(name)) }
func (l *crashLane) restore(name string) { l.copyState(l.base(name), l.state()) }

func (l *crashLane) copyState(from, to string) {
	l.t.Helper()
	err := os.RemoveAll(to)
	if err == nil {
		err = filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(from, path)
			if err != nil {
				return err
			}
			dst := filepath.Join(to, rel)
			switch {
			case d.IsDir():
				return os.MkdirAll(dst, 0o755)
			case d.Type() == os.ModeSocket:
				return nil // no file has it any more
			case strings.HasPrefix(rel, "blobs"+string(filepath.Separator)):
				return os.Link(path, dst)
			}
			return copySparse(path, dst)
		})
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// copySparse leaves holes where a file has them: overlays are mostly holes.
func copySparse(from, to string) error {
	return exec.Command("cp", "--sparse=always", "--preserve=mode", from, to).Run()
}

// command is the program with failpoints on this lane. spec is what is to happen.
func (l *crashLane) command(spec string, args ...string) *exec.Cmd {
	cmd := exec.Command(l.bin, append(args, "--repo", l.url, "--state", l.state(), "--config", l.config(), "--poll", "1h")...)
	cmd.Env = append(os.Environ(), "DLRECONCILE_TEST_HURRY=1", "DLRECONCILE_FAILPOINT="+spec)
	return cmd
}

// crashDaemon is one process of a lane.
type crashDaemon struct {
	lane   *crashLane
	cmd    *exec.Cmd
	log    string
	exited chan struct{} // closed when it is gone, and all of its points are read
}

// crashLimit only guards against hanging.
const crashLimit = time.Minute

func (l *crashLane) start(spec string) *crashDaemon {
	l.t.Helper()
	l.runs++
	l.points.clear()
	d := &crashDaemon{lane: l, cmd: l.command(spec, "serve"), log: filepath.Join(l.dir, fmt.Sprintf("daemon%d.log", l.runs)), exited: make(chan struct{})}
	d.cmd.Env = append(d.cmd.Env, "DLRECONCILE_FAILPOINT_LOG="+l.points.path)
	log, err := os.Create(d.log)
	if err != nil {
		l.t.Fatal(err)
	}
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	go func() {
		defer close(d.exited)
		_ = d.cmd.Wait() // how it ended is in its state
		log.Close()
		l.points.drain()
	}()
	return d
}

func (d *crashDaemon) dead() bool {
	select {
	case <-d.exited:
		return true
	default:
		return false
	}
}

// context ends with the daemon.
func (d *crashDaemon) context() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), crashLimit)
	go func() {
		select {
		case <-d.exited:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// passes waits until the daemon has come past a point so many times, or has ended.
// That it does neither is an error.
func (d *crashDaemon) passes(point string, times int) error {
	ctx, cancel := d.context()
	defer cancel()
	if d.lane.points.wait(ctx, point, times) || d.dead() {
		return nil
	}
	return fmt.Errorf("waited in vain for %s", point)
}

func (d *crashDaemon) tail() []byte {
	b, _ := os.ReadFile(d.log)
	return tail(b, 3000)
}

// killed reports whether it ended by SIGKILL.
func (d *crashDaemon) killed() bool {
	st, ok := d.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && st.Signaled() && st.Signal() == syscall.SIGKILL
}

// end ends it in good order.
func (d *crashDaemon) end() error {
	if d.dead() {
		return fmt.Errorf("the daemon ended by itself: %v; its log:\n%s", d.cmd.ProcessState, d.tail())
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.exited:
	case <-time.After(crashLimit):
		d.cmd.Process.Kill()
		<-d.exited
		return errors.New("the daemon does not end")
	}
	if !d.cmd.ProcessState.Success() {
		return fmt.Errorf("the daemon ends with %v; its log:\n%s", d.cmd.ProcessState, d.tail())
	}
	return nil
}

// explainAll gives every answer of the daemon, a line for each machine.
func (d *crashDaemon) explainAll() (string, error) {
	ctx, cancel := d.context()
	defer cancel()
	var b strings.Builder
	err := d.lane.client.Lines(ctx, "/v1/explain", url.Values{"all": {"1"}}, func(raw json.RawMessage) error {
		_, err := fmt.Fprintf(&b, "%s\n", raw)
		return err
	})
	if err != nil && strings.Contains(err.Error(), "nothing is applied yet") {
		return "nothing\n", nil
	}
	return b.String(), err
}

// pointLog reads the names of the points that a process comes past, as it does.
type pointLog struct {
	path string
	f    *os.File

	mu      sync.Mutex // guards the fields below
	hits    []string
	drained int
	changed chan struct{} // closed and replaced with each line
}

// pointsEnd is a line of ours, behind all that a process wrote that is gone.
const pointsEnd = "-end"

func newPointLog(path string) (*pointLog, error) {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0) // a writer of our own: it never ends
	if err != nil {
		return nil, err
	}
	p := &pointLog{path: path, f: f, changed: make(chan struct{})}
	go func() {
		for sc := bufio.NewScanner(f); sc.Scan(); {
			p.mu.Lock()
			if sc.Text() == pointsEnd {
				p.drained++
			} else {
				p.hits = append(p.hits, sc.Text())
			}
			close(p.changed)
			p.changed = make(chan struct{})
			p.mu.Unlock()
		}
	}()
	return p, nil
}

func (p *pointLog) close() { p.f.Close() }

func (p *pointLog) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hits = nil
}

// drain returns when everything that was written before has been read.
func (p *pointLog) drain() {
	p.mu.Lock()
	want := p.drained + 1
	p.mu.Unlock()
	if _, err := p.f.WriteString(pointsEnd + "\n"); err != nil {
		return
	}
	p.until(context.Background(), func() bool { return p.drained >= want })
}

func (p *pointLog) until(ctx context.Context, ok func() bool) bool {
	for {
		p.mu.Lock()
		done, changed := ok(), p.changed
		p.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

func (p *pointLog) wait(ctx context.Context, point string, times int) bool {
	return p.until(ctx, func() bool {
		n := 0
		for _, h := range p.hits {
			if h == point {
				n++
			}
		}
		return n >= times
	})
}

func (p *pointLog) count(point string) int {
	n := 0
	for _, h := range p.all() {
		if h == point {
			n++
		}
	}
	return n
}

func (p *pointLog) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.hits)
}
