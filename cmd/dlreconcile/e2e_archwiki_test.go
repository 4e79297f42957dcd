package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// wikiMachine is a machine that boots examples/archwiki-debian.
type wikiMachine struct {
	name     string
	last     byte // of its MAC
	firmware lab.Firmware
	loader   string // the boot program that it asks for
}

// introduceWiki says on the console what has become of the page's settings.
const introduceWiki = `#!/bin/sh
say() { echo "MATRIX $*." >/dev/ttyS0; }
hostname=$(cat /etc/hostname)
say "cmdline $(cat /proc/cmdline)"
say "hostname $(cat /proc/sys/kernel/hostname) $hostname"
say "timezone $(readlink /etc/localtime)"
say "locale $(cat /etc/default/locale)"
say "keymap $(grep XKBLAYOUT /etc/default/keyboard)"
for path in / /var/log /var/spool/cups; do
	say "mount:$path $(findmnt -nro FSTYPE,OPTIONS $path)"
done
while read -r device path type options rest; do
	say "fstab:$path $device $type $options"
done </etc/fstab
for path in /var/lib/puppet /etc/puppet/ssl; do
	echo "$hostname" >>$path/who
	say "state:$path $(findmnt -nro FSROOT $path)"
	say "who:$path $(cat $path/who)"
done
say "dns $(grep -h -m1 DNS /run/net-*.conf)"
say "failed $(systemctl list-units --state=failed --no-legend --plain | cut -d' ' -f1)"
say "up on archwiki"
`

// The page "Diskless system" of the ArchWiki, as examples/archwiki-debian has it:
// planned, applied, and booted by GRUB on a machine with BIOS and on one with UEFI,
// which then say that each setting of the page is what they have.
func TestE2EArchWiki(t *testing.T) {
	needLab(t)
	providertest.Need(t, "mkfs.btrfs")
	if missing := lab.Missing(lab.BIOS, lab.UEFI); len(missing) > 0 {
		providertest.Need(t, missing...)
	}
	machines := []wikiMachine{
		{"wiki-bios", 0x51, lab.BIOS, "/core.0"},
		{"wiki-uefi", 0x52, lab.UEFI, "/core.efi"},
	}
	s := newSite(t, wikiFiles(t, machines))
	plan := s.must("plan")
	for _, must := range []string{"+ image.arch ", `compress=lzo`, "/var/lib/puppet", "host.wiki-uefi: next boot", " 0 to delete."} {
		if !strings.Contains(plan, must) {
			t.Errorf("the plan does not say %q", must)
		}
	}
	if t.Failed() {
		t.Log(plan)
	}
	s.withImages()
	s.start()
	s.applied(s.commit(nil, "go"))
	if again := s.must("plan"); !strings.HasPrefix(again, "No changes.") {
		t.Errorf("applied, and there is more to do:\n%s", again)
	}

	all := map[string]met{}
	for _, w := range machines {
		began := time.Now()
		said, fetched := s.bootWiki(w)
		if said["up"] == "" {
			continue // it was told why
		}
		t.Logf("%s says all that after %.0f s", w.name, time.Since(began).Seconds())
		all[w.name] = said
		s.isAsThePage(w, said)
		if !slices.ContainsFunc(fetched, func(f string) bool { return strings.Contains(f, w.loader) }) {
			t.Errorf("%s did not fetch GRUB as %s: %q", w.name, w.loader, fetched)
		}
	}
	areDistinct(t, all)
}

