package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What a machine wrote may be made to take over a program that reads it. So such a
// program runs as nobody else does, with a root that holds the file, /usr and itself,
// all but the file (and a /dev/null and an mtab of its own) read-only; in process, network and IPC namespaces of its own; and
// within bounds. Beside the file it finds what any Debian package has in /usr, and the
// kernel: no file, socket or process of the server's.

// Bounds of a confined program. The memory that e2fsck takes goes with the number of
// files and of blocks.
const (
	confinedTime   = 10 * time.Minute
	confinedMemory = 2 << 20 // KiB
	confinedOutput = 4 << 10 // bytes that are kept of what it says
)

// confinedUser is whose process it is: nobody else's. It lies between what systemd gives
// to containers and what it advises against.
const confinedUser = 1_999_999_001

// confinedOOM has the kernel end it before others when memory is short: the daemon's own
// value, which it would inherit, is meant to keep the daemon.
const confinedOOM = 500

// confinedFile is the file, for the program.
const confinedFile = "/disk"

// bounded runs a program within limits, once it is told to on its standard input: memory
// in KiB, seconds of CPU time, and blocks of 512 bytes that a file may have. It writes no
// core, which would hold a machine's files.
const bounded = `{ read -r begin && ulimit -c 0 && ulimit -v "$1" && ulimit -t "$2" && ulimit -f "$3" && shift 3; } || exit 125; exec "$@"`

// confined runs a program on a file, which is confinedFile to it, and gives the beginning
// of what it says. ctx ends it. It takes root; without, nothing would hold the program.
func confined(ctx context.Context, program string, f *os.File, args ...string) (said string, err error) {
	if os.Geteuid() != 0 {
		return "", errors.New("the daemon has to run as root, to run it where it can do no harm")
	}
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	root, err := os.MkdirTemp(filepath.Dir(f.Name()), "root-")
	if err != nil {
		return "", err
	}
	defer os.Remove(root) // empty here: what is mounted there only the program sees
	if err := f.Chown(confinedUser, confinedUser); err != nil {
		return "", err
	}
	defer f.Chown(0, 0)
	inside := "/" + filepath.Base(program)
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", bounded, "sh", fmt.Sprint(confinedMemory), fmt.Sprint(int(confinedTime.Seconds())),
		fmt.Sprint(st.Size()/512 + 1), inside}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot: root, Credential: &syscall.Credential{Uid: confinedUser, Gid: confinedUser}, Setpgid: true, Pdeathsig: syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	cmd.WaitDelay = 5 * time.Second
	out := &head{}
	cmd.Stdout, cmd.Stderr = out, out
	err = onThread(func() error {
		if err := makeRoot(root, program, inside, f.Name()); err != nil {
			return fmt.Errorf("making a root for it: %w", err)
		}
		return runBounded(cmd)
	})
	return out.String(), err
}

// runBounded runs bounded, and lets it begin once it is the first to go when memory is
// short, and can be ended. The first process of a namespace takes all others with it.
func runBounded(cmd *exec.Cmd) error {
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	err = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), fmt.Append(nil, confinedOOM), 0)
	if err == nil && syscall.Kill(pid, 0) == syscall.EPERM {
		err = errors.New("the daemon could not end it: it has no CAP_KILL")
	}
	if err == nil {
		_, err = in.Write([]byte("\n"))
	}
	in.Close() // without a word it ends by itself
	if ended := cmd.Wait(); err == nil {
		err = ended
	}
	return err
}

// onThread calls do on a thread that ends after it, and that nothing else runs on: what do
// changes of the thread is gone with it. Children that die with their parent do not die
// before do is over.
func onThread(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // a thread that is still locked ends with its goroutine,
		if unix.Gettid() == unix.Getpid() {
			done <- onThread(do) // but for the first one
			runtime.UnlockOSThread()
			return
		}
		done <- do()
	}()
	return <-done
}

// makeRoot gives the calling thread a mount namespace of its own, in which dir is a root
// with what a program needs: the program itself, as inside, the file, and /usr.
func makeRoot(dir, program, inside, file string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil { // nobody else is to see what follows
		return &os.PathError{Op: "mount", Path: "/", Err: err}
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755,size=64k"); err != nil {
		return &os.PathError{Op: "mount", Path: dir, Err: err}
	}
	system := []string{"/usr", "/bin", "/sbin"}
	libraries, err := filepath.Glob("/lib*")
	if err != nil {
		return err
	}
	for _, path := range append(system, libraries...) {
		st, err := os.Lstat(path)
		switch {
		case err != nil:
			return err
		case st.IsDir():
			if err = os.Mkdir(dir+path, 0o755); err == nil {
				err = bind(path, dir+path, unix.MOUNT_ATTR_RDONLY)
			}
		case st.Mode()&os.ModeSymlink != 0: // into /usr
			var to string
			if to, err = os.Readlink(path); err == nil {
				err = os.Symlink(to, dir+path)
			}
		}
		if err != nil {
			return err
		}
	}
	for _, d := range []string{"/dev", "/etc"} {
		if err := os.Mkdir(dir+d, 0o755); err != nil {
			return err
		}
	}
	for _, empty := range []string{"/dev/null", "/etc/mtab"} { // e2fsck complains where it cannot open them
		err := os.WriteFile(dir+empty, nil, 0o666)
		if err == nil {
			err = os.Chmod(dir+empty, 0o666)
		}
		if err != nil {
			return err
		}
	}
	for _, b := range []struct {
		from, to string
		attr     uint64
	}{{program, inside, unix.MOUNT_ATTR_RDONLY}, {file, confinedFile, unix.MOUNT_ATTR_NOEXEC}} {
		err := os.WriteFile(dir+b.to, nil, 0o600)
		if err == nil {
			err = bind(b.from, dir+b.to, b.attr)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bind makes a path appear at another, with all that is mounted below it.
func bind(from, to string, attr uint64) error {
	err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
	if err == nil {
		err = unix.MountSetattr(unix.AT_FDCWD, to, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attr | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV})
	}
	if err != nil {
		return &os.PathError{Op: "bind", Path: from, Err: err}
	}
	return nil
}

// head keeps the beginning of what is written to it.
type head struct{ bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	h.Buffer.Write(p[:min(len(p), confinedOutput-h.Len())])
	return len(p), nil
}
