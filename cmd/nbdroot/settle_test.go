package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// machine is a root to settle.
type machine struct {
	t   *testing.T
	dir string
	said
}

// said is what was told.
type said struct{ log, problems strings.Builder }

func newMachine(t *testing.T, files map[string]string) *machine {
	t.Helper()
	providertest.NeedRoot(t)
	m := &machine{t: t, dir: t.TempDir()}
	m.put(files)
	return m
}

// put makes files; "-> X" makes a link, a name that ends in a slash a folder.
func (m *machine) put(files map[string]string) {
	m.t.Helper()
	for name, text := range files {
		file := filepath.Join(m.dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			m.t.Fatal(err)
		}
		to, link := strings.CutPrefix(text, "-> ")
		var err error
		switch {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(file, 0o755)
		case link:
			err = os.Symlink(to, file)
		default:
			err = os.WriteFile(file, []byte(text), 0o644)
		}
		if err != nil {
			m.t.Fatal(err)
		}
	}
}

const testMAC = "01-52:54:00:00:00:07"

// settle settles once, with settings as JSON.
func (m *machine) settle(json, dhcp string) error {
	m.t.Helper()
	r, err := openRoot(m.dir)
	if err != nil {
		m.t.Fatal(err)
	}
	defer r.Close()
	m.said = said{}
	s := &settling{root: r, limits: stateLimits(),
		log:     func(f string, a ...any) { fmt.Fprintf(&m.log, f+"\n", a...) },
		problem: func(f string, a ...any) { fmt.Fprintf(&m.problems, f+"\n", a...) }}
	if s.settings, err = readSettings(strings.NewReader(json)); err != nil {
		m.t.Fatal(err)
	}
	return s.run(testMAC, dhcp)
}

func (m *machine) want(files map[string]string) {
	m.t.Helper()
	for name, want := range files {
		file := filepath.Join(m.dir, name)
		switch st, err := os.Lstat(file); {
		case want == "gone":
			if err == nil {
				m.t.Errorf("%s is there", name)
			}
		case err != nil:
			m.t.Error(err)
		case strings.HasPrefix(want, "-> "):
			if to, err := os.Readlink(file); err != nil || "-> "+to != want {
				m.t.Errorf("%s: %q, %v; want %q", name, to, err, want)
			}
		case !st.Mode().IsRegular():
			m.t.Errorf("%s is %s", name, st.Mode())
		default:
			if b, err := os.ReadFile(file); err != nil || string(b) != want {
				m.t.Errorf("%s: %q, %v; want %q", name, b, err, want)
			}
		}
	}
}

// id is machineID of testMAC: SHA-256 of "dlreconcile machine 52:54:00:00:00:07".
const id = "65aeee66f0aba5228c29321f08e5dce4"

const whole = `{"version":1,"hostname":"ws01",
 "mounts":[{"path":"/var/log","type":"tmpfs","options":["nodev","nosuid"]},
           {"path":"/home","type":"nfs4","device":"10.0.0.9:/ho me","options":[]}],
 "files":[{"path":"/etc/secret","content":"c2VjcmV0Cg==","mode":416,"owner":8,"group":12},
          {"path":"/etc/motd","content":"aGVsbG8K"},
          {"path":"/var/lib/puppet/mine","content":"eA=="}],
 "state":[{"path":"/var/lib/puppet","key":"ws01"}],"later":{"unknown":[1]}}`

