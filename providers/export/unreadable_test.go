package export

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// A machine whose kept disk had a damaged record was booted from another export, and the
// disk was gone.
func TestAnotherExportLeavesWhatCannotBeRead(t *testing.T) {
	for _, keep := range []schema.Keep{schema.KeepHost, ""} { // "": read-write
		for _, boot := range []string{bootA, ""} {
			t.Run(string(keep)+boot, func(t *testing.T) {
				r := newRig(t)
				a, _ := r.artifact(1, 1<<20)
				in := r.keeping(1, a, keep)
				if keep == "" {
					in.Want.Exports[0].Mode, in.Want.Exports[0].Allow = schema.ReadWrite, []schema.Addr{hostWS01}
				}
				r.commit(in)
				name := nameOf("arch", a)
				first := r.mustDial(name + boot)
				first.write(1000, "precious")
				first.flush()
				first.gone(r)
				record, sound := r.spoil(in)
				for _, other := range []string{bootB, ""} {
					r.clients.edit(loopback, func(c *provider.Client) { c.Session = "another" + other })
					rescue := r.mustDial(nameOf("sealed", a) + other)
					rescue.read(0, 1)
					rescue.gone(r)
				}
				if err := r.overlays.Sweep(); err != nil {
					t.Error(err)
				}
				r.wantData(1, "after boots from another export")
				r.stop()
				if err := os.WriteFile(record, sound, 0o600); err != nil {
					t.Fatal(err)
				}
				r.start()
				r.commit(in)
				r.mustDial(name+bootC).wantText(1000, "precious", "its record is sound again")
			})
		}
	}
}

