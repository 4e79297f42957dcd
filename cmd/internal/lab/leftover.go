package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// removeLeftovers removes the namespaces and temporary folders of labs whose
// process is dead, and ends what still runs in those namespaces. What does not go is
// in nobody's way, and left to the next lab.
func removeLeftovers(ctx context.Context, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	for _, name := range deadNames(namespaceDir) {
		log.Info("removing the namespace of a lab whose process is gone", "namespace", name)
		if err := (namespace{name}).remove(ctx); err != nil {
			log.Warn("it stays", "namespace", name, "err", err)
		}
	}
	for _, name := range deadNames(os.TempDir()) {
		dir := filepath.Join(os.TempDir(), name)
		st, err := os.Lstat(dir)
		if err != nil || !st.IsDir() {
			continue
		}
		// Anybody may make names in /tmp: only our own go.
		if sys, ok := st.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Geteuid() {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			log.Warn("the folder of a lab whose process is gone stays", "dir", dir, "err", err)
		}
	}
}

// deadNames lists the names in a folder that a dead process's lab made.
func deadNames(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // none was ever made
	}
	var dead []string
	for _, e := range entries {
		if p, ok := owner(e.Name()); ok && !p.alive() {
			dead = append(dead, e.Name())
		}
	}
	return dead
}

// killAll ends every process whose main thread is inside the namespace, but this
// one, and waits until they have died. It is repeated until none is left, since a
// process may have forked meanwhile.
func (n namespace) killAll(ctx context.Context) error {
	for {
		pids, err := n.processes()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := n.kill(ctx, pid); err != nil {
				return err
			}
		}
	}
}

// processes lists who is inside the namespace.
func (n namespace) processes() ([]int, error) {
	var here unix.Stat_t
	if err := unix.Stat(n.path(), &here); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("%s: %w", n.path(), err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if inside(pid, here) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func inside(pid int, ns unix.Stat_t) bool {
	var st unix.Stat_t
	err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &st)
	return err == nil && st.Dev == ns.Dev && st.Ino == ns.Ino
}

// kill ends one process of the namespace and waits until it is dead, reaped or
// not.
func (n namespace) kill(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	// The descriptor holds one process; now that it cannot be another of the same
	// number, look again whether it is one of ours.
	var here unix.Stat_t
	if err := unix.Stat(n.path(), &here); err != nil || !inside(pid, here) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("killing process %d: %w", pid, err)
	}
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("process %d does not die: %w", pid, err)
		}
		const step = 200 * time.Millisecond // between looks at ctx
		got, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(step/time.Millisecond))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("process %d: %w", pid, err)
		}
		if got > 0 {
			return nil
		}
	}
}
