package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWalkIsTheKernels holds walk against openat2, which Linux has from 5.6 on.
func TestWalkIsTheKernels(t *testing.T) {
	outside := t.TempDir()
	files := map[string]string{
		"a/b/c/file": "1", "top": "2",
		"abs": "-> /a/b", "rel": "-> a/b", "up": "-> ../../../../a", "a/b/back": "-> ../..", "a/b/over": "-> ../../../../..",
		"chain": "-> /chain2/./c//", "chain2": "-> rel", "slash": "-> a/", "fileslash": "-> top/", "filedot": "-> top/.", "fileup": "-> top/..",
		"self": "-> self", "ping": "-> pong", "pong": "-> ping", "none": "-> /no/where", "out": "-> " + outside, "a/root": "-> /", "dot": "-> .",
		"a/b/c/far": "-> ../../../abs/c/file", "long": "-> " + strings.Repeat("a/../", 800) + "top",
		"l0": "-> top",
	}
	for i := range 45 { // some are too many
		files[fmt.Sprintf("l%d", i+1)] = fmt.Sprintf("-> l%d", i)
	}
	m := newMachine(t, files)
	r, err := openRoot(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	names := []string{"", ".", "..", "../..", "../top", "a/b/c/file/", "a/b/c/file/x", "top/..", "a/./b//c", "no", "no/x", "a/no", "out/x", "long/x",
		"abs/c/file", "rel/../top", "up/b/back/up/b/c/far", "a/root/a/root/a/root/top", "chain/file", "chain/back", "dot/dot/top", "slash/b/over/top",
		outside, "none/x", "abs/..", "rel/c/../../root/top"}
	for name := range files {
		names = append(names, name)
	}
	for _, name := range names {
		for _, flags := range []int{unix.O_PATH | unix.O_DIRECTORY, unix.O_PATH | unix.O_NOFOLLOW, unix.O_RDONLY, unix.O_RDONLY | unix.O_NOFOLLOW} {
			clean := strings.TrimPrefix(filepath.Clean("/"+name), "/") // as names are that walk gets
			if clean == "" {
				clean = "."
			}
			want := ""
			fd, err := unix.Openat2(int(r.dir.Fd()), clean, &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT})
			if errors.Is(err, unix.ENOSYS) {
				t.Skip("Linux before 5.6")
			}
			if err != nil {
				want = err.Error()
			} else {
				want = where(t, m.dir, fd)
				unix.Close(fd)
			}
			got := ""
			f, err := r.walk(name, flags)
			if err != nil {
				got = err.Error()
			} else {
				got = where(t, m.dir, int(f.Fd()))
				if f.Name() != got {
					t.Errorf("%q is %s, and is called %s", name, got, f.Name())
				}
				f.Close()
			}
			if got != want {
				t.Errorf("%q with %#x: %q, want %q", name, flags, got, want)
			}
		}
	}
}

// where gives what is open, as the root names it.
func where(t *testing.T, dir string, fd int) string {
	t.Helper()
	real, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(dir, real)
	if err != nil || strings.HasPrefix(rel, "..") {
		t.Errorf("%s is outside", real)
	}
	return filepath.Join("/", rel)
}

// A name that grows without an end is given up.
func TestWalkIsBounded(t *testing.T) {
	m := newMachine(t, map[string]string{"d/": "", "bomb0": "-> " + strings.Repeat("d/../", 800)})
	for i := range 30 {
		m.put(map[string]string{fmt.Sprintf("bomb%d", i+1): fmt.Sprintf("-> bomb%d/%sbomb%d", i, strings.Repeat("d/../", 700), i)})
	}
	r, err := openRoot(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if f, err := r.open("/bomb30", unix.O_PATH|unix.O_DIRECTORY); !errors.Is(err, unix.ELOOP) {
		t.Errorf("%v, %v", f, err)
	}
}