// spoil makes the record of the one overlay unreadable, and restarts.
func (r *rig) spoil(in provider.Input) (record string, was []byte) {
	r.t.Helper()
	r.stop() // else its sweeper may write it
	records, err := filepath.Glob(filepath.Join(r.state, "overlays", "*", "*", "*", "meta.json"))
	if err != nil || len(records) != 1 {
		r.t.Fatal(records, err)
	}
	if was, err = os.ReadFile(records[0]); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(records[0], []byte("{"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.start()
	r.commit(in)
	return records[0], was
}

// unread gives the one overlay that cannot be read.
func (r *rig) unread() provider.Overlay {
	r.t.Helper()
	list := r.Overlays(provider.OverlayQuery{})
	if len(list) != 1 || list[0].Unreadable == "" {
		r.t.Fatalf("%+v", list)
	}
	return list[0]
}

// booted has the test's machine begin a boot session.
func (r *rig) booted(session string) {
	r.clients.edit(loopback, func(c *provider.Client) { c.Session, c.Began = session, r.now() })
}

// A disk whose record cannot be read may be anybody's of the machine: no boot of it gets a
// fresh one instead.
func TestUnreadableRecordOfAKeptDisk(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.keeping(1, a, schema.KeepHost))
	name := nameOf("arch", a)
	first := r.mustDial(name + bootA)
	first.write(1000, "of the first boot")
	second := r.mustDial(name + bootB) // takes it over
	second.wantText(1000, "of the first boot", "the next boot")
	second.gone(r)
	record, was := r.spoil(r.keeping(1, a, schema.KeepHost))
	for _, boot := range []string{bootA, bootB, bootC, ""} {
		r.wantDenied(name+boot, "record cannot be read")
	}
	r.commit(r.keeping(2, a, schema.KeepBoot)) // whoever has it mounted is the same
	r.wantDenied(name+bootB, "record cannot be read")
	// Another root has nothing to do with it.
	r.booted("of a rescue")
	rescue := r.mustDial(nameOf("sealed", a) + bootC)
	rescue.gone(r)
	r.wantData(1, "after a boot from another export")
	if err := os.WriteFile(record, was, 0o600); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.commit(r.keeping(1, a, schema.KeepHost))
	r.mustDial(name+bootB).wantText(1000, "of the first boot", "its record is back")
}

// What cannot be read was not listed, and could be discarded by hand only; whoever had it
// mounted would have had a fresh disk under it then.
func TestResetWhatCannotBeRead(t *testing.T) {
	r := newRig(t)
	a, sealed := r.artifact(1, 1<<20)
	in := r.keeping(1, a, schema.KeepHost)
	r.commit(in)
	name := nameOf("arch", a)
	m := r.mustDial(name + bootA)
	m.write(0, "written")
	m.gone(r)
	r.booted("the boot that had it")
	r.spoil(in)

	o := r.unread()
	if id := "52-54-00-00-00-01/host-" + namedInstance + strings.TrimPrefix(bootA, "+") + "/arch"; o.ID != id {
		t.Errorf("ID %q, want %q", o.ID, id)
	}
	if o.Machine != testMAC.String() || o.Host != hostWS01 || o.Export != "arch" || o.Keep != "host" || o.Bytes == 0 ||
		!o.Created.IsZero() || o.Unreadable != "meta.json: unexpected end of JSON input" {
		t.Errorf("%+v", o)
	}
	for _, q := range []provider.OverlayQuery{ofTestMachine, {Machine: "ws01"}, {Unreadable: o.ID}, {Export: "arch"}} {
		if list, err := r.DiffOverlays(t.Context(), q, true); err != nil || len(list) != 1 || list[0].Unreadable == "" || !list[0].RefusedAfter || list[0].Bytes == 0 {
			t.Errorf("%+v: %+v, %v", q, list, err)
		}
	}
	if _, err := r.PromoteOverlay(t.Context(), ofTestMachine, true); !errors.Is(err, provider.ErrUnclean) {
		t.Errorf("%v", err)
	}
	if _, err := r.ResetOverlays(t.Context(), provider.OverlayQuery{Unreadable: "x"}, true); !errors.Is(err, provider.ErrNoOverlay) {
		t.Errorf("%v", err)
	}
	one := provider.OverlayQuery{Unreadable: o.ID}
	reset := func(force, refused bool) {
		t.Helper()
		if list, err := r.ResetOverlays(t.Context(), one, force); err != nil || len(list) != 1 || list[0].ID != o.ID || list[0].Refused != refused {
			t.Fatalf("%+v, %v, want refused %t", list, err, refused)
		}
	}

	// Its machine is up.
	r.wantDenied(name+bootB, "image reset")
	if _, err := r.ResetOverlays(t.Context(), ofTestMachine, false); !errors.Is(err, provider.ErrAttached) {
		t.Errorf("%v", err)
	}
	r.ahead.Add(int64(comesBack))
	reset(false, true)
	r.wantData(0, "discarded")
	for range 2 {
		for _, boot := range []string{bootA, bootB, ""} { // of a session that began before
			r.wantDenied(name+boot, "image reset")
		}
		r.restart()
		r.commit(in)
	}
	if list, err := r.DiffOverlays(t.Context(), ofTestMachine, false); err != nil || len(list) != 1 || !list[0].Refused || list[0].ID != o.ID || list[0].RefusedAfter {
		t.Errorf("%+v, %v", list, err)
	}

	// A session that its attaching another disk began says nothing of a boot.
	r.clients.edit(loopback, func(c *provider.Client) { c.Session, c.Began = "attached", time.Time{} })
	r.wantDenied(name+bootC, "image reset")

	// It boots.
	r.ahead.Add(int64(time.Minute))
	r.booted("the next")
	r.wantDenied(name+bootB, "image reset") // one that had asked before: it is late
	m = r.mustDial(name + bootD)
	m.wantText(0, string(sealed[:7]), "the next boot")
	m.write(0, "again")
	m.gone(r)
	for _, boot := range []string{bootA, bootB} { // late by more
		r.wantRefused(name+boot, "who made it, or asked while it could not be read")
	}
	if list := r.Overlays(ofTestMachine); len(list) != 1 || list[0].Refused || list[0].ID != "" {
		t.Errorf("%+v", list)
	}
}

// Of no boot session anything is known: the operator says that the machine was switched off.
func TestResetWhatCannotBeReadTwice(t *testing.T) {
	for _, keep := range []schema.Keep{schema.KeepBoot, schema.KeepHost, schema.KeepConnection} {
		for _, boot := range []string{"", bootA} {
			t.Run(string(keep)+boot, func(t *testing.T) {
				r := newRig(t)
				a, sealed := r.artifact(1, 1<<20)
				in := r.keeping(1, a, keep)
				r.commit(in)
				name := nameOf("arch", a)
				m := r.mustDial(name + boot)
				m.write(0, "written")
				copied := r.unended()
				m.gone(r)
				copied()
				r.spoil(in)
				o := r.unread()
				r.wantDenied(name+boot, "record cannot be read")
				if _, err := r.ResetOverlays(t.Context(), ofTestMachine, false); !errors.Is(err, provider.ErrAttached) {
					t.Errorf("%v", err)
				}
				told := boot != "" && keep != schema.KeepHost // by its place
				list, err := r.ResetOverlays(t.Context(), ofTestMachine, true)
				if err != nil || len(list) != 1 || list[0].Refused == told {
					t.Fatalf("%+v, %v", list, err)
				}
				r.wantData(0, "discarded")
				r.wantRefused(name+boot, "who had it")
				r.restart()
				r.commit(in)
				r.wantRefused(name+boot, "who had it")
				next := name + bootB
				if !told && (keep == schema.KeepHost) {
					r.wantDenied(next, "image reset")
					if list, err := r.ResetOverlays(t.Context(), provider.OverlayQuery{Unreadable: o.ID}, false); err != nil || len(list) != 1 || list[0].Refused {
						t.Fatalf("%+v, %v", list, err)
					}
				}
				r.mustDial(next).wantText(0, string(sealed[:7]), "another boot")
			})
		}
	}
}

// unended gives what puts the overlays back as they are now, as a process leaves them that
// is killed.
func (r *rig) unended() func() {
	r.t.Helper()
	was := filepath.Join(r.t.TempDir(), "overlays")
	dir := filepath.Join(r.state, "overlays")
	if err := os.CopyFS(was, os.DirFS(dir)); err != nil {
		r.t.Fatal(err)
	}
	return func() {
		r.t.Helper()
		r.stop()
		if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(was))); err != nil {
			r.t.Fatal(err)
		}
	}
}

