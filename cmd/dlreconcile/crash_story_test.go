package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/api"
)

// crashSite is the site of the crash tests as of a commit: 0 was served long ago, 1
// is what is served, and 2 changes the pool, the boot arguments, the image, the
// exports and the hosts. image.small, which machines write to, is always the same: an
// ext4 has the times of its build in it, so that no two builds of one are equal.
func crashSite(t testing.TB, ports []int, commit int) map[string]string {
	t.Helper()
	files, err := loopbackSite(ports, 0)
	if err != nil {
		t.Fatal(err)
	}
	site := strings.Replace(files["site.hcl"], "[entry.small]", "[entry.small, entry.sealed]", 1)
	site += fmt.Sprintf(`
image "sealed" {
  tar {
    path = "root.tar"
  }
  initramfs "none" {}
  filesystem "squashfs" {}
  file "/etc/noise" {
    content = file("noise.txt") # so large that a record has it in the content store
  }
}

export "nbd" "sealed" {
  image = image.sealed
  mode  = "read-only"
}

entry "sealed" {
  image = image.sealed
  root  = export.nbd.sealed
}

host "ws01" {
  mac     = "52:54:00:00:01:01"
  address = "127.0.1.1"
  entry   = entry.sealed
  args    = ["ws.commit=%d"]
}
`, commit)
	noise := make([]byte, 64<<10)
	_, _ = rand.NewChaCha8([32]byte{byte(commit)}).Read(noise) // never fails
	files["noise.txt"] = fmt.Sprintf("%x", noise)
	if commit == 2 {
		site = strings.Replace(site, "127.0.0.100-127.0.0.199", "127.0.0.100-127.0.0.180", 1)
		site = strings.Replace(site, "  root  = export.nbd.small\n", "  root  = export.nbd.small\n  args  = [\"quiet\"]\n", 1)
		site += `
export "nbd" "second" {
  image = image.sealed
  mode  = "read-only"
}

host "ws02" {
  mac     = "52:54:00:00:01:02"
  address = "127.0.1.2"
}
`
	}
	files["site.hcl"] = site
	return files
}

// crashStory is something that a daemon is made to fail in.
type crashStory struct {
	name string
	base string // state directory that it begins with
	from string // points before the first hit of this one are told elsewhere; "": none
	upTo string // points behind the first hit of this one are told elsewhere; "": none
	rest bool   // only those points fail that no story before comes past, and those of also
	also []string
	// mends says that the story ends as it begins. What is served when it begins again may
	// be the generation before: then the tip makes one of its own, in which nothing is lost.
	mends bool
	// act has the daemon do it. It may die at any time, which ends act without an
	// error.
	act func(l *crashLane, d *crashDaemon, c *crashClient) error
	// again is what an operator does about a daemon that was cut off, if anything. undone
	// says that it serves what it did when the story began.
	again func(l *crashLane, d *crashDaemon, undone bool) error
}

func crashStories() []crashStory {
	reconcile := func(l *crashLane, d *crashDaemon) error {
		before := l.points.count("engine.retire.end")
		l.gate.open() // shut until here: the tip is looked at now
		return d.followed(before)
	}
	apply := func(l *crashLane, d *crashDaemon, c *crashClient) error {
		if err := d.passes("engine.start.end", 1); err != nil {
			return err
		}
		ctx, cancel := d.context()
		defer cancel()
		if err := c.boot(ctx, l); err != nil {
			return err
		}
		// The machine's former boot is over, and another one is forgotten.
		if err := d.passes("cow.remove.record", 1); err != nil {
			return err
		}
		guest := newCrashClient(l, 2)
		addr, err := guest.address(ctx)
		if err != nil {
			return fmt.Errorf("DHCP: %w", err)
		}
		if err := guest.decline(addr); err != nil {
			return err
		}
		if err := d.passes("lease.remove.commit", 1); err != nil {
			return err
		}
		return reconcile(l, d)
	}
	follow := func(l *crashLane, d *crashDaemon, _ *crashClient) error {
		if err := d.passes("engine.start.end", 1); err != nil {
			return err
		}
		return reconcile(l, d)
	}
	damage := func(l *crashLane, d *crashDaemon, c *crashClient) error {
		if err := d.passes("engine.start.end", 1); err != nil {
			return err
		}
		ctx, cancel := d.context()
		defer cancel()
		if err := c.boot(ctx, l); err != nil {
			return err
		}
		if err := d.sound(); err != nil || d.dead() {
			return err
		}
		if err := l.spoil(); err != nil {
			return err
		}
		return d.sound()
	}
	again := func(l *crashLane, d *crashDaemon, _ bool) error { return reconcile(l, d) }
	rollback := func(l *crashLane, d *crashDaemon) error {
		before := l.points.count("engine.retire.end")
		ctx, cancel := d.context()
		defer cancel()
		// Not the command: without a daemon it would do it itself.
		out, err := l.client.Change(ctx, "/v1/rollback", api.RollbackRequest{}, nil)
		if err == nil && out.Failure != nil {
			// A disk that was full for a moment: the operator asks once more.
			out, err = l.client.Change(ctx, "/v1/rollback", api.RollbackRequest{}, nil)
		}
		if err == nil && out.Failure != nil {
			err = errors.New(out.Failure.Message)
		}
		if err != nil {
			select {
			case <-d.exited:
				return nil
			case <-time.After(crashLimit):
				return fmt.Errorf("rollback: %w", err)
			}
		}
		return d.passes("engine.retire.end", before+1)
	}
	return []crashStory{
		{name: "apply", base: "old", act: apply, again: again},
		{name: "rollback", base: "new", from: "engine.start.end",
			act: func(l *crashLane, d *crashDaemon, _ *crashClient) error {
				if err := d.passes("engine.start.end", 1); err != nil {
					return err
				}
				return rollback(l, d)
			},
			again: func(l *crashLane, d *crashDaemon, undone bool) error {
				if !undone {
					return nil
				}
				return rollback(l, d)
			}},
		{name: "recovery", base: "torn", upTo: "engine.start.end", act: follow, again: again},
		{name: "first", base: "empty", rest: true, act: follow, again: again},
		{name: "damage", base: "damaged", rest: true, mends: true, act: damage,
			also: []string{"store.db.open", "lease.open.commit", "node.load.commit"},
			again: func(l *crashLane, d *crashDaemon, undone bool) error {
				if !undone {
					l.gate.open()
				}
				return d.sound()
			}},
	}
}
