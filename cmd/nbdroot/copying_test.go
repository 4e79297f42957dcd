package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// copied gives the copy that one settling makes of /srv/app.
func copied(t *testing.T, m *machine) string {
	t.Helper()
	if err := m.settle(`{"version":1,"state":[{"path":"/srv/app","key":"k"}]}`, ""); err != nil {
		t.Fatalf("%v: %s", err, m.problems.String())
	}
	return filepath.Join(m.dir, stateFolder, "k/srv-app")
}

func TestCopyLostAttributes(t *testing.T) {
	m := newMachine(t, map[string]string{"srv/app/dir/": "", "srv/app/file": "f", "srv/app/link": "-> file"})
	app := filepath.Join(m.dir, "srv/app")
	// user:1:r-- and default entries, as setfacl(1) stores them: version, then tag,
	// permission and id of each.
	entry := func(tag, perm byte, id ...byte) []byte {
		if len(id) == 0 {
			id = []byte{255, 255, 255, 255}
		}
		return append([]byte{tag, 0, perm, 0}, id...)
	}
	acl := bytes.Join([][]byte{{2, 0, 0, 0}, entry(1, 6), entry(2, 4, 1, 0, 0, 0), entry(4, 4), entry(16, 4), entry(32, 0)}, nil)
	// cap_net_raw=ep: struct vfs_cap_data, revision 2, effective.
	capability := []byte{1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	want := []struct {
		file, name string
		value      []byte
	}{
		{"file", "user.note", []byte("a\x00b")}, {"file", "user.empty", nil}, {"file", "security.capability", capability},
		{"file", "system.posix_acl_access", acl}, {"dir", "system.posix_acl_default", acl}, {"dir", "trusted.of", []byte("root")},
		{"", "user.top", []byte("t")}, {"link", "trusted.link", []byte("l")},
	}
	if err := os.Chown(app+"/file", 5, 6); err != nil {
		t.Fatal(err)
	}
	for _, w := range want {
		if err := unix.Lsetxattr(filepath.Join(app, w.file), w.name, w.value, 0); errors.Is(err, unix.ENOTSUP) {
			t.Skipf("%s has no %s", m.dir, w.name)
		} else if err != nil {
			t.Fatal(w.name, err)
		}
	}
	state := copied(t, m)
	for _, w := range want {
		got := make([]byte, 100)
		n, err := unix.Lgetxattr(filepath.Join(state, w.file), w.name, got)
		if err != nil || !bytes.Equal(got[:n], w.value) {
			t.Errorf("%s of %q: %q, %v; want %q", w.name, w.file, got[:max(n, 0)], err, w.value)
		}
	}
	if names := xattrs(t, filepath.Join(state, "dir")); strings.Count(names, "\x00") != 2 {
		t.Errorf("the folder has %q", names)
	}
	if a, b := list(t, app), list(t, state); a != b {
		t.Errorf("%s\n%s", a, b)
	}
}

func xattrs(t *testing.T, file string) string {
	t.Helper()
	b := make([]byte, 1000)
	n, err := unix.Llistxattr(file, b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// Attributes that the target's file system cannot have are left behind.
func TestAttributesBetweenFileSystems(t *testing.T) {
	m := newMachine(t, map[string]string{"srv/app/file": "f", "var/lib/dlreconcile/": ""})
	if err := unix.Setxattr(filepath.Join(m.dir, "srv/app/file"), "user.note", []byte("x"), 0); err != nil {
		t.Skip(err)
	}
	ownMount(t, filepath.Join(m.dir, "var/lib/dlreconcile"), 0, "")
	if b, err := os.ReadFile(filepath.Join(copied(t, m), "file")); err != nil || string(b) != "f" {
		t.Errorf("%q, %v", b, err)
	}
}

// Holes are neither filled nor counted.
func TestCopyFilledHoles(t *testing.T) {
	m := newMachine(t, map[string]string{"srv/app/hole": "", "srv/app/middle": ""})
	const size = 3 << 30 // more than a state may have
	for name, at := range map[string]int64{"hole": -1, "middle": 1 << 30, "end": size - 4} {
		f, err := os.Create(filepath.Join(m.dir, "srv/app", name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(size); err != nil {
			t.Skip(err)
		}
		if at >= 0 {
			if _, err := f.WriteAt([]byte("data"), at); err != nil {
				t.Fatal(err)
			}
		}
	}
	state := copied(t, m)
	for name, at := range map[string]int64{"hole": -1, "middle": 1 << 30, "end": size - 4} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(state, name), &st); err != nil || st.Size != size || st.Blocks > 2048 {
			t.Errorf("%s: %d bytes in %d blocks, %v", name, st.Size, st.Blocks, err)
		}
		if at < 0 {
			continue
		}
		f, err := os.Open(filepath.Join(state, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b := make([]byte, 4)
		if _, err := f.ReadAt(b, at); err != nil || string(b) != "data" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

func TestWhiteoutRefusedTheState(t *testing.T) {
	m := newMachine(t, map[string]string{"srv/app/file": "f"})
	if err := unix.Mknod(filepath.Join(m.dir, "srv/app/deleted"), unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	copied(t, m)
	m.want(map[string]string{stateFolder + "/k/srv-app/deleted": "gone", stateFolder + "/k/srv-app/file": "f"})
}
