package cow

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// alone has the test go on in a process of its own, which has no descriptors but those
// that it opened itself; by is what begins it, if anything. It reports whether this is that
// process.
func alone(t *testing.T, by ...string) bool {
	t.Helper()
	const name = "COW_TEST_ALONE"
	if os.Getenv(name) != "" {
		return true
	}
	args := append(by, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), name+"=1")
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skipf("%s", out)
	case !bytes.Contains(out, []byte("--- PASS: "+t.Name())):
		t.Errorf("nothing was tested:\n%s", out)
	}
	return false
}

// descriptors has the process run out of them after n more, until the call of what it
// gives.
func descriptors(t *testing.T, n uint64) (again func()) {
	t.Helper()
	next, err := unix.Dup(0)
	must(t, err)
	unix.Close(next)
	var was unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(next) + n, Max: was.Max}))
	return func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was)) }
}

// An overlay that was made, and could not be opened for want of descriptors, was refused
// until the next start: two hundred machines that boot at once may want more than there are.
func TestOutOfDescriptorsForAMoment(t *testing.T) {
	if !alone(t) {
		return
	}
	s := openStore(t, t.TempDir(), "k")
	b := Base{Digest: "sha256:0", Size: 1 << 20}
	made := 0
	for n := uint64(1); ; n++ {
		key := testKey
		key.Instance = fmt.Sprint("boot-", n)
		again := descriptors(t, n)
		o, err := s.Open(key, b, evenly('b'), nil)
		again()
		if err == nil {
			o.Close()
			break
		}
		if !errors.Is(err, syscall.EMFILE) {
			t.Fatalf("%d descriptors: %v", n, err)
		}
		if _, err := os.Stat(filepath.Join(s.dir, key.String(), recordFile)); err == nil {
			made++
			if _, found := s.Lookup(key); !found {
				t.Errorf("%d descriptors: it is on disk, and not listed", n)
			}
		}
		if o, err = s.Open(key, b, evenly('b'), nil); err != nil {
			t.Errorf("%d descriptors, and more afterwards: %v", n, err)
			continue
		}
		if n > 20 {
			t.Fatal("nothing is enough")
		}
		o.Close()
	}
	if made == 0 {
		t.Error("none was made and not opened: the test shows nothing")
	}
}

// What could not be made is cleared away, without a descriptor more than that took.
func TestHalfMadeIsClearedAwayWithoutDescriptors(t *testing.T) {
	if !alone(t) {
		return
	}
	dir := tmpfs(t, 16)
	s := openStore(t, dir, "k")
	for n := uint64(1); ; n++ {
		again := descriptors(t, n)
		_, err := s.Open(testKey, Base{Digest: "sha256:0", Size: 8 << 30}, evenly('b'), nil) // its bitmaps are larger
		again()
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		if !errors.Is(err, syscall.EMFILE) || n > 20 {
			t.Fatal(err)
		}
	}
	if left := tree(t, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
