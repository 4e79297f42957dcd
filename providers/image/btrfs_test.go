package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/schema"
)

// anyTree makes a tree that has everything that a root file system can have; devices,
// which no archive may bring, if they are wanted.
func anyTree(t *testing.T, devices bool) *build {
	t.Helper()
	providertest.NeedRoot(t)
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	old := time.Unix(1_500_000_000, 0)
	capability := []byte("\x01\x00\x00\x02\x00\x20\x00\x00" + strings.Repeat("\x00", 12))
	for _, err := range []error{
		os.MkdirAll(root+"/etc/empty", 0o755), os.MkdirAll(root+"/var/tmp", 0o755),
		os.WriteFile(root+"/etc/file", bytes.Repeat([]byte("text "), 100_000), 0o644), os.Link(root+"/etc/file", root+"/var/link"),
		os.WriteFile(root+"/etc/su", []byte("su"), 0o755), os.Chown(root+"/etc/su", 1000, 1001), unix.Chmod(root+"/etc/su", 0o6711),
		unix.Setxattr(root+"/etc/su", "user.mark", []byte("m"), 0), unix.Setxattr(root+"/etc/su", "security.capability", capability, 0),
		unix.Mkfifo(root+"/var/fifo", 0o600),
		os.Symlink("/etc/file", root+"/var/symlink"), os.Lchown(root+"/var/symlink", 3, 4),
		os.WriteFile(root+"/var/hole", nil, 0o600), os.Truncate(root+"/var/hole", 3<<20),
		unix.Chmod(root+"/var/tmp", 0o1777), os.Chown(root+"/etc/empty", 5, 6),
		os.Chtimes(root+"/etc/file", old, old), os.Chtimes(root+"/etc/empty", old, old), unix.Chmod(root, 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if devices {
		if err := errors.Join(unix.Mknod(root+"/var/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
			unix.Mknod(root+"/var/disk", unix.S_IFBLK|0o660, int(unix.Mkdev(8, 1)))); err != nil {
			t.Fatal(err)
		}
	}
	tr, err := openTree(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	img := newImage("any", func(i *schema.Image) { i.Filesystem = schema.Filesystem{Type: "btrfs", Size: 256 << 20, Label: "any"} })
	return &build{img: img, dir: dir, tree: tr, epoch: time.Unix(1_600_000_000, 0), report: func(step) {}}
}

// packTree describes a folder by the headers of an archive of it.
const packTree = "tar --create --sort=name --format=pax --numeric-owner --xattrs --xattrs-include='*' --directory="

func headers(t *testing.T, archive []byte) []string {
	t.Helper()
	var all []string
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s %c %o %d:%d %d,%d %s %d %q %s", h.Name, h.Typeflag, h.Mode, h.Uid, h.Gid, h.Devmajor, h.Devminor, h.Linkname,
			h.ModTime.Unix(), []string{h.PAXRecords["SCHILY.xattr.user.mark"], h.PAXRecords["SCHILY.xattr.security.capability"]}, sha(b)))
	}
}

// mounted gives the headers of what is in an image.
func mounted(t *testing.T, image string) []string {
	t.Helper()
	script := `at=$(mktemp -d) && mount -o loop,ro "$1" "$at" && ` + packTree + `"$at" .; s=$?; umount "$at"; rmdir "$at"; exit $s`
	var msg bytes.Buffer
	cmd := exec.Command("unshare", "--mount", "sh", "-c", script, "sh", image)
	cmd.Stderr = &msg
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, msg.String())
	}
	return headers(t, out)
}

