package export

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/schema"
)

// plantFolder puts a folder that is not empty in the place of a file.
func plantFolder(t *testing.T, path string) {
	t.Helper()
	err := os.Rename(path, path+".was")
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err := errors.Join(err, os.Mkdir(path, 0o700), os.WriteFile(filepath.Join(path, "letters"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// overlayFolder gives the folder of the one overlay that a machine has.
func (r *rig) overlayFolder(mac provider.MAC) string {
	r.t.Helper()
	found, err := filepath.Glob(filepath.Join(r.state, "overlays", machineKey(provider.Client{MAC: mac}, netip.Addr{}), "*", "*"))
	if err != nil || len(found) != 1 {
		r.t.Fatal(found, err)
	}
	return found[0]
}

// One machine's overlay whose record could not be written made every reset of another's
// fail, which was done all the same.
func TestResetBesideADiskThatCannotBeWritten(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.keeping(1, a, schema.KeepHost))
	name := nameOf("arch", a)
	m := r.mustDial(name + bootA)
	m.write(0, "of the one")
	m.gone(r)
	other, mac := netip.MustParseAddr("127.0.0.2"), provider.MAC{2}
	r.clients.set(other, provider.Client{MAC: mac, Subnet: subnetLAN})
	m, err := r.dialFrom(other, name+bootB)
	if err != nil {
		t.Fatal(err)
	}
	m.write(0, "of the other")
	m.gone(r)
	plantFolder(t, filepath.Join(r.overlayFolder(testMAC), "meta.json"))
	if _, err := r.ResetOverlays(t.Context(), provider.OverlayQuery{Machine: testMAC.String()}, false); err == nil {
		t.Error("it is told as discarded, and a crash would bring it back")
	}
	list, err := r.ResetOverlays(t.Context(), provider.OverlayQuery{Machine: mac.String()}, false)
	if err != nil || len(list) != 1 {
		t.Errorf("the other's: %v, %v", list, err)
	}
	if n := r.overlays.Bytes(cow.Key{Machine: machineKey(provider.Client{MAC: mac}, other), Instance: filepath.Base(filepath.Dir(r.overlayFolder(mac))), Export: "arch"}); n != 0 {
		t.Errorf("%d bytes are not given back", n)
	}
	if _, err := r.dialFrom(other, name+bootC); err != nil {
		t.Error(err)
	}
}

// One working copy whose record could not be written kept all machines from disks that
// outlive their boots.
func TestAttachBesideAWorkingCopyThatCannotBeWritten(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.keeping(1, a, schema.KeepHost))
	key := cow.Key{Machine: workingCopy, Instance: "host-boot-x", Export: "other"}
	base, err := r.blobs.Get(a.Root)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Release()
	o, err := r.overlays.Open(key, cow.Base{Digest: a.Root.Digest, Size: a.Root.Size}, base, map[string]string{noteMachine: "02-00-00-00-00-00"})
	if err != nil {
		t.Fatal(err)
	}
	o.Close()
	plantFolder(t, filepath.Join(r.state, "overlays", key.String(), "meta.json"))
	r.overlays.Note(key, noteSeen, "now")
	if err := r.overlays.Save(key); err == nil {
		t.Fatal("it can be written")
	}
	r.mustDial(nameOf("arch", a) + bootA)
}

// A daemon that was killed did not start again where it could not write that a connection
// of before is over: on a full disk, say.
func TestStartBesideADiskThatCannotBeWritten(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.keeping(1, a, schema.KeepConnection))
	name := nameOf("arch", a)
	r.mustDial(name+bootA).write(0, "x")
	crashed := &rig{t: t, state: t.TempDir(), addr: freePort(t), clients: r.clients, events: &journal{changed: make(chan struct{})}}
	if err := os.CopyFS(crashed.state, os.DirFS(r.state)); err != nil {
		t.Fatal(err)
	}
	plantFolder(t, filepath.Join(crashed.overlayFolder(testMAC), ".meta.json0"))
	crashed.start()
	t.Cleanup(func() { crashed.stop() })
	crashed.commit(crashed.keeping(1, a, schema.KeepConnection))
	crashed.wantDenied(name+bootA, `keep = "connection"`)
	other := netip.MustParseAddr("127.0.0.2")
	r.clients.set(other, provider.Client{MAC: provider.MAC{2}, Subnet: subnetLAN})
	if _, err := crashed.dialFrom(other, name+bootB); err != nil {
		t.Error(err)
	}
}