func TestSettle(t *testing.T) {
	m := newMachine(t, map[string]string{
		"etc/machine-id": "", "etc/hostname": "image\n", "etc/motd": "of the image\n", "var/log/": "",
		"etc/hosts":               "127.0.0.1\tlocalhost\n127.0.1.1\timage\n\n::1\tlocalhost\n",
		"etc/fstab":               "# none\n/dev/sdb1 /home ext4 defaults 0 2\n",
		"var/lib/dbus/machine-id": "0123456789abcdef0123456789abcdef\n",
		"var/lib/puppet/ssl/key":  "shared",
	})
	settled := map[string]string{
		"etc/machine-id": id + "\n", "var/lib/dbus/machine-id": id + "\n", "etc/hostname": "ws01\n",
		"etc/hosts":  "127.0.0.1\tlocalhost\n127.0.1.1\tws01\n\n::1\tlocalhost\n",
		"etc/secret": "secret\n",
		"etc/motd":   "hello\n",
		"etc/fstab":  "# none\n#dlreconcile# /dev/sdb1 /home ext4 defaults 0 2\n# BEGIN dlreconcile\n10.0.0.9:/ho\\040me /home nfs4 defaults 0 0\n/var/lib/dlreconcile/state/ws01/var-lib-puppet /var/lib/puppet none bind 0 0\ntmpfs /var/log tmpfs nodev,nosuid 0 0\n# END dlreconcile\n",
		"var/lib/dlreconcile/state/ws01/var-lib-puppet/mine":    "x",
		"var/lib/dlreconcile/state/ws01/var-lib-puppet/ssl/key": "shared",
		"var/lib/puppet/mine":    "gone",
		"etc/.dlreconcile-new":   "gone",
		"var/lib/puppet/ssl/key": "shared",
	}
	if err := m.settle(whole, "dhcp7"); err != nil || m.problems.Len() > 0 {
		t.Fatalf("%v: %s", err, m.problems.String())
	}
	m.want(settled)
	for name, want := range map[string]string{"etc/secret": "8:12 640", "etc/machine-id": "0:0 444", "etc/motd": "0:0 644", "home": "0:0 755"} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(m.dir, name), &st); err != nil {
			t.Error(err)
		} else if got := fmt.Sprintf("%d:%d %o", st.Uid, st.Gid, st.Mode&0o7777); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}

	// The next boot writes nothing again, and state is what the machine made of it.
	m.put(map[string]string{"var/lib/dlreconcile/state/ws01/var-lib-puppet/ssl/key": "of ws01"})
	settled["var/lib/dlreconcile/state/ws01/var-lib-puppet/ssl/key"] = "of ws01"
	before := inodes(t, m.dir)
	if err := m.settle(whole, ""); err != nil {
		t.Fatal(err)
	}
	m.want(settled)
	if after := inodes(t, m.dir); after != before {
		t.Errorf("written again:\n%s\n%s", before, after)
	}

	// Without settings, fstab is the image's again, and DHCP has its say.
	if err := m.settle(`{"version":1}`, "dhcp7"); err != nil {
		t.Fatal(err)
	}
	m.want(map[string]string{"etc/fstab": "# none\n/dev/sdb1 /home ext4 defaults 0 2\n", "etc/hostname": "dhcp7\n", "etc/machine-id": id + "\n"})
}

func inodes(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	for _, name := range []string{"etc/machine-id", "etc/hostname", "etc/hosts", "etc/fstab", "etc/secret", "etc/motd"} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, name), &st); err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(&b, name, " ", st.Ino, " ")
	}
	return b.String()
}

