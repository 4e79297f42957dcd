package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// list describes a tree: one line for each name.
func list(t *testing.T, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		what := ""
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			what = string(b)
		case unix.S_IFLNK:
			what, _ = os.Readlink(name)
		}
		rel, _ := filepath.Rel(dir, name)
		lines = append(lines, fmt.Sprintf("%s %o %d:%d %d %d %q", rel, st.Mode, st.Uid, st.Gid, st.Rdev, st.Mtim.Nano(), what))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func TestStateIsACopyOfTheImage(t *testing.T) {
	m := newMachine(t, map[string]string{"srv/app/a/b/file": "content", "srv/app/link": "-> /etc/passwd", "srv/app/empty/": ""})
	app := filepath.Join(m.dir, "srv/app")
	old := time.Unix(1e9, 5)
	for _, err := range []error{
		os.Chown(app+"/a/b/file", 5, 6), unix.Chmod(app+"/a/b/file", 0o4750),
		os.Lchown(app+"/link", 7, 8), unix.Chmod(app+"/empty", 0o1777), os.Chown(app, 9, 10),
		unix.Mkfifo(app+"/fifo", 0o620), unix.Mknod(app+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		os.Chtimes(app+"/a/b/file", old, old), os.Chtimes(app+"/a/b", old, old), os.Chtimes(app, old, old),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := list(t, app)
	l, err := net.Listen("unix", app+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chtimes(app, old, old); err != nil {
		t.Fatal(err)
	}
	if err := m.settle(`{"version":1,"state":[{"path":"/srv/app","key":"k"},{"path":"/srv/new","key":"k"}]}`, ""); err != nil {
		t.Fatalf("%v: %s", err, m.problems.String())
	}
	if diff := cmp.Diff(want, list(t, filepath.Join(m.dir, stateFolder, "k/srv-app"))); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"srv/new", stateFolder + "/k/srv-new"} {
		if st, err := os.Stat(filepath.Join(m.dir, name)); err != nil || !st.IsDir() || st.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
}

func TestHalfCopiedStateCountedAsMade(t *testing.T) {
	m := newMachine(t, map[string]string{
		"srv/app/file": "whole", "var/lib/dlreconcile/state/k/.dlreconcile-new/sub/file": "ha",
	})
	const json = `{"version":1,"state":[{"path":"/srv/app","key":"k"}]}`
	if err := m.settle(json, ""); err != nil {
		t.Fatal(err)
	}
	m.want(map[string]string{"var/lib/dlreconcile/state/k/srv-app/file": "whole", "var/lib/dlreconcile/state/k/srv-app/sub": "gone",
		"var/lib/dlreconcile/state/k/.dlreconcile-new": "gone"})
}

func TestStateIsBounded(t *testing.T) {
	m := newMachine(t, map[string]string{"srv/app/a": "12345", "srv/app/b": "67890", "srv/app/d/e/f/": ""})
	r, err := openRoot(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, most := range []limits{{9, 100, 9}, {10, 4, 9}, {10, 100, 2}} {
		dir := stateFolder + "/k/srv-app"
		if _, _, err := makeState(r, "/srv/app", dir, most); !errors.Is(err, errTooMuch) {
			t.Errorf("%+v: %v", most, err)
		}
		m.want(map[string]string{dir: "gone", stateFolder + "/k/" + freshName: "gone"})
	}
	if _, _, err := makeState(r, "/srv/app", stateFolder+"/k/srv-app", limits{10, 5, 3}); err != nil {
		t.Errorf("just enough: %v", err)
	}
}

// A folder that was made for a state below counted as the whole of the one above.
func TestStateAboveAnEarlierOne(t *testing.T) {
	m := newMachine(t, map[string]string{"var/lib/puppet/facts": "image", "var/lib/puppet/ssl/key": "image"})
	const inner, outer = `{"path":"/var/lib/puppet/ssl","key":"k"}`, `{"path":"/var/lib/puppet","key":"k"}`
	for _, states := range []string{inner, outer, inner + "," + outer} {
		if err := m.settle(`{"version":1,"state":[`+states+`]}`, ""); err != nil {
			t.Fatalf("%s: %v: %s", states, err, m.problems.String())
		}
	}
	const k = "var/lib/dlreconcile/state/k/"
	m.want(map[string]string{k + "var-lib-puppet-ssl/key": "image", k + "var-lib-puppet/facts": "image", k + "var-lib-puppet/ssl/key": "image"})

	// The mount point of the inner one is in the outer one, which is mounted first.
	m = newMachine(t, nil)
	if err := m.settle(`{"version":1,"state":[`+inner+","+outer+`]}`, ""); err != nil {
		t.Fatalf("%v: %s", err, m.problems.String())
	}
	if st, err := os.Stat(filepath.Join(m.dir, k+"var-lib-puppet/ssl")); err != nil || !st.IsDir() {
		t.Errorf("no mount point: %v", err)
	}
}

// The names are those of systemd-escape --path.
func TestEscapePath(t *testing.T) {
	for p, want := range map[string]string{
		"/var/lib/puppet": "var-lib-puppet", "/srv/a-b": `srv-a\x2db`, "/srv/a/b": "srv-a-b", "/.x/.y": `\x2ex-.y`,
		`/srv/a\x2db`: `srv-a\x5cx2db`, "/a b/ü:_": `a\x20b-\xc3\xbc:_`,
	} {
		if got := escapePath(p); got != want {
			t.Errorf("%s is %s, want %s", p, got, want)
		}
		if tool, err := exec.LookPath("systemd-escape"); err == nil {
			if out, err := exec.Command(tool, "--path", p).Output(); err != nil || strings.TrimSpace(string(out)) != want {
				t.Errorf("systemd-escape makes %q of %s: %v", out, p, err)
			}
		}
	}
}