func TestBtrfsHasTheWholeTree(t *testing.T) {
	providertest.Need(t, "mkfs.btrfs", "btrfs", "tar", "unshare", "losetup")
	sizes := map[string]int64{}
	for _, tt := range []struct {
		compress string
		devices  bool
	}{{"", false}, {"", true}, {"lzo", false}, {"zstd", true}} {
		compress := tt.compress
		t.Run(fmt.Sprintf("compress %s, devices %v", compress, tt.devices), func(t *testing.T) {
			b := anyTree(t, tt.devices)
			b.img.Filesystem.Compress = compress
			var told []string
			b.report = func(s step) { told = append(told, s.text) }
			if err := b.makeFilesystem(t.Context()); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("sh", "-c", packTree+b.tree.dir+" .").Output()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(b.dir, rootFile)
			// The first is the root, to which old tools give the time of the build.
			want, got := headers(t, out), mounted(t, file)
			if diff := cmp.Diff(want[1:], got[1:]); diff != "" || !strings.HasPrefix(got[0], "./ 5 755 0:0 ") {
				t.Error(diff, got[0])
			}
			if out, err := exec.Command("btrfs", "check", file).CombinedOutput(); err != nil || !strings.Contains(string(out), "no error found") {
				t.Errorf("btrfs check: %v: %s", err, out)
			}
			id, err := exec.Command("btrfs", "inspect-internal", "dump-super", file).Output()
			if err != nil || !strings.Contains(string(id), b.uuid("filesystem")) || !strings.Contains(string(id), "label\t\t\tany\n") {
				t.Errorf("super block: %v: %s", err, id)
			}
			var st unix.Stat_t
			if err := unix.Stat(file, &st); err != nil || st.Size != b.img.Filesystem.Size || st.Blocks*512 > 16<<20 {
				t.Errorf("%d bytes, %d of them on disk: %v", st.Size, st.Blocks*512, err)
			}
			sizes[compress] = st.Blocks * 512
			if strings.Contains(strings.Join(told, "\n"), "not compressed") {
				t.Errorf("told %q", told)
			}
			// Nothing of it stays: no mount, no loop device.
			if out, err := exec.Command("losetup", "--list", "--noheadings", "--output=BACK-FILE").Output(); err != nil || strings.Contains(string(out), b.dir) {
				t.Errorf("losetup: %v: %s", err, out)
			}
		})
	}
	if sizes["zstd"] >= sizes[""] || sizes["lzo"] >= sizes[""] {
		t.Errorf("on disk %v", sizes)
	}
}

// Without a way to mount, the image is as it would be without compression.
func TestBtrfsWithoutALoopDevice(t *testing.T) {
	providertest.Need(t, "mkfs.btrfs", "btrfs")
	b := anyTree(t, false)
	b.img.Filesystem.Compress = "zstd"
	can, err := mkfsBtrfsOptions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if can["--compress"] {
		t.Skip("this mkfs.btrfs compresses by itself")
	}
	// The kernel has no such compression, so the mount fails as any other.
	b.img.Filesystem.Compress = "brotli"
	var told []string
	b.report = func(s step) { told = append(told, s.text) }
	if err := b.makeFilesystem(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(told, "\n"), "the files are not compressed: mkfs.btrfs has no --compress, and sh: exit status 77") {
		t.Errorf("told %q", told)
	}
	if out, err := exec.Command("btrfs", "check", filepath.Join(b.dir, rootFile)).CombinedOutput(); err != nil {
		t.Errorf("btrfs check: %v: %s", err, out)
	}
}

func TestBtrfsTooSmall(t *testing.T) {
	providertest.Need(t, "mkfs.btrfs")
	noise := make([]byte, 70<<20) // that no compression makes small
	rand.NewChaCha8([32]byte{}).Read(noise)
	for _, tt := range []struct {
		compress string
		size     int64
		noise    []byte
	}{{"", 8 << 20, nil}, {"", 64 << 20, noise}, {"lzo", 64 << 20, noise}} {
		b := anyTree(t, false)
		if err := os.WriteFile(b.tree.dir+"/noise", tt.noise, 0o600); err != nil {
			t.Fatal(err)
		}
		b.img.Filesystem.Size, b.img.Filesystem.Compress = tt.size, tt.compress
		err := b.makeFilesystem(t.Context())
		var m *mistake
		if !errors.As(err, &m) || m.attr != "filesystem.size" {
			t.Errorf("%q, %d: %v", tt.compress, tt.size, err)
		}
	}
}

// A build of a btrfs image, from an archive to the artifact.
func TestBuildBtrfs(t *testing.T) {
	providertest.Need(t, "mkfs.btrfs", "unshare")
	p := fakeProvider(t)
	files := fstest.MapFS{}
	root := with(fakeRoot(t), entry{name: "usr/lib/modules/" + fakeVersion + "/kernel/fs/btrfs/btrfs.ko", body: "btrfs"})
	edit := func(i *schema.Image) {
		i.Filesystem = schema.Filesystem{Type: "btrfs", Size: 128 << 20, Compress: "zstd"}
	}
	a, err := prepare(t, p, files, tarImage(files, makeTar(t, root...), edit), nil)
	if err != nil {
		t.Fatal(err)
	}
	noScratch(t, p.Content)
	if a.Filesystem != "btrfs" || a.Root.Size != 128<<20 {
		t.Errorf("artifact %+v", a)
	}
	if got := strings.Join(mounted(t, blob(t, p, a.Root)), "\n"); !strings.Contains(got, "./usr/bin/ping4 1 ") || !strings.Contains(got, "./usr/bin/su 0 4755 ") {
		t.Error(got)
	}
	// A kernel without the file system cannot mount it.
	_, err = prepare(t, p, files, tarImage(files, makeTar(t, fakeRoot(t)...), edit), nil)
	if err == nil || !strings.Contains(err.Error(), "has no module btrfs") {
		t.Errorf("got %v", err)
	}
}
