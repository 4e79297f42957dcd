package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/node"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/examples"
)

// Deadlines of the demo; a slow machine is slow, not broken.
const (
	demoBoot  = 8 * time.Minute
	demoApply = 10 * time.Minute
)

// demoGreeting is what the machine's console shows of the commit it runs.
var demoGreeting = regexp.MustCompile(`This machine has no disk: commit (\d)`)

func demoIssue(commit int) string {
	return fmt.Sprintf("This machine has no disk: commit %d\n\n", commit)
}

func (d *demo) withMachines(ctx context.Context) (err error) {
	if os.Getuid() != 0 {
		return errors.New("the demo boots a machine in a network namespace, which needs root; `dlreconcile demo --no-vm` does without")
	}
	if missing := lab.Missing(lab.BIOS); len(missing) > 0 {
		return fmt.Errorf("the demo needs packages that are not installed; install them with: %s", lab.InstallCommand(missing))
	}
	d.step("A Git repo with one commit: the desired state of one Debian machine")
	first, err := d.firstCommit()
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "%s/site.hcl, commit %s\n", d.repo(), short(first.Hash))

	d.step("Build its image: Debian, from this machine's own package sources (a few minutes, once)")
	if err := d.buildImage(ctx); err != nil {
		return err
	}

	d.step("Serve it inside a private network")
	l, err := lab.New(ctx, lab.Config{Name: "demo", Dir: d.dir + "/lab"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	fmt.Fprintf(d.out, "$ ip netns exec %s dlreconcile serve --repo %s\n", l.Namespace(), d.repo())
	daemon, err := d.serve(ctx, l.Command(ctx, executable(), "serve", "--repo", d.repo(), "--state", d.state(), "--config", os.DevNull, "--poll", "5s"), first.Hash)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, daemon.stop()) }()

	d.step("Power on a machine without a disk; its firmware boots from the network")
	m, err := d.bootTo(ctx, l, daemon.client, "first", 1, 1)
	if err != nil {
		return err
	}

	d.step("Commit a change of the image, and see the plan before it is served")
	if err := os.WriteFile(d.repo()+"/issue", []byte(demoIssue(2)), 0o644); err != nil {
		return err
	}
	if err := d.tell(ctx, "plan"); err != nil {
		return err
	}
	second, err := source.Commit(d.repo(), map[string]string{"issue": demoIssue(2)}, "greet from commit 2")
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "\n$ git commit -am \"greet from commit 2\"\n%s\n\nThe daemon sees it, builds what changed, and serves it:\n", short(second.Hash))
	if err := d.waitSynced(ctx, daemon, second.Hash); err != nil {
		return err
	}
	if err := d.tell(ctx, "status"); err != nil {
		return err
	}

	d.step("The machine that is up keeps its image; another one boots the new one")
	m2, err := d.bootTo(ctx, l, daemon.client, "second", 2, 2)
	if err != nil {
		return err
	}
	if err := d.tell(ctx, "nodes"); err != nil {
		return err
	}

	d.step("Both shut down in good order")
	for _, m := range []*lab.Machine{m, m2} {
		if err := d.powerOff(ctx, m); err != nil {
			return err
		}
	}
	fmt.Fprintln(d.out, "\nTwo commits, two boots, and nothing was restarted.")
	return nil
}

// firstCommit makes the repo from the quickstart example, with a greeting that the
// console shows.
func (d *demo) firstCommit() (source.Revision, error) {
	if err := source.Init(d.repo()); err != nil {
		return source.Revision{}, err
	}
	site, err := examples.FS.ReadFile("quickstart/site.hcl")
	if err != nil {
		return source.Revision{}, err
	}
	return source.Commit(d.repo(), map[string]string{"site.hcl": string(site), "issue": demoIssue(1)}, "one Debian machine")
}

// buildImage builds outside the private network, which has no way to any mirror.
func (d *demo) buildImage(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, executable(), "image", "build", "--repo", d.repo(), "--state", d.state(), "--config", os.DevNull)
	cmd.Stdout, cmd.Stderr = d.out, d.err
	return cmd.Run()
}

func executable() string {
	if exe, err := os.Executable(); err == nil {
		return exe
	}
	return os.Args[0]
}

// demoDaemon is a running `dlreconcile serve` of the demo.
type demoDaemon struct {
	client *api.Client
	cmd    *exec.Cmd
	log    *os.File
	exited chan struct{} // closed when err is set
	err    error         // how it ended
}

