package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/plan"
)

// trouble is what no machine's console may ever show.
var trouble = regexp.MustCompile(`WRITER ERROR|I/O error|EXT4-fs error|Buffer I/O|Kernel panic|Remounting filesystem read-only|FAILED$`)

// healthy fails the test when a console shows trouble.
func healthy(t *testing.T, m *lab.Machine) {
	t.Helper()
	for _, line := range strings.Split(m.Console(), "\n") {
		if trouble.MatchString(line) {
			t.Errorf("%s: console says: %s", m.Name(), line)
		}
	}
}

// writes waits until the writer on m has done rounds more rounds from now on, each
// of them on the image that marker names.
func (s *site) writes(m *lab.Machine, marker string, rounds int) {
	s.t.Helper()
	mark := m.ConsoleMark()
	ok := `WRITER ok (\d+) ` + marker
	first := round(s.t, s.console(m, mark, ok), ok)
	s.console(m, mark, fmt.Sprintf(`WRITER ok %d %s`, first+rounds, marker))
	healthy(s.t, m)
}

// bootsTo boots a machine to userland and its first writes on the image that marker
// names, and holds all that it got against what explain says.
func (s *site) bootsTo(name string, last byte, marker string) *lab.Machine {
	s.t.Helper()
	capture, err := s.lab.Capture(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	m := s.boot(name, last)
	s.writes(m, marker, 2)
	s.phoned(macOf(last), "userland", 1)
	s.equalsWire(capture, name, last)
	s.showTimeline(last)
	return m
}

func round(t *testing.T, line, pattern string) int {
	t.Helper()
	n, err := strconv.Atoi(regexp.MustCompile(pattern).FindStringSubmatch(line)[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The whole path, with machines that keep running through all of it: two commits,
// a rollback with and without the repo, and a daemon that is killed.
func TestE2EOneMachineTwoCommits(t *testing.T) {
	s := newSite(t, siteFiles("commit-one"))
	s.withImages()
	rev1 := s.commit(nil, "same files, another commit")
	s.start()
	gen1 := s.applied(rev1).Generation

	a := s.bootsTo("a", machineA, "commit-one")
	leases := s.leases()

	sockets := s.listeners()
	if len(sockets) < 4 {
		t.Fatalf("the daemon listens on %v, want DHCP, TFTP, HTTP and NBD at least", sockets)
	}

	// Commit 2 changes the image. The plan, made from the work tree before the
	// commit, says what that means for A.
	if err := os.WriteFile(s.repo+"/site.hcl", []byte(siteHCL("commit-two")), 0o644); err != nil {
		t.Fatal(err)
	}
	text := s.must("plan")
	t.Logf("plan:\n%s", text)
	for _, want := range []string{"image.disk", "until it reboots", `host.pc["a"]`, "(known after build)"} {
		if !strings.Contains(text, want) {
			t.Errorf("the plan does not say %q", want)
		}
	}
	planned := s.planned()
	rev2 := s.commit(siteFiles("commit-two"), "another marker")
	st := s.applied(rev2)
	if st.Generation == gen1 {
		t.Fatalf("generation is still %d after another image", gen1)
	}
	if got, want := s.appliedChanges(), planned; !cmp.Equal(got, want) {
		t.Errorf("applied is not what was planned (-planned +applied):\n%s", cmp.Diff(want, got))
	}
	if again := s.must("plan"); !strings.Contains(again, "No changes") {
		t.Errorf("a second plan shows changes:\n%s", again)
	}
	if again := s.must("apply", "--auto-approve"); !strings.Contains(again, "No changes") {
		t.Errorf("a second apply shows changes:\n%s", again)
	}
	if now, err := s.client.Status(s.ctx, 0); err != nil || now.Generation != st.Generation {
		t.Errorf("generation %d after a second apply (%v), want %d still", now.Generation, err, st.Generation)
	}

	// A runs on, on the old bytes; B boots the new ones.
	s.writes(a, "commit-one", 3)
	b := s.bootsTo("b", machineB, "commit-two")
	if diff := cmp.Diff(sockets, s.listeners()); diff != "" {
		t.Errorf("listening sockets changed with the commit (-before +after):\n%s", diff)
	}

	// The daemon dies, for one second and for ten, while A and B write.
	for _, gap := range []time.Duration{time.Second, 10 * time.Second} {
		before := s.answers()
		s.kill9()
		<-time.After(gap) // the outage itself is what is tested
		s.start()
		s.writes(a, "commit-one", 3)
		s.writes(b, "commit-two", 3)
		if diff := cmp.Diff(before, s.answers()); diff != "" {
			t.Errorf("answers differ after %s of kill -9 (-before +after):\n%s", gap, diff)
		}
		for mac, addr := range leases {
			if got := s.leases()[mac]; got != addr {
				t.Errorf("the lease of %s was %s, and is %q after %s of kill -9", mac, addr, got, gap)
			}
		}
		t.Logf("%s of kill -9: both machines write on, no error", gap)
	}

	// Roll back with the repo gone.
	b.Kill()
	gone := s.repo + ".gone"
	if err := os.Rename(s.repo, gone); err != nil {
		t.Fatal(err)
	}
	t.Logf("rollback:\n%s", s.must("rollback"))
	st = s.waitStatus("held", func(st engine.Status) bool { return st.Held != nil && st.RepoError != "" })
	if st.Revision != rev1 || st.Held.Revision != rev2 {
		t.Errorf("rolled back to %s holding %s, want %s holding %s", st.Revision, st.Held.Revision, rev1, rev2)
	}
	// With the repo back, three polls change nothing.
	if err := os.Rename(gone, s.repo); err != nil {
		t.Fatal(err)
	}
	s.polls(3)
	c := s.bootsTo("c", machineC, "commit-one")
	s.writes(a, "commit-one", 1)
	if st, _ := s.client.Status(s.ctx, 0); st.Revision != rev1 {
		t.Errorf("serving %s after the rollback and three polls, want %s", st.Revision, rev1)
	}

	// A shuts down in good order.
	if err := a.Powerdown(s.ctx); err != nil {
		t.Fatal(err)
	}
	if err := a.Wait(s.ctx); err != nil {
		t.Errorf("A did not power off cleanly: %v", err)
	}
	healthy(t, a)
	healthy(t, c)

	// Release follows the tip again.
	s.must("release")
	s.waitStatus("the tip again", func(st engine.Status) bool { return st.Revision == rev2 && st.Held == nil })
}

// A read-only root with an overlay in memory, for a host with a loader of its own.
func TestE2ESquashfsOverlay(t *testing.T) {
	s := newSite(t, siteFiles("commit-one"))
	s.withImages()
	s.start()
	s.applied(s.commit(nil, "go"))
	d := s.bootsTo("d", machineD, "squashfs")
	s.kill9()
	s.start()
	s.writes(d, "squashfs", 3)
	healthy(t, d)
}

// planned gives what `plan --json` says would change.
func (s *site) planned() []string { return changes(s.plan("plan", "--json")) }

func changes(p *plan.Plan) []string {
	var list []string
	for _, c := range p.Changes {
		list = append(list, fmt.Sprintf("%s %s %s", c.Action, c.Address, c.Reason))
	}
	slices.Sort(list)
	return list
}
