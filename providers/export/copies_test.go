package export

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// An operator put a copy of a disk, and a file, beside it: the order to discard the
// machine's disks discarded them too, and no artifact was removed any more.
func TestResetLeavesCopies(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	in := r.keeping(1, a, schema.KeepHost)
	r.commit(in)
	m := r.mustDial(nameOf("arch", a) + bootA)
	m.write(0, "written")
	m.flush()
	m.gone(r)
	r.stop()
	disk := r.overlayFolder(testMAC)
	boot := filepath.Dir(disk)
	backup, inOther, file := disk+".bak", filepath.Join(boot+".bak", "arch"), filepath.Join(boot, "old.tar")
	for _, to := range []string{backup, inOther} {
		if err := os.CopyFS(to, os.DirFS(disk)); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	r.commit(in)
	if err := r.Unread(); err != nil {
		t.Errorf("what copies lie over is known: %v", err)
	}
	r.stop()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.commit(in)

	m = r.mustDial(nameOf("arch", a) + bootB)
	m.wantText(0, "written", "beside copies")
	m.gone(r)

	why := map[string]string{}
	for _, o := range r.Overlays(ofTestMachine) {
		why[filepath.Base(filepath.Dir(o.ID))+"/"+filepath.Base(o.ID)] = o.Unreadable
	}
	for _, place := range []string{backup, inOther} {
		of := filepath.Base(filepath.Dir(place)) + "/" + filepath.Base(place)
		if !strings.Contains(why[of], "copied or moved here") {
			t.Errorf("%s: %q in %q", of, why[of], why)
		}
	}
	if list, err := r.DiffOverlays(t.Context(), ofTestMachine, false); err != nil || len(list) != 1 || list[0].Unreadable != "" {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := r.ResetOverlays(t.Context(), ofTestMachine, false); err != nil || len(list) != 1 || list[0].Unreadable != "" {
		t.Errorf("%+v, %v", list, err)
	}
	for _, left := range []string{filepath.Join(backup, "data"), filepath.Join(inOther, "data"), file} {
		if _, err := os.Stat(left); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(disk, "data")); err == nil {
		t.Error("the disk itself is there")
	}
	if _, err := r.ResetOverlays(t.Context(), ofTestMachine, true); !errors.Is(err, provider.ErrNoOverlay) || !strings.Contains(err.Error(), "--unreadable DISK") {
		t.Errorf("%v", err)
	}
	obs, err := r.Observe(t.Context())
	if err != nil || len(obs) != 2 {
		t.Errorf("%+v, %v", obs, err)
	}
	for _, o := range obs {
		if o.Artifact != a.Root.Digest || o.MAC != testMAC.String() || !strings.Contains(o.Export, ".bak") {
			t.Errorf("%+v", o)
		}
	}

	// Alone he may mean them.
	for _, place := range []string{backup, inOther, file} {
		id, err := filepath.Rel(filepath.Join(r.state, "overlays"), place)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.ResetOverlays(t.Context(), provider.OverlayQuery{Unreadable: id}, true); err != nil {
			t.Error(err)
		}
	}
	r.wantData(0, "all are discarded")
}
