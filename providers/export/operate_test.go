package export

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/schema"
)

var ofTestMachine = provider.OverlayQuery{Machine: "ws01"}

func TestDiffOverlays(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	in := r.input(1, a)
	in.Want.Exports[0].Limit = 4 << 20
	r.commit(in)
	if _, err := r.DiffOverlays(t.Context(), ofTestMachine, false); !errors.Is(err, provider.ErrNoOverlay) || !strings.Contains(err.Error(), "nodes") {
		t.Errorf("nothing there: %v", err)
	}
	m := r.mustDial(nameOf("arch", a) + bootA)
	m.write(4096, "one")
	m.write(100<<10, "two")
	if _, err := m.do(4, 200<<10, 8192, nil); err != nil { // TRIM
		t.Fatal(err)
	}
	for _, q := range []provider.OverlayQuery{
		{Machine: "ws01"}, {Machine: testMAC.String()}, {Machine: "127.0.0.1", Export: "arch"}, {Machine: hostWS01.String()}, {},
		{Machine: "ws", Export: nameOf("arch", a)},
	} {
		list, err := r.DiffOverlays(t.Context(), q, false)
		if err != nil || len(list) != 1 {
			t.Fatalf("%+v: %+v, %v", q, list, err)
		}
		d := list[0]
		want := []provider.Range{{Offset: 4096, Length: 4096}, {Offset: 100 << 10, Length: 4096}, {Offset: 200 << 10, Length: 8192}}
		if diff := cmp.Diff(want, d.Ranges); diff != "" {
			t.Error(diff)
		}
		if d.Blocks != 4 || d.Pieces != 3 || d.Bytes != 8192 || d.Limit != 4<<20 || d.Keep != "boot" || d.Machine != testMAC.String() ||
			d.Host != hostWS01 || len(d.Attached) != 1 || d.Artifact != a.Root.Digest || d.Generation != 1 || d.Created.IsZero() {
			t.Errorf("%+v", d)
		}
	}
	for _, q := range []provider.OverlayQuery{{Machine: "ws02"}, {Machine: "52:54:00:00:00:02"}, {Machine: "127.0.0.2"}, {Machine: "ws01", Export: "deb"}} {
		if list := r.Overlays(q); len(list) != 0 {
			t.Errorf("%+v: %+v", q, list)
		}
	}
	m.gone(r)
	list, err := r.DiffOverlays(t.Context(), ofTestMachine, false)
	if err != nil || len(list) != 1 || len(list[0].Attached) != 0 || list[0].Seen.IsZero() || list[0].Blocks != 4 {
		t.Errorf("%+v, %v", list, err)
	}
	r.mustDial(nameOf("arch", a)+bootB).read(0, 1) // then the former boot has ended
	r.wantData(1, "looking at one kept it")
}

func TestResetOverlays(t *testing.T) {
	for _, keep := range []schema.Keep{schema.KeepBoot, schema.KeepHost} {
		t.Run(string(keep), func(t *testing.T) {
			r := newRig(t)
			a, sealed := r.artifact(1, 1<<20)
			r.commit(r.keeping(1, a, keep))
			name := nameOf("arch", a)
			m := r.mustDial(name + bootA)
			m.write(0, "written")
			if _, err := r.ResetOverlays(t.Context(), ofTestMachine, false); !errors.Is(err, provider.ErrAttached) || !strings.Contains(err.Error(), "--force") {
				t.Errorf("attached: %v", err)
			}
			m.wantText(0, "written", "refused")
			list, err := r.ResetOverlays(t.Context(), ofTestMachine, true)
			if err != nil || len(list) != 1 || list[0].Export != name || list[0].Bytes == 0 {
				t.Fatalf("%+v, %v", list, err)
			}
			m.wantDropped("by force")
			r.wantData(0, "discarded")
			r.wantRefused(name+bootA, "its disk is gone from under it")
			r.restart()
			r.commit(r.keeping(1, a, keep))
			r.wantRefused(name+bootA, "after a restart")
			m = r.mustDial(name + bootB)
			m.wantText(0, string(sealed[:7]), "the next boot")
			m.write(0, "again")
			m.gone(r)
			if list, err := r.ResetOverlays(t.Context(), ofTestMachine, false); err != nil || len(list) != 1 {
				t.Errorf("%+v, %v", list, err)
			}
			if _, err := r.ResetOverlays(t.Context(), ofTestMachine, false); !errors.Is(err, provider.ErrNoOverlay) {
				t.Errorf("nothing is left: %v", err)
			}
			r.wantData(0, "discarded again")
		})
	}
}

