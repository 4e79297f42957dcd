package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	maxLinks = 40    // MAXSYMLINKS of the kernel
	maxSteps = 10000 // parts of a name with all of its links
)

// errHidden is a name in one of the kernel's file systems.
var errHidden = errors.New("a file system of the kernel would hide it")

// shown gives an error for a name without links that will lie under something else.
func (r *root) shown(name string) error {
	if hidden(name) {
		return errHidden
	}
	if lies, mounted := r.over[name]; mounted && lies == "" {
		return fmt.Errorf("the mount at %s would hide it", name)
	}
	return nil
}

// open opens name, also by a link in its last part unless flags hold O_NOFOLLOW. The
// name that the file has then (os.File.Name) has no links.
func (r *root) open(name string, flags int) (*os.File, error) {
	f, err := r.walk(name, flags)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return f, nil
}

// walk resolves a name as the machine will: the folder is the root directory, to
// which absolute links lead and which has nothing above it, and states are mounted.
// openat2(2) with RESOLVE_IN_ROOT could do the former, but only from Linux 5.6 on, and
// images may have older ones.
func (r *root) walk(name string, flags int) (*os.File, error) {
	dir, at := r.dir, "/"
	move := func(to *os.File, name string) {
		if dir != r.dir {
			dir.Close()
		}
		dir, at = to, name
	}
	defer func() { move(r.dir, "/") }()
	rest := strings.Split(path.Clean("/" + name)[1:], "/")
	links := 0
	for range maxSteps {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "..":
			// Again from the top: what is above a mounted state is not above where
			// it lies.
			rest = append(strings.Split(path.Dir(at)[1:], "/"), rest...)
			move(r.dir, "/")
			continue
		case "": // also behind the last slash of a link, which must lead to a folder then
			part = "."
		}
		last := len(rest) == 0
		if to, link := linkAt(dir, part); link && !(last && flags&unix.O_NOFOLLOW != 0) {
			if links++; links > maxLinks {
				break
			}
			if strings.HasPrefix(to, "/") {
				move(r.dir, "/")
			}
			rest = append(strings.Split(to, "/"), rest...)
			continue
		}
		how := unix.O_PATH | unix.O_DIRECTORY
		if last {
			how = flags
		}
		next := path.Join(at, part)
		f, err := r.step(dir, part, next, how)
		if err != nil || last {
			return f, err
		}
		move(f, next)
	}
	return nil, unix.ELOOP
}

// step opens what is called part in the folder dir, and next in the root.
func (r *root) step(dir *os.File, part, next string, how int) (*os.File, error) {
	if err := r.shown(next); err != nil {
		return nil, err
	}
	if lies, mounted := r.over[next]; mounted {
		state, err := r.under(nil).walk(lies, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		defer state.Close()
		dir, part = state, "."
	}
	fd, err := unix.Openat(int(dir.Fd()), part, how|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), next), nil
}

// linkAt reads a link; anything else, and nothing, is none.
func linkAt(dir *os.File, name string) (to string, link bool) {
	b := make([]byte, maxPath)
	n, err := unix.Readlinkat(int(dir.Fd()), name, b)
	return string(b[:max(n, 0)]), err == nil
}
