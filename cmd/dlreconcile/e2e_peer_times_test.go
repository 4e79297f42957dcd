package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// How long each stage of each way takes, beside the same service set up by hand: a
// small system, so that the loaders' part shows, and both sides at the same moment, so
// that what else the machine does slows both.
func TestE2EBootTimes(t *testing.T) {
	needMatrix(t)
	providertest.Need(t, peerPrograms...)
	all := slices.DeleteFunc(ways(), func(w way) bool { return w.entry == "squashfs" })
	s := newSite(t, matrixFiles(all, oursAlone))
	s.withImages() // the small system takes its kernel from one of them
	small := newTiny(t, sealed(builtRoot(t, "ext4", 2<<30).Root))
	for i := range all {
		all[i].entry = "tiny"
	}
	rev := s.commit(map[string]string{"site.hcl": matrixSite(all, tinyImage, oursAlone), "tiny.tar": string(small.archive)}, "a small system")
	s.withImages()
	s.start()
	s.applied(rev)

	// The peer serves the very files that ours does.
	made := builtRoot(t, "ext4", 64<<20)
	p := newPeer(t, all, sealed(made.Kernel), sealed(made.Initrd), sealed(made.Root))
	table := newTimeTable()
	up := regexp.MustCompile(tinyMarker)
	for _, w := range all {
		s.race(p, w, made, up, table)
	}
	show(t, table.text(fmt.Sprintf("A small system of %d + %d KiB from our servers, and from dnsmasq, nginx and nbd-server, side by side",
		made.Kernel.Size>>10, made.Initrd.Size>>10), all, "ours", "peer"))
}

// race boots two machines of one way at the same moment, one in each network.
func (s *site) race(p *peer, w way, made provider.Artifact, up *regexp.Regexp, table *timeTable) {
	s.t.Helper()
	type runner struct {
		side    string
		lab     *lab.Lab
		capture *lab.Capture
		machine *lab.Machine
	}
	runners := []*runner{{side: "ours", lab: s.lab}, {side: "peer", lab: p.lab}}
	for _, r := range runners {
		var err error
		if r.capture, err = r.lab.Capture(s.ctx); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, r := range runners {
		m, err := r.lab.Machine(s.ctx, lab.MachineConfig{Name: w.name, MAC: macOf(w.last), Memory: 384, Firmware: w.firmware})
		if err != nil {
			s.t.Fatal(err)
		}
		r.machine = m
	}
	for _, r := range runners {
		ctx, cancel := context.WithTimeout(s.ctx, bootLimit)
		_, err := r.machine.WaitConsole(ctx, up)
		cancel()
		if err != nil {
			s.t.Errorf("%s: %v", r.side, err)
		}
	}
	for _, r := range runners {
		if err := r.capture.Stop(); err != nil {
			s.t.Fatal(err)
		}
		traffic, err := r.capture.Traffic()
		if err != nil {
			s.t.Fatal(err)
		}
		times, err := stagesOf(r.machine, traffic.Of(r.machine.MAC()), made.Kernel.Digest, map[string]bool{made.Initrd.Digest: true}, up)
		if err != nil {
			s.t.Errorf("%s: %v", r.side, err)
		} else {
			table.add(w.name, r.side, times)
		}
		r.machine.Kill()
	}
}

// builtRoot finds, among the images that were built, one of that file system and size
// in bytes.
func builtRoot(t *testing.T, filesystem string, size int64) provider.Artifact {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(images.dir, "recipes", "artifact", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	var found provider.Artifact
	var made time.Time
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		var a provider.Artifact
		if err := json.Unmarshal(b, &a); err != nil {
			t.Fatal(err)
		}
		if a.Filesystem == filesystem && a.Root.Size == size && st.ModTime().After(made) {
			found, made = a, st.ModTime() // a test that is repeated builds its small system anew
		}
	}
	if made.IsZero() {
		t.Fatalf("none of %d images is %s of %d bytes", len(files), filesystem, size)
	}
	return found
}

// sealed is the file of a blob among the images that were built.
func sealed(b provider.Blob) string {
	hex := strings.TrimPrefix(b.Digest, "sha256:")
	return filepath.Join(images.dir, "blobs", "sha256", hex[:2], hex)
}
