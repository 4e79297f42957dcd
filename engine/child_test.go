package engine

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// killAt makes the test binary be a daemon that is killed at the named moment: see
// playsChild.
const (
	killAt  = "ENGINE_TEST_KILL_AT"
	killDir = "ENGINE_TEST_KILL_DIR"
)

// killSecond is the end of the daemon when generation 2 is published.
func killSecond(gen uint64) {
	if gen == 2 {
		kill()
	}
}

func kill() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }

// playsChild reports whether this process is such a daemon; then it has been one,
// and something is wrong: it should be dead.
func playsChild() bool {
	moment := os.Getenv(killAt)
	if moment == "" {
		return false
	}
	t := &testing.T{}
	h := &house{t: t, dir: os.Getenv(killDir), repo: newRepo(), nodes: &nodes{}, journal: newJournal(), clock: &clock{}, stop: func() {}}
	h.repo.commit(site("one"))
	h.repo.commit(site("two"))
	h.open()
	switch moment {
	case "check":
		h.fakes["dhcp"].onAnswer = func(q provider.Query, list []provider.Answer) []provider.Answer {
			kill()
			return list
		}
	case "first commit":
		h.fakes["image"].onCommit = killSecond
	case "last commit":
		h.fakes["dhcp"].onCommit = killSecond
	}
	_ = h.Engine.Run(context.Background(), nil)
	return true
}

// The daemon dies between recording a generation and publishing it, or before: the
// next one serves what is recorded, all of it, without the repo.
func TestKilled(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for moment, want := range map[string]string{"check": "one", "first commit": "two", "last commit": "two"} {
		t.Run(moment, func(t *testing.T) {
			h := newHouse(t, nil)
			h.reachedOnce(site("one"))
			h.stop()

			cmd := exec.Command(exe)
			cmd.Env = append(os.Environ(), killAt+"="+moment, killDir+"="+h.dir)
			out, err := cmd.CombinedOutput()
			if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || st.Signal() != syscall.SIGKILL {
				t.Fatalf("the daemon was not killed: %v\n%s", err, out)
			}

			two := h.repo.commit(site("two"))
			h.repo.fail(os.ErrDeadlineExceeded)
			h.open()
			h.run()
			if h.served() != want {
				t.Errorf("serving %q, want %q", h.served(), want)
			}
			s, _ := h.Status()
			if wrote := want == "two"; wrote != (s.Generation == 2) || wrote != (s.Synced == two) {
				t.Errorf("%+v", s)
			}
			if want == "two" && h.servedBy(1) != "one" {
				t.Errorf("generation 1, on which machines may be booting, serves %q", h.servedBy(1))
			}
			h.repo.fail(nil)
			if s := h.reached(two); s.Generation != 2 || h.served() != "two" {
				t.Errorf("serving %q: %+v", h.served(), s)
			}
		})
	}
}

// What was recorded without a daemon, and never published, is served by the next
// start.
func TestStartServesWhatWasRecorded(t *testing.T) {
	h := newHouse(t, nil)
	h.repo.commit(site("one"))
	outcome(t)(h.ApplyOffline(t.Context(), Order{}, nil, nil))
	h.repo.away()
	h.restart()
	if h.served() != "one" {
		t.Errorf("serving %q", h.served())
	}
	if rec := h.current(); rec.Trigger != store.TriggerApply {
		t.Errorf("%+v", rec)
	}
}