// What is kept free for leases and records is no room for a copy of a disk.
func TestPromoteLeavesTheReserve(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 4<<20)
	r.commit(r.keeping(1, a, schema.KeepHost))
	r.mustDial(nameOf("arch", a)+bootA).write(10, "written")
	r.stop()
	r.reserve = 1 << 60
	r.start()
	r.commit(r.keeping(1, a, schema.KeepHost))
	if _, err := r.PromoteOverlay(t.Context(), ofTestMachine, true); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "leases") {
		t.Errorf("%v", err)
	}
}

// What is promoted is, to the byte, what the machine reads; the base's kernel goes with
// it; and the image block that names it finds it.
func TestPromoteOverlay(t *testing.T) {
	providertest.Need(t, "mke2fs", "e2fsck")
	r := newRig(t)
	a := r.ext4(4<<20 + 512)
	a.Kernel, a.Initrd, a.KernelVersion = provider.Blob{Digest: "sha256:kernel"}, provider.Blob{Digest: "sha256:initrd"}, "6.1"
	r.commit(r.keeping(1, a, schema.KeepHost))
	m := r.mustDial(nameOf("arch", a) + bootA)
	m.write(10, "written")
	if _, err := m.do(4, 1<<20, 2<<20, nil); err != nil { // TRIM
		t.Fatal(err)
	}
	digest := func() string {
		sum := sha256.Sum256(m.read(0, int(m.size)))
		return "sha256:" + hex.EncodeToString(sum[:])
	}
	if _, err := r.PromoteOverlay(t.Context(), ofTestMachine, false); !errors.Is(err, provider.ErrAttached) || !strings.Contains(err.Error(), "--live") {
		t.Errorf("attached: %v", err)
	}
	check := func(live bool, want string) {
		t.Helper()
		made, err := r.PromoteOverlay(t.Context(), ofTestMachine, live)
		if err != nil {
			t.Fatal(err)
		}
		if made.Sealed.Root.Digest != want || made.Sealed.Root.Size != a.Root.Size || made.Sealed.Kernel != a.Kernel || made.Sealed.Initrd != a.Initrd ||
			made.Sealed.KernelVersion != "6.1" || made.Sealed.Filesystem != "ext4" || !made.Sealed.Promoted || made.Artifact != a.Root.Digest {
			t.Errorf("%+v, want the root %s", made, want)
		}
		path, err := r.content.Path(want)
		if err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode() != 0o400 {
			t.Errorf("others may read it: %v", st.Mode())
		}
		if got := st.Sys().(*syscall.Stat_t).Blocks * 512; got > 3<<20 {
			t.Errorf("%d bytes on disk: a hole of 2 MiB is not one", got)
		}
		if made.Sealed.Recipe != schema.SealedRecipe(want, "ext4") {
			t.Errorf("recipe %s", made.Sealed.Recipe)
		}
	}
	check(true, digest())
	m.write(100, "more")
	want := digest()
	m.gone(r)
	check(false, want)
	check(false, want) // the same again
	left, err := os.ReadDir(filepath.Join(r.state, "tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestDiffFiles compares real file systems, of a disk that is attached and was never
// unmounted.
func TestDiffFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	providertest.Need(t, "mke2fs", "debugfs", "nbdcopy", "nbdsh")
	r := newRig(t)
	dir := t.TempDir()
	for path, text := range map[string]string{"etc/motd": "hello", "etc/gone": "x", "etc/same": "same", "usr/bin/tool": "tool"} {
		if err := os.MkdirAll(filepath.Join(dir, "root", filepath.Dir(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "root", path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	img, changed := filepath.Join(dir, "img"), filepath.Join(dir, "changed")
	run(t, "mke2fs", "-q", "-t", "ext4", "-d", filepath.Join(dir, "root"), img, "16M")
	run(t, "cp", "--sparse=always", img, changed)
	if err := os.WriteFile(filepath.Join(dir, "new"), []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, do := range []string{"rm /etc/gone", "write " + filepath.Join(dir, "new") + " /etc/new", "mkdir /srv/x", "mkdir /srv", "mkdir /srv/x", "set_inode_field /usr/bin/tool mode 0104755", "set_inode_field /usr/bin/tool ctime 20300101", "symlink /etc/link motd"} {
		run(t, "debugfs", "-w", "-R", do, changed)
	}
	f, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	blob, err := r.content.Put(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	a := provider.Artifact{Recipe: "sha256:recipe", Root: blob, Filesystem: "ext4"}
	r.commit(r.input(1, a))
	name := nameOf("arch", a)
	run(t, "nbdcopy", changed, fmt.Sprintf("nbd://%s/%s", r.addr, name))
	m := r.mustDial(name) // attached beside
	defer m.nc.Close()
	list, err := r.DiffOverlays(t.Context(), ofTestMachine, true)
	if err != nil {
		t.Fatal(err)
	}
	want := []provider.FileChange{
		{Action: "removed", Path: "/etc/gone", Kind: "file", Size: 1},
		{Action: "added", Path: "/etc/link", Kind: "symlink"},
		{Action: "added", Path: "/etc/new", Kind: "file", Size: 10},
		{Action: "added", Path: "/srv", Kind: "dir"},
		{Action: "added", Path: "/srv/x", Kind: "dir"},
		{Action: "changed", Path: "/usr/bin/tool", Kind: "file", Size: 4},
	}
	if diff := cmp.Diff(&provider.FilesDiff{Changes: want, All: 6}, list[0].Files); diff != "" {
		t.Error(diff)
	}
	if b, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(b), r.state) {
		t.Errorf("a mount is left: %v", err)
	}
	g, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	h := sha256.New()
	if _, err := io.Copy(h, g); err != nil {
		t.Fatal(err)
	}
	path, err := r.content.Path(blob.Digest)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if sum := sha256.Sum256(b); err != nil || hex.EncodeToString(sum[:]) != hex.EncodeToString(h.Sum(nil)) {
		t.Errorf("the sealed image was written to: %v", err)
	}
}

// Two machines, fifty generations, overlays of three kinds: neither ever reads what the
// other wrote, and once all are gone nothing is left of any of them.
func TestNothingLeaks(t *testing.T) {
	r := newRig(t)
	other := netip.MustParseAddr("127.0.0.2")
	r.clients.set(other, provider.Client{MAC: provider.MAC{2}, Subnet: subnetLAN})
	from := []netip.Addr{loopback, other}
	keeps := []schema.Keep{schema.KeepBoot, schema.KeepHost, schema.KeepConnection}
	const size, marks = 256 << 10, 32
	for gen := uint64(1); gen <= 50; gen++ {
		a, sealed := r.artifact(byte(gen), size)
		r.commit(r.keeping(gen, a, keeps[gen%3]))
		var ms []*machine
		for i, at := range from {
			m, err := r.dialFrom(at, fmt.Sprintf("%s+boot-%d-of-%d", nameOf("arch", a), gen, i))
			if err != nil {
				t.Fatal(err)
			}
			for k := range marks {
				m.wantText(k*8192+i, string(sealed[k*8192+i:k*8192+i+8]), "a fresh disk")
			}
			ms = append(ms, m)
		}
		for k := range marks {
			for i, m := range ms {
				m.write(k*8192, fmt.Sprintf("machine %d generation %2d", i, gen))
			}
		}
		for i, m := range ms {
			for k := range marks {
				m.wantText(k*8192, fmt.Sprintf("machine %d generation %2d", i, gen), "its own")
			}
			m.flush()
		}
		r.retire()
	}
	r.wantData(2, "each machine has its last")
	// Both boot what cannot be written, from a generation without the export.
	a, _ := r.artifact(51, size)
	in := r.input(51, a)
	in.Want.Exports, in.Want.Entries, in.Want.Hosts = in.Want.Exports[1:], in.Want.Entries[1:], nil
	in.Want.Bootloaders[0].Entries = []schema.Addr{entryRO}
	r.commit(in)
	for i, at := range from {
		if _, err := r.dialFrom(at, fmt.Sprintf("%s+boot-51-of-%d", nameOf("sealed", a), i)); err != nil {
			t.Fatal(err)
		}
	}
	for r.Counts().Open > 2 { // the former ones are dropped
		r.events.wait(t, "detach", kind(provider.EventDetach))
	}
	r.retire()
	r.wantData(0, "all are gone")
	if got := r.Overlays(provider.OverlayQuery{}); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	obs, err := r.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range obs {
		if o.Artifact != a.Root.Digest {
			t.Errorf("%+v keeps an artifact in the store", o)
		}
	}
}
