package store

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/statefile"
)

// LockedError says that another process has the state directory.
type LockedError struct {
	Dir     string
	PID     int    // 0 when unknown: it may be in another PID namespace
	Host    string // "" when unknown
	Command string // such as "dlreconcile serve"; "" when unknown
}

func (e *LockedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the state directory %s is in use by ", e.Dir)
	if e.Command != "" {
		b.WriteString(e.Command)
	} else {
		b.WriteString("another process")
	}
	if e.PID != 0 {
		fmt.Fprintf(&b, " (process %d", e.PID)
		if e.Host != "" {
			fmt.Fprintf(&b, " on %s", e.Host)
		}
		b.WriteByte(')')
	}
	return b.String()
}

// holder is what the lock file says.
type holder struct {
	PID     int    `json:"pid"`
	Host    string `json:"host"`
	Command string `json:"command"`
}

// lock is a held flock(2) on the lock file. The kernel keeps it per inode, so it
// holds against whoever reaches the directory by another path, and gives it up
// when this process dies, however it dies.
type lock struct{ f *os.File }

func takeLock(dir, command string, log *slog.Logger) (*lock, error) {
	path := filepath.Join(dir, "lock")
	for {
		f, err := statefile.Open(path, os.O_RDWR|os.O_CREATE, 0o644)
		if errors.As(err, new(*statefile.UnfitError)) {
			// Nobody who has it open that way holds it.
			if aside, err := statefile.SetAside(path, time.Now(), os.Rename); err == nil {
				log.Warn("what stands in the place of the lock file was set aside", "path", path, "as", filepath.Base(aside))
			} else if !missing(err) { // another start was sooner
				return nil, fmt.Errorf("state directory: lock: %w", err)
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("state directory: %w", err)
		}
		err = flock(f)
		if errors.Is(err, unix.EWOULDBLOCK) {
			held := whoHolds(dir, f)
			f.Close()
			return nil, held
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("state directory: lock %s: %w", path, err)
		}
		if !same(f, path) { // removed by hand between open and flock
			f.Close()
			continue
		}
		l := &lock{f: f}
		if err := l.sign(command); err != nil {
			// A full disk does not stop what is recorded from being served; a second
			// process is told less.
			log.Warn("cannot write who holds the lock", "error", err)
		}
		return l, nil
	}
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func same(f *os.File, path string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// sign writes who holds the lock, for the message that others see.
func (l *lock) sign(command string) error {
	if command == "" {
		command = filepath.Base(os.Args[0])
		// Only the verb: later arguments may hold secrets.
		if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
			command += " " + os.Args[1]
		}
	}
	host, _ := os.Hostname()
	b, err := json.Marshal(holder{PID: os.Getpid(), Host: host, Command: command})
	if err != nil {
		return err
	}
	if err := failpoint.Hit("store.lock.sign"); err != nil {
		return err
	}
	if err := l.f.Truncate(0); err != nil {
		return err
	}
	_, err = l.f.WriteAt(append(b, '\n'), 0)
	return err
}

// release gives the lock up. The file stays: removing it would let two processes
// lock two files of the same name.
func (l *lock) release() error {
	_ = l.f.Truncate(0) // nobody holds it
	if err := l.f.Close(); err != nil {
		return fmt.Errorf("state directory: lock: %w", err)
	}
	return nil
}

// whoHolds names the holder: the kernel knows its PID, the file the rest.
func whoHolds(dir string, f *os.File) *LockedError {
	var h holder
	if b, err := io.ReadAll(io.LimitReader(f, 4096)); err == nil {
		_ = json.Unmarshal(b, &h) // empty for a moment after the lock was taken
	}
	if pid := kernelHolder(f); pid != 0 && pid != h.PID {
		// The file is of an earlier holder, or of one in another PID namespace.
		h = holder{PID: pid}
		h.Host, _ = os.Hostname()
		if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil {
			h.Command = strings.TrimSpace(string(comm))
		}
	}
	return &LockedError{Dir: dir, PID: h.PID, Host: h.Host, Command: h.Command}
}

// kernelHolder looks up the file in /proc/locks, see proc_locks(5). 0 when it is
// not there: some file systems show another device number.
func kernelHolder(f *os.File) int {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return 0
	}
	want := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	list, err := os.Open("/proc/locks")
	if err != nil {
		return 0
	}
	defer list.Close()
	for sc := bufio.NewScanner(list); sc.Scan(); {
		// 1: FLOCK  ADVISORY  WRITE 1234 08:01:131102 0 EOF
		if w := strings.Fields(sc.Text()); len(w) >= 6 && w[1] == "FLOCK" && w[3] == "WRITE" && w[5] == want {
			if pid, err := strconv.Atoi(w[4]); err == nil && pid > 0 {
				return pid
			}
		}
	}
	return 0
}
