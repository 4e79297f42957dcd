package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// Somebody plants links, FIFOs and files without end in the overlays of a site, in the
// place of every folder and of every file, while the daemon is stopped and while it runs
// and the machines have their disks attached. Whatever the daemon does then, with commits
// that collect and with an operator who lists and discards, it follows no link, waits for
// nothing, and refuses those machines alone. It runs where it can write to nothing but
// the folders of this test.
func TestPlantedInOverlays(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "qemu-io", "nbdinfo", "cp")
	if os.Getenv("DLRECONCILE_TEST_FULL") == "" {
		t.Skip("it takes a while; set DLRECONCILE_TEST_FULL=1")
	}
	s := &plantedSite{fiftySite: newFiftySite(t, "planted"), canaries: filepath.Join(t.TempDir(), "canaries")}
	s.bin = confined(t, s.bin, filepath.Dir(s.dir)) // which all folders of the test are in
	if err := os.Mkdir(s.canaries, 0o755); err != nil {
		t.Fatal(err)
	}
	var stopped, running []*plantedMachine
	for _, p := range plants() {
		stopped = append(stopped, &plantedMachine{plant: p, round: "stopped", number: 1 + len(stopped)})
		running = append(running, &plantedMachine{plant: p, round: "running", number: 101 + len(running)})
	}
	all := append(stopped[:len(stopped):len(stopped)], running...)

	files := s.files(1, 1, true)
	files["site.hcl"] += s.hosts(all)
	rev := s.commit(files)
	s.run()
	s.synced(rev)
	s.base, s.image = s.sealed()
	one := &fiftyMachine{ClientNS: s.at("one", 0x31, "10.77.0.31"), name: "one", disks: map[string]*fiftyDisk{}}
	s.boot(one, 1, s.base, s.image)
	s.ill = s.at("ill", 0x99, "10.77.1.250")
	var batch strings.Builder
	for _, m := range all {
		batch.WriteString("addr add " + m.address() + "/16 dev eth0\n")
	}
	add := s.ill.Command(t.Context(), "ip", "-batch", "-")
	add.Stdin = strings.NewReader(batch.String())
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	for _, m := range stopped {
		for _, c := range s.wrote(m) {
			c.Close()
		}
	}
	s.end()
	for _, m := range stopped {
		s.put(m)
	}
	canaries := s.witness()
	s.run()
	s.synced(rev)
	for _, m := range stopped {
		s.refuses(m)
	}
	s.others(one, "what was planted while the daemon was stopped")
	s.unharmed(canaries, "while the daemon was stopped")

	held := map[*plantedMachine][]*plantedConn{}
	for _, m := range running {
		held[m] = s.wrote(m)
	}
	for _, m := range running {
		s.put(m)
	}
	canaries = s.witness()
	for _, m := range running {
		for i, export := range []string{"perhost", "perboot"} { // what they have open is theirs
			c := held[m][i]
			if err := errors.Join(c.wants(m.mark(export)), c.write(m.mark(export)), c.wants(m.mark(export)), c.Close()); err != nil {
				t.Errorf("%s: %s, which was attached: %v", m, export, err)
			}
		}
	}
	for _, m := range running {
		if m.at == "meta.json" && m.what != "folder" { // it is known, and written anew in time
			s.serves(m, "perhost", 1, m.mark("perhost"))
			continue
		}
		s.refuses(m)
	}
	s.others(one, "what was planted while it ran")
	s.unharmed(canaries, "while it ran")
	reset := func(machines []*plantedMachine) {
		for _, m := range machines {
			out, code := s.order("image", "reset", m.mac(), "--auto-approve")
			switch want := m.resets(); {
			case want != "":
				if code != exitError || !strings.Contains(out, want) {
					t.Errorf("%s: image reset: exit %d, want %q: %s", m, code, want, out)
				}
				continue
			case code != exitOK || !strings.Contains(out, "Discarded: ") || !strings.Contains(out, "perhost"):
				t.Errorf("%s: image reset: exit %d: %s", m, code, out)
			}
			if m.isFolder() || m.at == "meta.json" {
				continue // whose disk it was may not be known, and then it is refused
			}
			s.serves(m, "perhost", 2, s.image[plantedAt:plantedAt+4096])
		}
		s.others(one, "those disks were discarded")
		s.unharmed(canaries, "by image reset")
	}
	reset(running)
	s.kill()
	s.run()
	s.synced(rev)
	s.others(one, "the daemon was killed")
	reset(stopped)
	left := func() bool {
		for path := range s.below("overlays") {
			if strings.HasPrefix(path, "overlays/52-54-00-00-00-31/") && strings.Contains(path, "/perhost/data") {
				return true
			}
		}
		return false
	}
	for n := 0; n < 90 && (n < 3 || left()); n++ { // each collects
		files := s.files(1, 2+n, false)
		files["site.hcl"] += s.hosts(all)
		s.synced(s.commit(files))
	}
	if left() {
		t.Error("what nobody can come back to is not collected beside all that")
	}
	s.end()
	s.unharmed(canaries, "by a commit that removes the exports")
	s.reasons(all)
}