// launch starts cmd as the demo's daemon.
func (d *demo) launch(cmd *exec.Cmd) (*demoDaemon, error) {
	log, err := os.Create(d.dir + "/daemon.log")
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	s := &demoDaemon{client: api.NewClient(d.state() + "/api.sock"), cmd: cmd, log: log, exited: make(chan struct{})}
	go func() {
		defer close(s.exited)
		s.err = cmd.Wait()
	}()
	return s, nil
}

// serve launches the daemon, waits until it serves rev, and shows its status. After an
// error no daemon runs.
func (d *demo) serve(ctx context.Context, cmd *exec.Cmd, rev string) (*demoDaemon, error) {
	daemon, err := d.launch(cmd)
	if err != nil {
		return nil, err
	}
	if err = d.waitSynced(ctx, daemon, rev); err == nil {
		err = d.tell(ctx, "status")
	}
	if err != nil {
		return nil, errors.Join(err, daemon.stop())
	}
	return daemon, nil
}

// stop ends the daemon in good order and waits for it.
func (s *demoDaemon) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended: err says how
	<-s.exited
	return errors.Join(s.err, s.log.Close())
}

// ended says how the daemon ended, with the last of its log.
func (s *demoDaemon) ended() error {
	b, err := os.ReadFile(s.log.Name())
	return errors.Join(fmt.Errorf("the daemon ended: %v\n%s", s.err, b[max(0, len(b)-2000):]), err)
}

// waitSynced waits until rev is served, and fails when it is refused.
func (d *demo) waitSynced(ctx context.Context, daemon *demoDaemon, rev string) error {
	ctx, cancel := context.WithTimeout(ctx, demoApply)
	defer cancel()
	line := d.progressLine()
	var seq uint64
	for {
		s, err := daemon.client.Status(ctx, seq)
		switch {
		case err == nil:
			seq = s.Seq
			for _, p := range s.Progress {
				if line != nil {
					line(p)
				}
			}
			if s.Failure != nil && s.Failure.Revision == rev {
				return fmt.Errorf("revision %s: %w", short(rev), s.Failure)
			}
			if s.Synced == rev {
				return nil
			}
		case errors.Is(err, api.ErrNoDaemon) && ctx.Err() == nil:
			// It is still starting.
			select {
			case <-time.After(50 * time.Millisecond):
			case <-daemon.exited:
				return daemon.ended()
			}
		default:
			return err
		}
	}
}

// tell runs a command and shows it with its output.
func (d *demo) tell(ctx context.Context, args ...string) error {
	out, err := d.invoke(ctx, args...)
	if err != nil {
		return err
	}
	d.show("dlreconcile "+strings.Join(args, " "), out)
	return nil
}

// bootTo boots a machine until its console greets from the commit, and prints how
// the boot went.
func (d *demo) bootTo(ctx context.Context, l *lab.Lab, client *api.Client, name string, last byte, commit int) (*lab.Machine, error) {
	ctx, cancel := context.WithTimeout(ctx, demoBoot)
	defer cancel()
	mac := provider.MAC{0x52, 0x54, 0, 0, 0, last}
	m, err := l.Machine(ctx, lab.MachineConfig{Name: name, MAC: mac, Memory: 512})
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(d.out, "machine %q, %s, 512 MiB of memory, no disk\n", name, mac)
	line, err := m.WaitConsole(ctx, demoGreeting)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(d.out, "its console says: %s\n", strings.TrimSpace(line))
	if got := demoGreeting.FindStringSubmatch(line)[1]; got != fmt.Sprint(commit) {
		return nil, fmt.Errorf("machine %q runs commit %s, want commit %d", name, got, commit)
	}
	if err := d.waitUserland(ctx, client, mac); err != nil {
		return nil, err
	}
	return m, d.tell(ctx, "nodes", mac.String())
}

// waitUserland waits for the machine's own word that it is up.
func (d *demo) waitUserland(ctx context.Context, client *api.Client, mac provider.MAC) error {
	done := errors.New("up")
	err := client.Events(ctx, 0, func(raw json.RawMessage) error {
		var ev node.Logged
		if err := json.Unmarshal(raw, &ev); err != nil {
			return err
		}
		if ev.Kind == provider.EventPhone && ev.MAC == mac && ev.Name == "userland" {
			return done
		}
		return nil
	})
	if errors.Is(err, done) {
		return nil
	}
	return errors.Join(fmt.Errorf("%s never reported that it is up", mac), err)
}

func (d *demo) powerOff(ctx context.Context, m *lab.Machine) error {
	ctx, cancel := context.WithTimeout(ctx, demoBoot)
	defer cancel()
	if err := m.Powerdown(ctx); err != nil {
		return err
	}
	return m.Wait(ctx)
}