// Links of an image lead to where they will lead on the machine.
func TestLinksOfTheImageLeadOut(t *testing.T) {
	outside := t.TempDir()
	for _, name := range []string{"hosts", "fstab"} {
		if err := os.WriteFile(filepath.Join(outside, name), []byte("of the host\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := newMachine(t, map[string]string{
		"etc/hosts": "-> " + outside + "/hosts", "etc/fstab": "-> ../../../../../.." + outside + "/fstab",
		"srv":         "-> " + outside,
		"var/run":     "-> /run",
		"run/":        "",
		"var/lib/app": "-> /opt/app", "opt/app/data": "d",
		outside + "/": "", // the same name inside
	})
	err := m.settle(`{"version":1,"hostname":"ws01.lab.example",
	  "mounts":[{"path":"/srv/mnt","type":"tmpfs"}],
	  "files":[{"path":"/srv/x/y","content":"eA=="},{"path":"/../../../etc/z","content":"eg=="}],
	  "state":[{"path":"/var/lib/app"}]}`, "")
	if err != nil {
		t.Fatalf("%v: %s", err, m.problems.String())
	}
	m.want(map[string]string{
		outside + "/x/y": "x", "etc/z": "z", "etc/hosts": "127.0.0.1\tlocalhost\n127.0.1.1\tws01.lab.example\tws01\n",
		"var/lib/dlreconcile/state/52-54-00-00-00-07/var-lib-app/data": "d",
	})
	if b, err := os.ReadFile(filepath.Join(m.dir, "etc/fstab")); err != nil || !strings.Contains(string(b), "tmpfs /srv/mnt tmpfs defaults 0 0\n") {
		t.Errorf("fstab %q, %v", b, err)
	}
	for _, name := range []string{"hosts", "fstab"} {
		if b, err := os.ReadFile(filepath.Join(outside, name)); string(b) != "of the host\n" {
			t.Errorf("the host's %s is %q, %v", name, b, err)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 2 {
		t.Errorf("outside there are %v, %v", entries, err)
	}
}

// Whatever cannot be done is told, and everything else is done.
func TestWhatCannotBeSettledIsTold(t *testing.T) {
	tests := []struct{ name, json, want string }{
		{"host name", `"hostname":"a b"`, `host name: not a host name: "a b"`},
		{"a folder in the way", `"files":[{"path":"/etc/dir","content":""}]`, `file "/etc/dir": write /etc/dir: is a directory`},
		{"a file for a folder", `"files":[{"path":"/etc/motd/x","content":""}]`, `not a directory`},
		{"relative", `"files":[{"path":"etc/x","content":""}]`, `"etc/x" is not an absolute path`},
		{"a file of the kernel's", `"files":[{"path":"/run/x","content":""}]`, `a file system of the kernel would hide it`},
		{"a file below a mount", `"mounts":[{"path":"/var/log","type":"tmpfs"}],"files":[{"path":"/var/log/x","content":""}]`, `the mount at /var/log would hide it`},
		{"mode", `"files":[{"path":"/etc/x","content":"","mode":65536}]`, `not those of a file`},
		{"a file behind a link to the kernel's", `"files":[{"path":"/var/run/foo","content":""}]`, `a file system of the kernel would hide it`},
		{"a folder behind a link to the kernel's", `"files":[{"path":"/link/foo/a/b","content":""}]`, `a file system of the kernel would hide it`},
		{"a file behind a link to a mount", `"mounts":[{"path":"/srv","type":"tmpfs"}],"files":[{"path":"/other/x","content":""}]`, `the mount at /srv would hide it`},
		{"a file at a mount behind a link", `"mounts":[{"path":"/other","type":"tmpfs"}],"files":[{"path":"/srv/x/y","content":""}]`, `the mount at /srv would hide it`},
		{"a file that is a link's mount", `"mounts":[{"path":"/other/x","type":"tmpfs"}],"files":[{"path":"/srv/x","content":""}]`, `the mount at /srv/x would hide it`},
		{"two at one place by a link", `"mounts":[{"path":"/srv","type":"tmpfs"},{"path":"/other","type":"tmpfs"}]`, `mounted there already`},
		{"two states at one place by a link", `"state":[{"path":"/other","key":"a"},{"path":"/srv","key":"a"}]`, `mounted there already`},
		{"state behind a link to the kernel's", `"state":[{"path":"/var/run/a","key":"a"}]`, `a file system of the kernel would hide it`},
		{"state of all states by a link", `"state":[{"path":"/libs","key":"a"}]`, `it is /var/lib, and the states of all machines are kept in /var/lib/dlreconcile/state`},
		{"a mount over the states by a link", `"mounts":[{"path":"/libs","type":"tmpfs"}],"state":[{"path":"/srv/a","key":"a"}]`, `the mount at /libs hides`},
		{"a state with a long name", `"state":[{"path":"/` + strings.Repeat("-", 64) + `","key":"a"}]`, `file name too long`},
		{"owner", `"files":[{"path":"/etc/x","content":"","owner":-1}]`, `not those of a file`},
		{"the root", `"mounts":[{"path":"/","type":"ext4"}]`, `mount "/": / is the root itself`},
		{"no type", `"mounts":[{"path":"/mnt"}]`, `"" is not a type of file system`},
		{"a mount at a file", `"mounts":[{"path":"/etc/motd","type":"tmpfs"}]`, `not a directory`},
		{"two at one place", `"mounts":[{"path":"/mnt","type":"tmpfs"},{"path":"/mnt/.","type":"tmpfs"}]`, `mounted there already`},
		{"key", `"state":[{"path":"/var/lib/a","key":".."}]`, `".." names no machine`},
		{"key with a slash", `"state":[{"path":"/var/lib/a","key":"../x"}]`, `"../x" names no machine`},
		{"state of all states", `"state":[{"path":"/var/lib","key":"a"}]`, `kept in /var/lib/dlreconcile/state`},
		{"state among the states", `"state":[{"path":"/var/lib/dlreconcile/state/b","key":"a"}]`, `kept in /var/lib/dlreconcile/state`},
		{"state in /run", `"state":[{"path":"/run/a","key":"a"}]`, `file system of the kernel`},
		{"state of a file", `"state":[{"path":"/etc/motd","key":"a"}]`, `not a directory`},
		{"a mount over the states", `"mounts":[{"path":"/var","type":"tmpfs"}],"state":[{"path":"/srv/a","key":"a"}]`, `the mount at /var hides`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, map[string]string{"etc/motd": "m", "etc/dir/": "",
				"run/lock/": "", "var/run": "-> /run", "link": "-> ../var/run/lock/..", "srv/": "", "other": "-> srv", "var/lib/": "", "libs": "-> var/lib/"})
			err := m.settle(`{"version":1,`+tt.json+`}`, "")
			if err == nil || !strings.Contains(err.Error(), "1 settings of this machine are not in force") || !strings.Contains(m.problems.String(), tt.want) {
				t.Errorf("%v, %q; want %q", err, m.problems.String(), tt.want)
			}
			m.want(map[string]string{"etc/machine-id": id + "\n", "etc/motd": "m", "etc/.dlreconcile-new": "gone", "run/foo": "gone", "run/a": "gone", "srv/x/y": "gone"})
		})
	}
	m := newMachine(t, nil)
	if err := m.settle(`{"version":1,"mounts":[`+strings.Repeat(`{"path":"x"},`, 20)+`{"path":"x"}]}`, ""); err == nil || strings.Count(m.problems.String(), "\n") != maxTold+1 {
		t.Errorf("%v: %s", err, m.problems.String())
	}
}

// A link inside of a state leads to where it leads once the state is mounted, and a
// link to a state into it.
func TestFilesBehindLinksOfAState(t *testing.T) {
	m := newMachine(t, map[string]string{
		"var/lib/app/near": "-> ../other", "var/lib/app/self": "-> /var/lib/app/sub", "var/lib/app/sub/": "", "var/lib/other/": "",
		"app": "-> /var/lib/app", "var/lib/app/run": "-> /run", "var/lib/app/up": "-> sub/../..",
	})
	err := m.settle(`{"version":1,"state":[{"path":"/app","key":"k"}],"files":[
	  {"path":"/var/lib/app/near/a","content":"YQ=="},{"path":"/app/self/b","content":"Yg=="},{"path":"/var/lib/app/new/c","content":"Yw=="},
	  {"path":"/app/up/d","content":"ZA=="},{"path":"/app/run/e","content":"ZQ=="}]}`, "")
	if err == nil || m.problems.String() != "settle: file \"/app/run/e\": open /app/run: a file system of the kernel would hide it\n" {
		t.Errorf("%v: %s", err, m.problems.String())
	}
	const state = "var/lib/dlreconcile/state/k/app/"
	m.want(map[string]string{"var/lib/other/a": "a", state + "sub/b": "b", state + "new/c": "c", "var/lib/d": "d",
		"var/lib/app/sub/b": "gone", "var/lib/app/new": "gone", "run/e": "gone", "var/lib/dlreconcile/state/k/other": "gone"})
}

// ownMount mounts a memory file system that nobody else sees: the test's thread, and
// its name space with it, ends with the test.
func ownMount(t *testing.T, dir string, flags uintptr, data string) {
	t.Helper()
	providertest.NeedRoot(t)
	runtime.LockOSThread()
	for _, err := range []error{
		unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS),
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("none", dir, "tmpfs", flags, data),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) }) // on the same thread
}

