package image

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// The initramfs has klibc's shell, or busybox's; the root has dash.
func TestScriptsParse(t *testing.T) {
	providertest.Need(t, "busybox", "dash")
	entries, err := scripts.ReadDir("initramfs")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, e := range entries {
		text, err := scripts.ReadFile("initramfs/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "#!/bin/sh\n") {
			continue
		}
		checked++
		for _, sh := range [][]string{{"dash", "-n"}, {"busybox", "sh", "-n"}} {
			cmd := exec.Command(sh[0], sh[1:]...)
			cmd.Stdin = strings.NewReader(string(text))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %s: %s", e.Name(), sh[0], out)
			}
		}
		// mkinitramfs asks each script what must run before it.
		if e.Name() == "phone-home" {
			continue
		}
		out, err := exec.Command("dash", "-c", string(text), e.Name(), "prereqs").CombinedOutput()
		if err != nil || len(out) != 0 {
			t.Errorf("%s prereqs: %q, %v", e.Name(), out, err)
		}
	}
	if checked != 5 {
		t.Errorf("%d scripts, want 5", checked)
	}
	// klibc has none of these, and busybox need not be there.
	for _, name := range []string{"local-top", "local-bottom"} {
		text, _ := scripts.ReadFile("initramfs/" + name)
		for _, tool := range []string{"sed", "grep", "awk", "rm", "cut", "chmod", "cp", "touch", "ip", "pidof"} {
			for line := range strings.Lines(string(text)) {
				if f := strings.Fields(line); len(f) > 0 && f[0] == tool {
					t.Errorf("%s uses %s", name, tool)
				}
			}
		}
	}
}

// runBottom runs local-bottom on a machine that is a folder, and gives the root as
// it left it. The overlay, which needs mounts, is for the boots.
func runBottom(t *testing.T, cmdline, conf string, root map[string]string) (dir string) {
	t.Helper()
	return runScript(t, "local-bottom", cmdline, conf, root)
}