// The working copy of a read-write export says nowhere but in its record whose it is.
func TestWorkingCopyThatCannotBeRead(t *testing.T) {
	r := newRig(t)
	a, sealed := r.artifact(1, 1<<20)
	in := r.input(1, a)
	in.Want.Exports[0].Mode, in.Want.Exports[0].Keep = schema.ReadWrite, ""
	in.Want.Exports[0].Allow = []schema.Addr{hostWS01}
	r.commit(in)
	name := nameOf("arch", a)
	m := r.mustDial(name + bootA)
	m.write(0, "written")
	m.gone(r)
	r.spoil(in)
	o := r.unread()
	if o.Machine != testMAC.String() || o.Host != hostWS01 || o.Keep != "read-write" {
		t.Errorf("%+v", o)
	}
	r.wantDenied(name+bootA, "record cannot be read")
	cow := r.input(2, a) // it is edited, and the machine runs
	r.commit(cow)
	r.wantDenied(name+bootA, "record cannot be read")
	r.commit(in)
	list, err := r.ResetOverlays(t.Context(), provider.OverlayQuery{Machine: "ws01"}, true)
	if err != nil || len(list) != 1 || !list[0].Refused {
		t.Fatalf("%+v, %v", list, err)
	}
	r.wantDenied(name+bootA, "image reset")
	r.wantDenied(name+bootB, "image reset")
	r.ahead.Add(int64(time.Minute))
	r.booted("the next")
	r.mustDial(name+bootC).wantText(0, string(sealed[:7]), "it was seen booting")
}

// Where no generation says any more who wrote to it, it may have been anybody.
func TestWorkingCopyOfNobodyKnown(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	in := r.input(1, a)
	in.Want.Exports[0].Mode, in.Want.Exports[0].Keep = schema.ReadWrite, ""
	in.Want.Exports[0].Allow = []schema.Addr{hostWS01}
	r.commit(in)
	name := nameOf("arch", a)
	m := r.mustDial(name + bootA)
	m.write(0, "written")
	m.gone(r)
	r.spoil(r.input(2, a))
	o := r.unread()
	if o.Machine != "" || !o.Host.IsZero() {
		t.Errorf("%+v", o)
	}
	if _, err := r.ResetOverlays(t.Context(), provider.OverlayQuery{Unreadable: o.ID}, false); err != nil {
		t.Fatal(err)
	}
	in.Generation = 3
	r.commit(in)
	r.wantDenied(name+bootA, "image reset")
}