func TestReadOnlyRoot(t *testing.T) {
	m := newMachine(t, nil)
	ownMount(t, m.dir, unix.MS_RDONLY, "")
	if err := m.settle(`{"version":1}`, "ws07"); err != nil || !strings.Contains(m.log.String(), "mounted read-only") {
		t.Errorf("nothing to write: %v, %s", err, m.log.String())
	}
	if err := m.settle(whole, ""); err == nil || !strings.Contains(m.problems.String(), "cannot be written to a read-only root") {
		t.Errorf("%v: %s", err, m.problems.String())
	}
}

func TestRootThatTakesNoWrites(t *testing.T) {
	m := newMachine(t, nil)
	ownMount(t, m.dir, 0, "nr_inodes=2")
	err := m.settle(`{"version":1}`, "")
	if _, is := err.(unwritable); !is || !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		t.Errorf("%v", err)
	}
}

func TestSettleVerb(t *testing.T) {
	m := newMachine(t, nil)
	file := filepath.Join(t.TempDir(), "settings.json")
	args := func(more ...string) []string {
		return append([]string{"settle", "--root", m.dir, "--settings", file}, more...)
	}
	if err := run(args("--mac", "52:54:00:00:00:07", "--hostname", "not;one"), io.Discard); err != nil {
		t.Errorf("without the file: %v", err)
	}
	m.want(map[string]string{"etc/machine-id": id + "\n", "etc/hostname": "gone"})
	if err := os.WriteFile(file, []byte(`{"version":2,"hostname":"later"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	// Of a later version nothing is understood; what every machine has is there.
	if err := run(args("--mac", "52:54:00:00:00:08", "--hostname", "ws08"), io.Discard); err == nil || !strings.Contains(err.Error(), "not in force") {
		t.Errorf("version 2: %v", err)
	}
	m.want(map[string]string{"etc/hostname": "ws08\n"})
	for _, bad := range [][]string{args(), args("--mac", "x", "y"), {"settle", "--mac", testMAC}, {"settle", "--root", "/nowhere", "--mac", testMAC}} {
		if err := run(bad, io.Discard); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if err := run(args("--mac", "eth0"), io.Discard); err == nil {
		t.Error("a machine without a hardware address was settled in silence")
	}
}

func TestMachineID(t *testing.T) {
	for _, spelling := range []string{testMAC, "52:54:00:00:00:07", "01-52-54-00-00-00-07", "01:52:54:00:00:00:07", "52-54-00-00-00-07"} {
		mac, err := parseMAC(spelling)
		if err != nil {
			t.Fatal(err)
		}
		if got := machineID(mac); got != id {
			t.Errorf("%s: %s, want %s", spelling, got, id)
		}
	}
	upper, err := parseMAC("01-52-54-00-AB-CD-EF")
	if err != nil || upper.String() != "52:54:00:ab:cd:ef" {
		t.Errorf("%v, %v", upper, err)
	}
}
