package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// confinedTo has this test binary become the program that its arguments name, which can
// write to nothing but what is below that folder.
const confinedTo = "DLRECONCILE_TEST_CONFINED_TO"

// confine does that, and returns only with an error. The calling thread has the
// namespace, and is the one that goes on.
func confine(dir string, program []string) error {
	runtime.LockOSThread()
	if len(program) == 0 {
		return errors.New("no program")
	}
	readOnly := func(path string, flags uint, attr unix.MountAttr) error {
		return unix.MountSetattr(unix.AT_FDCWD, path, flags, &attr)
	}
	for _, step := range []func() error{
		func() error { return unix.Unshare(unix.CLONE_NEWNS) },
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return unix.Mount(dir, dir, "", unix.MS_BIND, "") },
		func() error {
			return readOnly("/", unix.AT_RECURSIVE, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		},
		func() error { return readOnly(dir, 0, unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}) },
		func() error { return os.Unsetenv(confinedTo) },
		func() error { return os.Setenv("TMPDIR", dir) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("confining %s to %s: %w", program[0], dir, err)
		}
	}
	return unix.Exec(program[0], program, os.Environ())
}

// confined gives a program that is bin, and can write only below dir.
func confined(t *testing.T, bin, dir string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := func(name, program string) string {
		path := filepath.Join(dir, name)
		text := fmt.Sprintf("#!/bin/sh\n%s='%s' exec '%s' '%s' \"$@\"\n", confinedTo, dir, self, program)
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// It holds, or the test is not run.
	outside, err := os.MkdirTemp("", "outside")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(outside)
	sh := script("sh", "/bin/sh")
	if out, err := exec.Command(sh, "-c", ": > "+filepath.Join(dir, "inside")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command(sh, "-c", ": > "+filepath.Join(outside, "file")).CombinedOutput(); err == nil {
		t.Fatalf("it writes elsewhere: %s", out)
	}
	return script("confined", bin)
}
