package main

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
)

// refusedByFirmware is what OVMF shows when a program's signature is none that it
// trusts.
var refusedByFirmware = regexp.MustCompile(`Access Denied|Security Violation`)

// With Secure Boot on and Microsoft's keys, a machine boots from the image's signed
// shim, GRUB and kernel; and its firmware does not start a loader without a signature.
func TestE2ESecureBoot(t *testing.T) {
	needMatrix(t)
	all := selected([]way{
		{"uefi-secure", 0x41, lab.UEFISecure, 7, "", "bootloader.grub.secure", false, "ext4", byHand{}},
		{"uefi-unsigned", 0x42, lab.UEFISecure, 7, "", "bootloader.grub.menu", false, "ext4", byHand{}},
	})
	if len(all) != 2 {
		t.Skip("not among the ways that are tried")
	}
	s := newSite(t, matrixFiles(all, oursAlone))
	s.withImages()
	s.start()
	s.applied(s.commit(nil, "go"))

	t.Run("signed", func(t *testing.T) {
		s := s.in(t)
		table := newTimeTable()
		s.bootAll(all[:1], table, nil)
		show(t, table.text("Userland with Secure Boot", all[:1], "ours"))
	})
	t.Run("unsigned", func(t *testing.T) {
		s := s.in(t)
		capture, err := s.lab.Capture(s.ctx)
		if err != nil {
			t.Fatal(err)
		}
		m := s.bootWay(all[1])
		defer m.Kill()
		ctx, cancel := context.WithTimeout(s.ctx, bootLimit)
		defer cancel()
		line, err := m.WaitConsole(ctx, refusedByFirmware)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(strings.TrimSpace(line))
		if err := capture.Stop(); err != nil {
			t.Fatal(err)
		}
		traffic, err := capture.Traffic()
		if err != nil {
			t.Fatal(err)
		}
		fetched := traffic.Of(m.MAC()).Fetches()
		if len(fetched) != 1 || !fetched[0].Whole || !strings.HasSuffix(fetched[0].Name, "/core.efi") {
			t.Errorf("the machine fetched %+v, want the loader and no more", fetched)
		}
	})
}
