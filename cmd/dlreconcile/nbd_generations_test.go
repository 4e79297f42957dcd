package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// Two machines boot through fifty generations, each of which has another image, and
// write on disks that last for one boot and on disks that outlive boots. Each reads, byte
// for byte, its image and what it wrote itself, and nothing of the other machine or of
// another generation. Once both are gone, the content store has what it has where there
// never was a machine, and of overlays there are records that say that they are over.
func TestFiftyGenerations(t *testing.T) {
	providertest.Need(t, "qemu-io")
	if os.Getenv("DLRECONCILE_TEST_FULL") == "" {
		t.Skip("it takes a minute; set DLRECONCILE_TEST_FULL=1")
	}
	s := newFiftySite(t, "fifty")
	alone := s.alone()
	rev := s.commit(s.files(1, 1, true))
	s.run()
	machines := []*fiftyMachine{
		{ClientNS: s.at("one", 0x31, "10.77.0.31"), name: "one", disks: map[string]*fiftyDisk{}},
		{ClientNS: s.at("two", 0x32, "10.77.0.32"), name: "two", disks: map[string]*fiftyDisk{}},
	}
	digests := map[string]bool{}
	for g := 1; g <= fiftyGenerations; g++ {
		if g > 1 {
			rev = s.commit(s.files(g, g, true))
		}
		s.synced(rev)
		hex, image := s.sealed()
		if digests[hex] {
			t.Fatalf("generation %d has an image that was there before", g)
		}
		digests[hex] = true
		for _, m := range machines {
			s.boot(m, g, hex, image)
		}
		if g%2 == 0 {
			s.again(machines, fmt.Sprintf("generation %d, attached again", g))
		}
		switch g % 10 {
		case 3: // another boot of the same image
			for _, m := range machines {
				s.boot(m, g, hex, image)
			}
			s.again(machines, fmt.Sprintf("generation %d, booted again", g))
		case 6:
			s.kill()
			s.run()
			s.synced(rev)
			s.again(machines, fmt.Sprintf("generation %d, the daemon was killed", g))
		case 9:
			for _, m := range machines {
				s.late(m, 1+s.chance.IntN(m.boots-1))
			}
			s.again(machines, fmt.Sprintf("generation %d, beside late connections", g))
		}
	}
	_, overlays := sizes(s.below("overlays"))
	t.Logf("%d images, %d boots of each machine, %d bytes of overlays", len(digests), machines[0].boots, overlays)
	s.gone(alone)
}

// gone takes the hosts and their exports out of the repo, has an operator throw away
// what is kept for boots that may come back, and fails unless the base is alone then.
func (s *fiftySite) gone(alone []int64) {
	s.t.Helper()
	s.synced(s.commit(s.files(fiftyGenerations, 902, false)))
	for _, mac := range []string{"52:54:00:00:00:31", "52:54:00:00:00:32"} {
		if out, errs, code := runCommand(s.t, s.command("image", "reset", mac)); code != exitOK {
			s.t.Errorf("image reset %s: exit %d: %s%s", mac, code, out, errs)
		}
	}
	var blobs map[string]int64
	for n := range 90 { // each commit collects what nobody needs since
		s.synced(s.commit(s.files(fiftyGenerations, 903+n, false)))
		blobs = s.below("blobs")
		if list, _ := sizes(blobs); slices.Equal(list, alone) {
			break
		}
	}
	s.end()
	list, all := sizes(blobs)
	if !slices.Equal(list, alone) {
		s.t.Errorf("the store has files of %d bytes, and of %d where there never was a machine: %v", list, alone, blobs)
	}
	overlays, records := s.below("overlays"), map[string]int{}
	for path, size := range overlays {
		// MACHINE/BOOT/EXPORT/meta.json
		parts := strings.Split(path, string(filepath.Separator))
		if len(parts) != 5 || parts[4] != "meta.json" || size > 4096 {
			s.t.Errorf("left behind: %s, %d bytes", path, size)
			continue
		}
		records[parts[1]+" "+parts[3]]++
	}
	for of, n := range records {
		if n > 8 {
			s.t.Errorf("%s: %d records of boots that are over", of, n)
		}
	}
	if n := s.folders("overlays"); n > 2*(1+len(overlays)) { // machines, boots, exports
		s.t.Errorf("%d folders for %d records", n, len(overlays))
	}
	_, left := sizes(overlays)
	s.t.Logf("left: %d blobs of %d bytes, as where there never was a machine; no block of an overlay, %d records of %d bytes that say so", len(blobs), all, len(overlays), left)
}
