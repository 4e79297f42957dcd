package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// process names one process for good: process numbers come round again, the
// start time tells them apart.
type process struct {
	pid   int
	start uint64 // in clock ticks since the machine started, field 22 of proc(5) stat
}

// namePrefix starts the name of everything that a lab leaves visible outside.
const namePrefix = "dlr-"

// prefix starts the names of what the process makes: "dlr-<pid>-<start>-".
func (p process) prefix() string {
	return namePrefix + strconv.Itoa(p.pid) + "-" + strconv.FormatUint(p.start, 36) + "-"
}

// owner reads the process out of a name that begins with its prefix.
func owner(name string) (process, bool) {
	rest, ok := strings.CutPrefix(name, namePrefix)
	if !ok {
		return process{}, false
	}
	parts := strings.SplitN(rest, "-", 3)
	if len(parts) != 3 {
		return process{}, false
	}
	pid, err := strconv.Atoi(parts[0])
	if err != nil || pid <= 0 {
		return process{}, false
	}
	start, err := strconv.ParseUint(parts[1], 36, 64)
	if err != nil {
		return process{}, false
	}
	p := process{pid, start}
	// Only names that a process would have made: nobody else's are touched.
	return p, strings.HasPrefix(name, p.prefix())
}

func thisProcess() (process, error) {
	pid := os.Getpid()
	start, err := startTime(pid)
	return process{pid, start}, err
}

// alive reports whether the process runs still. When that cannot be found out it
// does, so that nothing of a living lab is removed.
func (p process) alive() bool {
	start, err := startTime(p.pid)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	return err != nil || start == p.start
}

func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in parentheses, which may hold
	// anything: count from its last parenthesis.
	_, rest, ok := cutLast(string(b), ")")
	fields := strings.Fields(rest)
	const start = 22 - 3 // rest begins with field 3
	if !ok || len(fields) <= start {
		return 0, fmt.Errorf("/proc/%d/stat: cannot be read: %q", pid, b)
	}
	return strconv.ParseUint(fields[start], 10, 64)
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
