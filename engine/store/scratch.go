package store

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
)

// cleanScratch empties the folder of work in progress. A killed build may have
// left file systems mounted below it, the machine's own /dev or /proc among them:
// these are unmounted first, and what cannot be unmounted is not touched.
func cleanScratch(dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("scratch: %w", err)
	}
	mounts, err := mountsBelow(real)
	if err != nil {
		return fmt.Errorf("scratch: %w", err)
	}
	// The last mounted first.
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("scratch: unmount %s: %w", m, err)
		}
	}
	if mounts, err = mountsBelow(real); err != nil || len(mounts) > 0 {
		return fmt.Errorf("scratch: still mounted: %v: %w", mounts, errors.Join(err, unix.EBUSY))
	}
	list, err := os.ReadDir(real)
	if err != nil {
		return fmt.Errorf("scratch: %w", err)
	}
	var all error
	for _, e := range list {
		if err := failpoint.Hit("store.scratch.remove"); err != nil {
			return err
		}
		if err := os.RemoveAll(filepath.Join(real, e.Name())); err != nil {
			all = errors.Join(all, fmt.Errorf("scratch: %w", err))
		}
	}
	return all
}

// mountsBelow lists the mount points below dir, in the order of proc_pid_mountinfo(5).
func mountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20) // overlay options are long
	for sc.Scan() {
		w := strings.Fields(sc.Text())
		if len(w) < 5 {
			continue
		}
		if p := unescapeMount(w[4]); strings.HasPrefix(p, dir+"/") {
			out = append(out, p)
		}
	}
	return out, sc.Err()
}

// unescapeMount undoes the octal escapes of white space and backslash.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