// order gives an order, which ends in time, and what it says on both of its outputs.
func (s *plantedSite) order(args ...string) (string, int) {
	s.t.Helper()
	cmd := s.command(args...)
	ctx, cancel := context.WithTimeout(s.t.Context(), plantedLimit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	out, errs, code := runCommand(s.t, cmd)
	if ctx.Err() != nil {
		s.t.Fatalf("%q hangs: %s%s", args, out, errs)
	}
	return out + errs, code
}

// wrote has a machine boot, and write over both exports. It gives its connections.
func (s *plantedSite) wrote(m *plantedMachine) (list []*plantedConn) {
	s.t.Helper()
	for _, export := range []string{"perhost", "perboot"} {
		c, err := s.attach(m, export, 1)
		if err == nil {
			err = c.write(m.mark(export))
		}
		if err != nil {
			s.t.Fatalf("%s: %s: %v", m, export, err)
		}
		list = append(list, c)
	}
	found, err := filepath.Glob(filepath.Join(s.state, "overlays", m.folder(), "*", "perhost"))
	if err != nil || len(found) != 1 {
		s.t.Fatalf("%s: %q, %v", m, found, err)
	}
	m.overlay = found[0]
	return list
}

// serves fails unless a boot of a machine reads that on its disk.
func (s *plantedSite) serves(m *plantedMachine, export string, boot int, want []byte) {
	s.t.Helper()
	c, err := s.attach(m, export, boot)
	if err == nil {
		err = errors.Join(c.wants(want), c.Close())
	}
	if err != nil {
		s.t.Errorf("%s: %s: %v", m, export, err)
	}
}

// refuses fails unless the boot of a machine is refused the disk that something was
// planted in, at once, and has its other one.
func (s *plantedSite) refuses(m *plantedMachine) {
	s.t.Helper()
	began := time.Now()
	c, err := s.attach(m, "perhost", 1)
	var refused *plantedRefusal
	if !errors.As(err, &refused) {
		s.t.Errorf("%s: %v after %s", m, err, time.Since(began))
		if err == nil {
			c.Close()
		}
	}
	if m.at == "machine" { // both are below it
		if c, err := s.attach(m, "perboot", 1); !errors.As(err, &refused) {
			s.t.Errorf("%s: perboot: %v", m, err)
			if err == nil {
				c.Close()
			}
		}
		return
	}
	s.serves(m, "perboot", 1, m.mark("perboot"))
}

// others fails unless a machine without plants has what it wrote, and an operator is
// answered.
func (s *plantedSite) others(one *fiftyMachine, when string) {
	s.t.Helper()
	s.again([]*fiftyMachine{one}, when)
	for _, d := range one.disks {
		ctx, cancel := context.WithTimeout(s.t.Context(), plantedLimit)
		out, err := nbdRun(s.t, one.Command(ctx, "nbdinfo", "--no-content", clearURI+d.name(one.boots)))
		cancel()
		if err != nil || !strings.Contains(out, "export-size: 16777216") {
			s.t.Errorf("%s: nbdinfo: %v: %s", when, err, out)
		}
	}
	for _, args := range [][]string{{"image", "list"}, {"image", "list", "--json"}, {"nodes"}, {"status"}} {
		out, code := s.order(args...)
		if code != exitOK {
			s.t.Errorf("%s: %q: exit %d: %s", when, args, code, out)
		}
		if args[0] == "image" && !strings.Contains(out, "52:54:00:00:00:31") {
			s.t.Errorf("%s: %q: %s", when, args, out)
		}
	}
}

// unharmed fails unless the canaries are as they were.
func (s *plantedSite) unharmed(want map[string]string, when string) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.witness()); diff != "" {
		s.t.Fatalf("what links lead to was changed %s:\n%s", when, diff)
	}
}

// reasons fails unless the log says of each machine that was refused what is planted,
// where.
func (s *plantedSite) reasons(machines []*plantedMachine) {
	s.t.Helper()
	log, err := os.ReadFile(s.logged)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, m := range machines {
		path, why := m.path(), m.why
		if m.round == "running" && m.at == "meta.json" {
			if m.what != "folder" {
				continue
			}
			path, why = filepath.Join(m.overlay, ".meta.json0"), "is a directory" // it cannot take its place
		}
		told := false
		for line := range bytes.Lines(log) {
			told = told || bytes.Contains(line, []byte(path)) && bytes.Contains(line, []byte(why))
		}
		if !told {
			s.t.Errorf("%s: the log does not say %q of %s", m, why, path)
		}
	}
}