// wikiFiles is the example in the lab's network, with the packages that other tests
// have fetched, and a file beside it: machines that talk.
func wikiFiles(t *testing.T, machines []wikiMachine) map[string]string {
	t.Helper()
	files := exampleFiles(t, "archwiki-debian")
	delete(files, "README.md")
	replaced := map[string]string{}
	for path, text := range files {
		replaced[path] = strings.NewReplacer("10.0.0.", "10.77.0.", `"eth0"`, `"br0"`).Replace(text)
	}
	packages := regexp.MustCompile(`packages = \[[^\]]*\]`)
	if len(packages.FindAllString(replaced["debian.hcl"], -1)) != 1 {
		t.Fatal("debian.hcl has not one list of packages")
	}
	replaced["debian.hcl"] = packages.ReplaceAllString(replaced["debian.hcl"], "packages = "+matrixPackages)
	var lab strings.Builder
	for _, w := range machines {
		fmt.Fprintf(&lab, `
host %q {
  mac     = %q
  address = "10.77.0.%d"
  args    = ["console=ttyS0", "no_timer_check", "systemd.wants=introduce.service"]
  file "/usr/local/sbin/introduce" {
    source      = "files/introduce"
    permissions = "0755"
  }
  file "/etc/systemd/system/introduce.service" {
    source = "files/introduce.service"
  }
}
`, w.name, macOf(w.last), w.last)
	}
	replaced["lab.hcl"], replaced["files/introduce"], replaced["files/introduce.service"] = lab.String(), introduceWiki, introduceUnit
	return replaced
}

// bootWiki boots a machine until it has said what it has, and gives the names of the
// files that it was sent, too.
func (s *site) bootWiki(w wikiMachine) (said met, fetched []string) {
	s.t.Helper()
	capture, err := s.lab.Capture(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := s.lab.Machine(s.ctx, lab.MachineConfig{Name: w.name, MAC: macOf(w.last), Memory: 512, Firmware: w.firmware})
	if err != nil {
		s.t.Fatal(err)
	}
	defer m.Kill()
	ctx, cancel := context.WithTimeout(s.ctx, bootLimit)
	defer cancel()
	s.arrives(ctx, m)
	healthy(s.t, m)
	if err := capture.Stop(); err != nil {
		s.t.Fatal(err)
	}
	traffic, err := capture.Traffic()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range traffic.Of(m.MAC()).Fetches() {
		fetched = append(fetched, f.Asked)
	}
	return introduced(m), fetched
}

// isAsThePage holds what a machine says against the page's settings.
func (s *site) isAsThePage(w wikiMachine, said met) {
	s.t.Helper()
	for _, c := range []struct{ key, want string }{
		{"hostname", w.name + " " + w.name},
		{"timezone", "/usr/share/zoneinfo/UTC"},
		{"locale", "LANG=en_US.UTF-8"},
		{"keymap", `XKBLAYOUT="us"`},
		{"fstab:/var/log", "tmpfs tmpfs nodev,nosuid"},
		{"fstab:/var/spool/cups", "tmpfs tmpfs nodev,nosuid"},
		{"who:/var/lib/puppet", w.name}, // and nobody else
		{"who:/etc/puppet/ssl", w.name},
		{"failed", ""},
	} {
		if said[c.key] != c.want {
			s.t.Errorf("%s says %s %q, want %q", w.name, c.key, said[c.key], c.want)
		}
	}
	for _, c := range []struct {
		key   string
		words []string // in this order
	}{
		{"cmdline", []string{"root=", "quiet add_efi_memmap console=ttyS0"}}, // the entry's before the host's
		{"mount:/", []string{"btrfs rw,", "noatime", "compress=lzo"}},
		{"mount:/var/log", []string{"tmpfs rw,", "nosuid", "nodev"}},
		{"mount:/var/spool/cups", []string{"tmpfs rw,", "nosuid", "nodev"}},
		{"state:/var/lib/puppet", []string{"/" + w.name + "/"}},
		{"state:/etc/puppet/ssl", []string{"/" + w.name + "/"}},
	} {
		rest := said[c.key]
		for _, word := range c.words {
			_, after, found := strings.Cut(rest, word)
			if !found {
				s.t.Errorf("%s says %s %q, want %q in it", w.name, c.key, said[c.key], c.words)
				break
			}
			rest = after
		}
	}
}
