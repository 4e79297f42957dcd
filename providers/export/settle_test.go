package export

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/schema"
)

// crashed makes a file system as it is after a power cut: what a program wrote and synced
// is in its journal, or log, alone.
func crashed(t *testing.T, typ, img, copy string) {
	t.Helper()
	const script = `set -e
m=$(mktemp -d)
mount -t "$1" -o loop "$2" "$m"
echo synced > "$m/synced"
sync "$m/synced"
cp --sparse=always "$2" "$3"
umount "$m"
rmdir "$m"`
	run(t, "unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", typ, img, copy)
}

// What is sealed of a disk in use had a journal to be played back: who mounted it
// read-only saw files that were not there, or could not mount it.
func TestPromotePlaysTheJournalBack(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "mke2fs", "e2fsck", "debugfs", "dumpe2fs", "nbdcopy", "unshare")
	r := newRig(t)
	dir := t.TempDir()
	img, cut := filepath.Join(dir, "img"), filepath.Join(dir, "cut")
	run(t, "mke2fs", "-q", "-t", "ext4", img, "16M")
	b, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	crashed(t, "ext4", img, cut)
	if out := run(t, "dumpe2fs", "-h", cut); !strings.Contains(out, "needs_recovery") {
		t.Fatalf("its journal is empty:\n%s", out)
	}
	blob, err := r.content.Put(t.Context(), strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	a := provider.Artifact{Recipe: "sha256:recipe", Root: blob, Filesystem: "ext4"}
	r.commit(r.keeping(1, a, schema.KeepHost))
	run(t, "nbdcopy", cut, fmt.Sprintf("nbd://%s/%s", r.addr, nameOf("arch", a)))
	m := r.mustDial(nameOf("arch", a)) // it is in use
	defer m.nc.Close()
	made, err := r.PromoteOverlay(t.Context(), ofTestMachine, true)
	if err != nil {
		t.Fatal(err)
	}
	path, err := r.content.Path(made.Sealed.Root.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("e2fsck", "-fn", path).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	if out := run(t, "dumpe2fs", "-h", path); strings.Contains(out, "needs_recovery") || !strings.Contains(out, "state:         clean") {
		t.Errorf("%s", out)
	}
	if out := run(t, "debugfs", "-R", "cat /synced", path); !strings.Contains(out, "synced\n") {
		t.Errorf("what was synced is %q", out)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if sys := st.Sys().(*syscall.Stat_t); sys.Uid != 0 || sys.Gid != 0 || st.Mode().Perm()&0o222 != 0 {
		t.Errorf("%s of %d:%d", st.Mode(), sys.Uid, sys.Gid)
	}
	b, err = os.ReadFile(path)
	if sum := sha256.Sum256(b); err != nil || "sha256:"+hex.EncodeToString(sum[:]) != made.Sealed.Root.Digest {
		t.Errorf("it is not what its digest says: %v", err)
	}
	if m.wantText(0, string(m.read(0, 10)), "the machine goes on"); r.Counts().Open != 1 {
		t.Error("its connection is gone")
	}
}

// What cannot be made whole is not sealed, and the operator is told what to do.
func TestSettle(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "mke2fs", "e2fsck", "debugfs", "mkfs.btrfs")
	dir := t.TempDir()
	ext4 := func(name string, commands ...string) string {
		file := filepath.Join(dir, name)
		run(t, "mke2fs", "-q", "-t", "ext4", file, "16M")
		for _, c := range commands {
			run(t, "debugfs", "-w", "-R", c, file)
		}
		return file
	}
	type field struct {
		at    int64
		value []byte
	}
	change := func(file string, fields []field) {
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, x := range fields {
			if _, err := f.WriteAt(x.value, x.at); err != nil {
				t.Fatal(err)
			}
		}
	}
	nonsense := func(name, features string, fields ...field) string {
		file := filepath.Join(dir, name)
		run(t, "mke2fs", "-q", "-t", "ext4", "-O", features, file, "16M")
		change(file, fields)
		return file
	}
	// What a client wrote over the fields of a superblock that says that it is clean.
	all := []field{{ext4At, []byte("\xff\xff\xff\xff\xff\xff\xff\xff")}, {ext4At + 0x18, []byte("\xff\xff\xff\x00")}, {ext4At + 0x150, []byte("\xff\xff\x00\x00")}}
	btrfs := func(name string, sums string, right bool, fields ...field) string {
		file := filepath.Join(dir, name)
		run(t, "truncate", "-s", "128M", file)
		run(t, "mkfs.btrfs", "-q", "--csum", sums, file)
		change(file, fields)
		b := make([]byte, btrfsSize)
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.ReadAt(b, btrfsAt); err != nil {
			t.Fatal(err)
		}
		if right {
			change(file, []field{{btrfsAt, binary.LittleEndian.AppendUint32(nil, crc32.Checksum(b[btrfsSummed:], castagnoli()))}})
		}
		return file
	}
	log := field{btrfsAt + btrfsLogRoot + 1, []byte{1}}
	sum := func(file string) [32]byte {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return sha256.Sum256(b)
	}
	blank := filepath.Join(dir, "blank")
	run(t, "truncate", "-s", "1M", blank)
	for _, c := range []struct {
		file, typ string
		want      string // "": nothing is wrong, and nothing is changed; "mended": it is
	}{
		{ext4("clean"), "ext4", ""},
		{ext4("unmounted-not", "set_super_value state 0"), "ext4", "mended"},
		{ext4("errors", "set_super_value state 3"), "ext4", "mended"},
		{ext4("torn", "clri <2>", "set_super_value state 0"), "ext4", errTorn.Error()},
		{ext4("no-root", "clri <2>"), "ext4", errDamaged.Error()},
		{ext4("too-large", "set_super_value blocks_count 0xffffffffffff"), "ext4", errDamaged.Error()},
		{ext4("inodes", "set_super_value inodes_count 0xffffffff"), "ext4", errDamaged.Error()},
		{nonsense("nonsense", "metadata_csum", all...), "ext4", "checksum"},
		{nonsense("nonsense-old", "^metadata_csum", all...), "ext4", errDamaged.Error()},
		{ext4("elsewhere", "set_super_value journal_inum 0", "set_super_value state 0"), "ext4", "on another disk"},
		{ext4("device", "set_super_value journal_dev 0x0801", "set_super_value state 0"), "ext4", "on another disk"},
		{blank, "ext4", "no ext4"},
		{btrfs("btrfs", "crc32c", false), "btrfs", ""},
		{btrfs("btrfs-sha", "sha256", false), "btrfs", ""},
		{btrfs("btrfs-xx", "xxhash", false), "btrfs", ""},
		{btrfs("btrfs-log", "crc32c", true, log), "btrfs", errLog.Error()},
		{btrfs("btrfs-sum", "crc32c", false, log), "btrfs", "checksum"},
		{btrfs("btrfs-sha-sum", "sha256", false, log), "btrfs", "checksum"},
		{btrfs("btrfs-size", "crc32c", true, field{btrfsAt + btrfsTotalBytes + 5, []byte{1}}), "btrfs", "and the disk 134217728"},
		{btrfs("btrfs-two", "crc32c", true, field{btrfsAt + btrfsNumDevices, []byte{2}}), "btrfs", "2 devices"},
		{btrfs("btrfs-nodes", "crc32c", true, field{btrfsAt + btrfsNodeSize, []byte{1}}), "btrfs", "nonsense"},
		{blank, "btrfs", "no btrfs"},
		{blank, "squashfs", `"squashfs"`},
	} {
		before := sum(c.file)
		err := settle(t.Context(), c.file, c.typ)
		if c.want == "" || c.want == "mended" {
			if err != nil || (sum(c.file) == before) != (c.want == "") {
				t.Errorf("%s: %v, want %q", c.file, err, c.want)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "/dev/null") || strings.Contains(err.Error(), "mtab") {
			t.Errorf("%s: %v, want %q", c.file, err, c.want)
		}
	}
	t.Setenv("PATH", dir)
	if err := settle(t.Context(), ext4Again(t, filepath.Join(dir, "clean")), "ext4"); err == nil || !strings.Contains(err.Error(), "e2fsprogs") || remedy(err, true) != "" {
		t.Errorf("without e2fsck: %v", err)
	}
}

// Who had shut the machine down was told to do so, and to leave a flag out that he had not
// given.
func TestRemedy(t *testing.T) {
	for _, c := range []struct {
		err  error
		live bool
		want string
	}{
		{errLog, true, "`sync`"}, {errLog, false, inOrder}, {errTorn, true, shutDown}, {errTorn, false, inOrder},
		{errDamaged, true, checkIt}, {errDamaged, false, checkIt},
	} {
		got := remedy(fmt.Errorf("%w: so", c.err), c.live)
		if !strings.Contains(got, c.want) || !c.live && strings.Contains(got, "--live") {
			t.Errorf("%v, live %v: %q, want %q", c.err, c.live, got, c.want)
		}
	}
}

// ext4Again says of an ext4 that it was not unmounted.
func ext4Again(t *testing.T, file string) string {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{0}, ext4At+ext4State); err != nil {
		t.Fatal(err)
	}
	return file
}

// A btrfs that a program synced to a moment ago has a log; the kernel wrote it.
func TestPromoteRefusesALog(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "mkfs.btrfs", "unshare")
	dir := t.TempDir()
	img, cut := filepath.Join(dir, "img"), filepath.Join(dir, "cut")
	run(t, "truncate", "-s", "128M", img)
	run(t, "mkfs.btrfs", "-q", img)
	crashed(t, "btrfs", img, cut)
	if err := settle(t.Context(), cut, "btrfs"); err == nil || !errors.Is(err, errLog) {
		t.Errorf("%v", err)
	}
	if err := settle(t.Context(), img, "btrfs"); err != nil {
		t.Errorf("unmounted: %v", err)
	}
}
