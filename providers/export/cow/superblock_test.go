package cow

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// A file system that was lost, and mounted again in the same boot of the server, may have
// kept what live says and not the data: zeros that nobody wrote were served. Now only what
// was flushed counts then. What is not known changes nothing.
func TestMountedAnewOnlyFlushedCounts(t *testing.T) {
	for _, c := range []struct {
		name, was, is string
		all           bool
	}{
		{"the same", "a", "a", true},
		{"another", "a", "b", false},
		{"an older record", "", "b", true},
		{"not to be seen any more", "a", "", true},
		{"never known", "", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, b := t.TempDir(), Base{Digest: "sha256:0", Size: 100 * BlockSize}
			var log bytes.Buffer
			open := func(mounted string) *Store {
				s, err := OpenStore(dir, Config{BootID: "k", Log: slog.New(slog.NewTextHandler(&log, nil))})
				must(t, err)
				s.superblock = func(*os.File) string { return mounted }
				return s
			}
			o, err := open(c.was).Open(testKey, b, evenly('b'), nil)
			must(t, err)
			block := bytes.Repeat([]byte{'w'}, BlockSize)
			_, err = o.WriteAt(block, 3*BlockSize)
			must(t, err)
			must(t, o.Sync())
			_, err = o.WriteAt(block, 8*BlockSize)
			must(t, err)
			if !c.all { // that much was never written back
				must(t, unix.Fallocate(int(o.data.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 8*BlockSize, BlockSize))
			}
			o.Close()
			if !open(c.is).Touched(testKey) {
				t.Error("something was written to it")
			}
			for range 2 {
				o, err = open(c.is).Open(testKey, b, evenly('b'), nil)
				must(t, err)
				if o.rec.ServerMount != c.is {
					t.Errorf("the record has %q", o.rec.ServerMount)
				}
				for at, want := range map[int64]byte{3: 'w', 8: map[bool]byte{true: 'w', false: 'b'}[c.all]} {
					got := make([]byte, 1)
					if _, err := o.ReadAt(got, at*BlockSize); err != nil || got[0] != want {
						t.Errorf("block %d: %q (%v), want %q", at, got, err, want)
					}
				}
				o.Close()
			}
			if n := strings.Count(log.String(), "mounted anew"); n != map[bool]int{true: 0, false: 1}[c.all] {
				t.Errorf("told %d times:\n%s", n, log.String())
			}
		})
	}
}

func TestSuperblockThatIsNotKnown(t *testing.T) {
	d, err := openFolder(t.TempDir())
	must(t, err)
	defer d.Close()
	if got := superblock(d.File, t.TempDir()); got != "" {
		t.Errorf("without /sys: %q", got)
	}
	d, err = openFolder("/proc")
	must(t, err)
	defer d.Close()
	if got := superblock(d.File, sysfs); got != "" {
		t.Errorf("of /proc: %q", got)
	}
}

// A service may have a mount namespace of its own, another one with each start. That, a
// bind mount or a remount costs no machine what it wrote; a mount does what it did not flush.
func TestSuperblock(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "unshare", "mount", "mke2fs", "mkfs.btrfs")
	if !alone(t, "unshare", "--mount", "--propagation", "private") {
		return
	}
	for typ, mkfs := range map[string][]string{"ext4": {"mke2fs", "-q", "-t", "ext4"}, "btrfs": {"mkfs.btrfs", "-q"}} {
		t.Run(typ, func(t *testing.T) {
			dir := t.TempDir()
			img, disk, bound := filepath.Join(dir, "img"), filepath.Join(dir, "disk"), filepath.Join(dir, "bound")
			must(t, os.WriteFile(img, nil, 0o600))
			must(t, os.Truncate(img, 128<<20))
			must(t, os.Mkdir(disk, 0o700))
			must(t, os.Mkdir(bound, 0o700))
			run(t, append(mkfs, img)...)
			mount := []string{"mount", "-t", typ, "-o", "loop", img, disk}
			run(t, mount...)
			t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
			overlays := filepath.Join(disk, "overlays")
			first := mountedAt(t, disk)
			if !strings.HasPrefix(first, "sysfs:") {
				t.Fatalf("%q", first)
			}

			b := Base{Digest: "sha256:0", Size: 100 * BlockSize}
			o, err := openStore(t, overlays, "k").Open(testKey, b, evenly('b'), nil)
			must(t, err)
			block := bytes.Repeat([]byte{'w'}, BlockSize)
			_, err = o.WriteAt(block, 3*BlockSize)
			must(t, err)
			must(t, o.Sync())
			_, err = o.WriteAt(block, 8*BlockSize)
			must(t, err)
			o.Close()
			inNamespace(t, func() {
				before := mountID(t, overlays)
				defer unix.Unmount(disk, unix.MNT_DETACH) // the thread may end late
				run(t, "mount", "--bind", overlays, bound)
				defer unix.Unmount(bound, unix.MNT_DETACH)
				run(t, "mount", "-o", "remount,ro", disk)
				run(t, "mount", "-o", "remount,rw", disk)
				if mountID(t, bound) == before {
					t.Error("it is the same mount: the test shows nothing")
				}
				if got := mountedAt(t, bound); got != first {
					t.Errorf("%s in a namespace of its own, and %s before", got, first)
				}
				o, err := openStore(t, bound, "k").Open(testKey, b, evenly('b'), nil)
				must(t, err)
				defer o.Close()
				if got := o.present.n.Load(); got != 2 {
					t.Errorf("%d blocks are present in a namespace of its own", got)
				}
			})

			run(t, "umount", disk)
			run(t, mount...)
			if got := mountedAt(t, disk); got == first || !strings.HasPrefix(got, "sysfs:") {
				t.Errorf("%s when mounted again, %s before", got, first)
			}
			o, err = openStore(t, overlays, "k").Open(testKey, b, evenly('b'), nil)
			must(t, err)
			defer o.Close()
			if got := o.present.n.Load(); got != 1 || !o.present.has(3) {
				t.Errorf("%d blocks are present when mounted again", got)
			}
		})
	}
}

func run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Errorf("%q: %v\n%s", args, err, out)
		runtime.Goexit()
	}
}

func mountedAt(t *testing.T, path string) string {
	t.Helper()
	d, err := openFolder(path)
	must(t, err)
	defer d.Close()
	return superblock(d.File, sysfs)
}

func mountID(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Statx_t
	must(t, unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st))
	return st.Mnt_id
}

// inNamespace has f run on a thread with a mount namespace of its own.
func inNamespace(t *testing.T, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: it ends with the goroutine
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}