func runScript(t *testing.T, script, cmdline, conf string, root map[string]string) (dir string) {
	t.Helper()
	dir = initramfsFor(t, script, cmdline, conf, root)
	cmd := exec.Command("chroot", dir, "/bin/sh", "/script")
	cmd.Env = initramfsEnv()
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

func initramfsEnv() []string {
	return []string{"PATH=/bin", "rootmnt=/root", "BOOTIF=01-52:54:00:00:00:09"}
}

// initramfsFor makes a folder that has what a script of the initramfs needs, which is
// at /script.
func initramfsFor(t *testing.T, script, cmdline, conf string, root map[string]string) (dir string) {
	t.Helper()
	providertest.NeedRoot(t)
	dir = t.TempDir()
	put := func(name, text string) {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if to, ok := strings.CutPrefix(text, "-> "); ok {
			if err := os.Symlink(to, file); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put("bin/busybox", string(busybox(t)))
	for _, applet := range []string{"sh", "cat", "mkdir", "mv", "readlink"} {
		put("bin/"+applet, "-> busybox")
	}
	put("bin/nbdroot", "#!/bin/sh\necho \"$@\" >>/called\n")
	put("scripts/functions", "")
	put("proc/cmdline", cmdline+"\n")
	put("proc/mounts", "/dev/nbd0 /root ext4 rw,relatime 0 0\n")
	put("dev/null", "")
	put("sys/class/net/eth0/address", "52:54:00:00:00:01\n")
	if conf != "" {
		put("run/net-eth0.conf", conf)
	}
	text, err := scripts.ReadFile("initramfs/" + script)
	if err != nil {
		t.Fatal(err)
	}
	put("script", string(text))
	put("root/etc/passwd", "root\n")
	for name, text := range root {
		put("root/"+name, text)
	}
	return dir
}

// settles is an nbdroot that ends "settle" with a status.
func settles(status int) string {
	return fmt.Sprintf("#!/bin/sh\n[ \"$1\" != settle ] || exit %d\necho \"$@\" >>/called\n", status)
}

func TestLocalBottom(t *testing.T) {
	const line = "root=/dev/nbd0 nbdroot=192.0.2.1,a@b,nbd0 dlreconcile.url=http://192.0.2.1 rw"
	const conf = "DEVICE='eth0'\nHOSTNAME='ws07'\nDNSDOMAIN='lab.example'\nIPV4DNS0='192.0.2.53'\nIPV4DNS1='0.0.0.0'\n"
	tests := []struct {
		name, line, conf string
		root             map[string]string
		want             map[string]string // "" means that it is not there
	}{
		{"usual", line, conf, map[string]string{"etc/resolv.conf": ""}, map[string]string{
			"root/etc/resolv.conf":                          "search lab.example\nnameserver 192.0.2.53\n",
			"run/systemd/network/00-dlreconcile.network":    "[Match]\nMACAddress=52:54:00:00:00:01\n\n[Link]\nUnmanaged=yes\nRequiredForOnline=no\n",
			"run/NetworkManager/conf.d/00-dlreconcile.conf": "[keyfile]\nunmanaged-devices=mac:52:54:00:00:00:01\n",
			"called": "settle --root /root --mac 52:54:00:00:00:01 --hostname ws07\nphone http://192.0.2.1 root\n",
		}},
		{"dangling resolv.conf", line, conf, map[string]string{"etc/resolv.conf": "-> /run/nowhere"}, map[string]string{
			"root/etc/resolv.conf": "search lab.example\nnameserver 192.0.2.53\n"}},
		{"resolv.conf of its own", line, conf, map[string]string{"etc/resolv.conf": "nameserver 192.0.2.99\n"}, map[string]string{
			"root/etc/resolv.conf": "nameserver 192.0.2.99\n"}},
		{"systemd-resolved", line, conf, map[string]string{"etc/resolv.conf": "-> ../run/systemd/resolve/stub-resolv.conf"}, map[string]string{
			"run/systemd/resolved.conf.d/dlreconcile.conf": "[Resolve]\nDNS=192.0.2.53 \nDomains=lab.example\n",
			"root/etc/resolv.conf":                         ""}},
		{"DHCP gives nothing", line, "DEVICE='eth0'\nHOSTNAME=''\nIPV4DNS0='0.0.0.0'\n",
			map[string]string{"etc/resolv.conf": ""}, map[string]string{"root/etc/resolv.conf": "empty",
				"called": "settle --root /root --mac 52:54:00:00:00:01 --hostname \nphone http://192.0.2.1 root\n"}},
		{"a host name that is none", line, "DEVICE='eth0'\nHOSTNAME='-a;b  c'\n", nil, map[string]string{
			"called": "settle --root /root --mac 52:54:00:00:00:01 --hostname -a;b  c\nphone http://192.0.2.1 root\n"}},
		{"no interface known", line, "", nil, map[string]string{
			"called": "settle --root /root --mac 01-52:54:00:00:00:09 --hostname \nphone http://192.0.2.1 root\n"}},
		{"something is not in force", line, conf, map[string]string{"../bin/nbdroot": settles(1)}, map[string]string{
			"called": "phone http://192.0.2.1 settle-failed\nphone http://192.0.2.1 root\n", "panics": ""}},
		{"a root that takes no writes", line, conf, map[string]string{"../bin/nbdroot": settles(2),
			"../scripts/functions": "panic() { echo \"$*\" >>/panics; }\n"}, map[string]string{
			"called": "phone http://192.0.2.1 root\n", "panics": "dlreconcile: the root takes no writes\n"}},
		{"not our boot", "root=/dev/sda1", conf, nil,
			map[string]string{"run/systemd/network/00-dlreconcile.network": "", "called": ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := runBottom(t, tt.line, tt.conf, tt.root)
			for name, want := range tt.want {
				b, err := os.ReadFile(filepath.Join(dir, name))
				switch {
				case want == "" && err == nil:
					t.Errorf("%s is there: %q", name, b)
				case want == "empty" && (err != nil || len(b) > 0):
					t.Errorf("%s: %q, %v", name, b, err)
				case want != "" && want != "empty" && string(b) != want:
					t.Errorf("%s: %q, want %q (%v)", name, b, want, err)
				}
			}
		})
	}
}

// initramfsWith gives runScript a machine with a function panic that is left like
// the shell that it gives, and further functions.
func initramfsWith(functions string) map[string]string {
	return map[string]string{
		"../scripts/functions": "panic() { echo \"$*\" >>/panics; }\nwait_for_udev() { :; }\nmodprobe() { :; }\n" +
			"mount() { case \"$*\" in *tmpfs*) return 1 ;; esac; }\n" + functions,
		"../run/keep": "",
	}
}

func panics(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "panics"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

// A root with the option "ro" was never this machine's.
func TestReadOnlyRootIsRemounted(t *testing.T) {
	const conf = "DEVICE='eth0'\n"
	const settle = "settle --root /root --mac 52:54:00:00:00:01 --hostname \n"
	const mount = "mount() { echo \"mount $*\" >>/called; }\n"
	tests := []struct{ name, mounts, functions, want string }{
		{"read-only", "/dev/nbd0 /root ext4 ro,nosuid,noatime,errors=remount-ro 0 0", mount,
			"mount -n -o remount,rw,nosuid,noatime /dev/nbd0 /root\n" + settle + "mount -n -o remount,ro,nosuid,noatime /dev/nbd0 /root\n"},
		{"the storage too", "/dev/nbd0 /root ext4 ro 0 0", "mount() { echo \"mount $*\" >>/called; echo EROFS >&2; return 1; }\n",
			"mount -n -o remount,rw /dev/nbd0 /root\n" + settle},
		{"read-write", "/dev/nbd0 /root ext4 rw,errors=remount-ro 0 0", mount, settle},
		{"others are read-only", "/dev/nbd0 /root/usr ext4 ro 0 0\n/dev/nbd0 /root ext4 ro 0 0\n/dev/nbd0 /root ext4 rw 0 0", mount, settle},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := runBottom(t, "nbdroot=192.0.2.1,a@b,nbd0 ro", conf,
				map[string]string{"../proc/mounts": tt.mounts + "\n", "../scripts/functions": tt.functions})
			if b, err := os.ReadFile(filepath.Join(dir, "called")); string(b) != tt.want {
				t.Errorf("%q, %v; want %q", b, err, tt.want)
			}
		})
	}
	t.Run("overlay", func(t *testing.T) {
		dir := runBottom(t, "nbdroot=192.0.2.1,a@b,nbd0 ro dlreconcile.overlay=tmpfs", conf, map[string]string{
			"../proc/mounts": "overlay /root overlay ro 0 0\n", "../run/keep": "",
			"../scripts/functions": "modprobe() { :; }\npanic() { :; }\nmount() { case \"$*\" in *remount*) echo bad >>/called ;; *overlay*) mkdir -p /root ;; esac; }\n"})
		if b, err := os.ReadFile(filepath.Join(dir, "called")); string(b) != settle {
			t.Errorf("%q, %v; want %q", b, err, settle)
		}
	})
}

// The same with a real mount: the program can write, nobody after it.
func TestReadOnlyRootTakesSettings(t *testing.T) {
	providertest.Need(t, "unshare")
	dir := initramfsFor(t, "local-bottom", "nbdroot=192.0.2.1,a@b,nbd0 ro", "DEVICE='eth0'\n", map[string]string{
		"../bin/mount": "-> busybox", "../bin/nbdroot": "#!/bin/sh\necho settled >/root/settled || echo no >&2\n"})
	const script = `mount -t tmpfs -o ro,nosuid,noatime dlroot "$0/root" && mv "$0/proc/cmdline" "$0/cmdline" && rm "$0/proc/mounts" &&
		mount -t proc proc "$0/proc" && mount --bind "$0/cmdline" "$0/proc/cmdline" && chroot "$0" /bin/sh /script &&
		cat "$0/root/settled" && grep -o "^dlroot .*/root tmpfs [a-z,]*" /proc/mounts`
	cmd := exec.Command("unshare", "-m", "--propagation", "private", "/bin/sh", "-c", script, dir)
	cmd.Env = append(initramfsEnv(), "PATH="+os.Getenv("PATH")+":/bin")
	out, err := cmd.CombinedOutput()
	if want := "settled\ndlroot " + dir + "/root tmpfs ro,nosuid,noatime"; err != nil || !strings.HasPrefix(string(out), want) {
		t.Errorf("%v: %q, want %q", err, out, want)
	}
}

func TestOverlayInTheInitramfsOwnMemory(t *testing.T) {
	dir := runBottom(t, "nbdroot=192.0.2.1,a@b,nbd0 ro dlreconcile.overlay=tmpfs", "DEVICE='eth0'\n", initramfsWith(""))
	if got := panics(t, dir); got != "dlreconcile: no memory file system for the overlay can be mounted\n" {
		t.Errorf("panics: %q", got)
	}
}

func TestWentOnWithoutANetwork(t *testing.T) {
	const second = "configure_networking() { [ ! -e /panics ] || echo \"DEVICE='eth0'\" >/run/net-eth0.conf; }\n"
	dir := runScript(t, "local-top", "nbdroot=192.0.2.1,a@b,nbd0", "", initramfsWith(second))
	if got := panics(t, dir); got != "dlreconcile: no DHCP server answered\n" {
		t.Errorf("panics: %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "run/net-eth0.conf")); err != nil {
		t.Errorf("no second try after the shell: %v", err)
	}
}