// A folder that is none was a stray in the log, and its machine had a fresh disk.
func TestFolderOfADiskThatIsNone(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	in := r.keeping(1, a, schema.KeepHost)
	r.commit(in)
	machine := filepath.Join(r.state, "overlays", "52-54-00-00-00-01")
	disk := filepath.Join(machine, keptInstance+"boot-x", "arch")
	if err := errors.Join(os.MkdirAll(filepath.Dir(disk), 0o700), os.WriteFile(disk, nil, 0o600),
		os.WriteFile(filepath.Join(r.state, "overlays", "README"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.commit(in)
	if o := r.unread(); o.Unreadable != "its folder cannot be opened: it is no folder" || o.Machine != testMAC.String() {
		t.Errorf("%+v", o)
	}
	r.wantDenied(nameOf("arch", a)+bootA, "record cannot be read")
	if _, err := r.ResetOverlays(t.Context(), ofTestMachine, true); err != nil {
		t.Fatal(err)
	}
	r.wantDenied(nameOf("arch", a)+bootA, "image reset")

	// One that may be any number of disks.
	if err := errors.Join(os.RemoveAll(machine), os.Symlink(t.TempDir(), machine)); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.commit(in)
	if o := r.unread(); o.ID != "52-54-00-00-00-01" || o.Export != "" || o.Keep != "" {
		t.Errorf("%+v", o)
	}
	r.wantDenied(nameOf("arch", a)+bootA, "record cannot be read")
	if _, err := r.ResetOverlays(t.Context(), ofTestMachine, true); err == nil || !strings.Contains(err.Error(), machine) {
		t.Errorf("%v", err)
	}
	if _, err := os.Readlink(machine); err != nil {
		t.Error(err)
	}
}

// A boot that is over, whose disk cannot be read, is late: it got a fresh disk, and the
// newer boot's after the order to discard its own.
func TestLateBootOfADiskThatCannotBeRead(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	in := r.keeping(1, a, schema.KeepBoot)
	r.commit(in)
	name := nameOf("arch", a)
	m := r.mustDial(name + bootA)
	m.write(0, "written")
	m.gone(r)
	r.spoil(in)
	o := r.unread()
	newer := r.mustDial(name + bootB)
	newer.write(0, "of the newer")
	r.wantDenied(name+bootA, "record cannot be read")
	if list, err := r.ResetOverlays(t.Context(), provider.OverlayQuery{Unreadable: o.ID}, true); err != nil || len(list) != 1 || list[0].Refused {
		t.Fatalf("%+v, %v", list, err)
	}
	r.wantData(1, "the newer boot's")
	r.wantRefused(name+bootA, "it is late")
	newer.wantText(0, "of the newer", "nobody else's disk was discarded")
	if list := r.Overlays(ofTestMachine); len(list) != 1 || list[0].Unreadable != "" || list[0].Refused {
		t.Errorf("%+v", list)
	}
}

// Somebody moved a disk elsewhere and left a link, or its file system failed: its machine
// got a fresh one beside it.
func TestLinkInThePlaceOfADisk(t *testing.T) {
	for _, at := range []string{"*", "*/*", "*/*/*"} {
		t.Run(at, func(t *testing.T) {
			r := newRig(t)
			a, _ := r.artifact(1, 1<<20)
			in := r.keeping(1, a, schema.KeepHost)
			r.commit(in)
			name := nameOf("arch", a)
			first := r.mustDial(name + bootA)
			first.write(1000, "precious")
			first.gone(r)
			r.stop()
			list, err := filepath.Glob(filepath.Join(r.state, "overlays", at))
			if err != nil || len(list) != 1 {
				t.Fatal(list, err)
			}
			away := filepath.Join(t.TempDir(), "away")
			if err := errors.Join(os.Rename(list[0], away), os.Symlink(away, list[0])); err != nil {
				t.Fatal(err)
			}
			r.start()
			r.commit(in)
			for _, boot := range []string{bootA, bootB, ""} {
				r.wantDenied(name+boot, "record cannot be read")
			}
			r.unread()
			r.booted("a rescue")
			rescue := r.mustDial(nameOf("sealed", a) + bootC)
			rescue.read(0, 1)
			rescue.gone(r)
			r.stop()
			if err := errors.Join(os.Remove(list[0]), os.Rename(away, list[0])); err != nil {
				t.Fatal(err)
			}
			r.start()
			r.commit(in)
			r.mustDial(name+bootC).wantText(1000, "precious", "it is back")
		})
	}
}

// The image below a disk that could not be read was needed by nobody, and collected.
func TestUnread(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	in := r.keeping(1, a, schema.KeepHost)
	r.commit(in)
	m := r.mustDial(nameOf("arch", a) + bootA)
	m.write(0, "written")
	m.gone(r)
	if err := r.Unread(); err != nil {
		t.Error(err)
	}
	r.spoil(in)
	id := r.unread().ID
	if err := r.Unread(); err == nil || !strings.Contains(err.Error(), id) {
		t.Errorf("%v, want %s", err, id)
	}
	if _, err := r.ResetOverlays(t.Context(), provider.OverlayQuery{Unreadable: id}, true); err != nil {
		t.Fatal(err)
	}
	if err := r.Unread(); err != nil {
		t.Errorf("it was discarded: %v", err)
	}
	r.stop()
	dir := filepath.Join(r.state, "overlays")
	for i := range mostUnread + 2 {
		if err := os.Symlink(t.TempDir(), filepath.Join(dir, fmt.Sprintf("52-54-00-00-01-0%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "README"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	if err := r.Unread(); err == nil || !strings.Contains(err.Error(), "and 2 more") || strings.Contains(err.Error(), "README") {
		t.Errorf("%v", err)
	}
}
