package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/cmd/internal/wire"
	"github.com/dlreconcile/dlreconcile/engine/explain"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// matrixUp is what a machine of the matrix shows last.
var matrixUp = regexp.MustCompile(`^MATRIX up on (\S+)\.$`)

// atOnce is how many machines run at the same time: two cost no more than one on two
// processors, and four cost double.
const atOnce = 2

// needMatrix skips what cannot run here.
func needMatrix(t *testing.T) {
	t.Helper()
	needLab(t)
	if missing := lab.Missing(lab.BIOS, lab.UEFI, lab.UEFIiPXE, lab.UEFIHTTP, lab.UEFISecure); len(missing) > 0 {
		providertest.Need(t, missing...)
	}
}

// Every way to boot, to systemd's multi-user target on a root over NBD, from our
// servers alone and from one commit; and what each machine was sent is what explain
// says.
func TestE2EBootMatrix(t *testing.T) {
	needMatrix(t)
	all := ways()
	s := newSite(t, matrixFiles(all, oursAlone))
	s.withImages()
	s.start()
	s.applied(s.commit(nil, "go"))
	table := newTimeTable()
	met := s.bootAll(all, table, nil)
	show(t, table.text("Userland from our servers", all, "ours"))
	areDistinct(t, met)
}

// met is what a machine said of itself.
type met map[string]string

// bootAll boots a machine for each way, atOnce at a time, and checks each. named gives
// what a DHCP server that is not ours tells them; nil when ours does.
func (s *site) bootAll(all []way, table *timeTable, named func(way) []string) map[string]met {
	s.t.Helper()
	said := map[string]met{}
	for pair := range slices.Chunk(all, atOnce) {
		capture, err := s.lab.Capture(s.ctx)
		if err != nil {
			s.t.Fatal(err)
		}
		// What explain says before they boot, so that it cannot learn from the boot.
		told := map[string]explain.Result{}
		for _, w := range pair {
			var files []string
			if named != nil {
				files = named(w)
			}
			told[w.name] = s.explainJSON(w, files...)
		}
		machines := map[string]*lab.Machine{}
		for _, w := range pair {
			machines[w.name] = s.bootWay(w)
		}
		ctx, cancel := context.WithTimeout(s.ctx, bootLimit)
		for _, w := range pair {
			s.arrives(ctx, machines[w.name])
		}
		cancel()
		if err := capture.Stop(); err != nil {
			s.t.Fatal(err)
		}
		traffic, err := capture.Traffic()
		if err != nil {
			s.t.Fatal(err)
		}
		for _, w := range pair {
			m := machines[w.name]
			said[w.name] = introduced(m)
			s.checkBoot(w, m, traffic.Of(m.MAC()), told[w.name], said[w.name], table)
			m.Kill()
		}
	}
	return said
}

// bootWay starts the machine of a way.
func (s *site) bootWay(w way) *lab.Machine {
	s.t.Helper()
	m, err := s.lab.Machine(s.ctx, lab.MachineConfig{Name: w.name, MAC: macOf(w.last), Memory: 512, Firmware: w.firmware})
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// arrives waits until a machine has said who it is. That it does not is reported, with
// what it showed, and nothing else is checked of it.
func (s *site) arrives(ctx context.Context, m *lab.Machine) {
	s.t.Helper()
	if _, err := m.WaitConsole(ctx, matrixUp); err != nil {
		s.t.Error(err)
	}
}

// introduced gives what a machine said of itself.
func introduced(m *lab.Machine) met {
	said := met{}
	for line := range strings.SplitSeq(m.Console(), "\n") {
		if rest, ok := strings.CutPrefix(line, "MATRIX "); ok {
			key, value, _ := strings.Cut(strings.TrimSuffix(rest, "."), " ")
			said[key] = value
		}
	}
	return said
}

// checkBoot looks at one boot from all sides.
func (s *site) checkBoot(w way, m *lab.Machine, seen *wire.Traffic, told explain.Result, said met, table *timeTable) {
	s.t.Helper()
	if said["up"] == "" {
		for _, f := range seen.Fetches() {
			s.t.Logf("%s: after %5.1f s %s %s, answered %v, found %v, %d bytes, whole %v", w.name, f.At.Sub(m.Began()).Seconds(), f.Protocol, f.Asked, f.Answered, f.Found, f.Bytes, f.Whole)
		}
		return
	}
	healthy(s.t, m)
	s.wireEquals(w, seen, told, said["cmdline"])
	root, secure := w.entry, ""
	if root == "squashfs" {
		root = "overlay"
	}
	if w.firmware == lab.UEFISecure {
		secure = "Secure boot enabled"
	}
	id := sha256.Sum256([]byte("dlreconcile machine " + m.MAC().String()))
	for _, c := range []struct{ key, want string }{
		{"up", "on " + w.entry},
		{"hostname", w.name + " " + w.name},
		{"machine-id", hex.EncodeToString(id[:])[:32]},
		{"root", root},
		{"who", "I am " + w.name},
		{"seed", "from the image"},
		{"visitors", w.name + " was here"}, // and nobody else
		{"secure", secure},
		{"failed", ""},
	} {
		if said[c.key] != c.want {
			s.t.Errorf("%s says %s %q, want %q", w.name, c.key, said[c.key], c.want)
		}
	}
	if !strings.HasSuffix(said["state"], "/var-lib-app") || !strings.Contains(said["state"], "/"+w.name+"/") {
		s.t.Errorf("%s has its state at %q, want a directory of its own", w.name, said["state"])
	}

	kernel, initrds := "", map[string]bool{}
	for _, a := range told.Steps {
		switch a.Kind {
		case provider.AnswerKernel:
			kernel = cmp.Or(kernel, a.Digest)
		case provider.AnswerInitrd:
			initrds[a.Digest] = true
		}
	}
	times, err := stagesOf(m, seen, kernel, initrds, matrixUp)
	if err != nil {
		s.t.Error(err)
		return
	}
	table.add(w.name, "ours", times)
}

// areDistinct looks at what no two machines of one image may have in common.
func areDistinct(t *testing.T, all map[string]met) {
	t.Helper()
	for _, key := range []string{"hostname", "machine-id", "who", "state"} {
		whose := map[string]string{}
		for name, said := range all {
			v := said[key]
			if v == "" {
				continue
			}
			if other := whose[v]; other != "" {
				t.Errorf("%s and %s both have %s %q", other, name, key, v)
			}
			whose[v] = name
		}
	}
}
