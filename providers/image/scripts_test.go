package image

import (
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
	cmd := exec.Command("chroot", dir, "/bin/sh", "/script")
	cmd.Env = []string{"PATH=/bin", "rootmnt=/root"}
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

func TestLocalBottom(t *testing.T) {
	const line = "root=/dev/nbd0 nbdroot=192.0.2.1,a@b,nbd0 dlreconcile.url=http://192.0.2.1 rw"
	const conf = "DEVICE='eth0'\nHOSTNAME='ws07'\nDNSDOMAIN='lab.example'\nIPV4DNS0='192.0.2.53'\nIPV4DNS1='0.0.0.0'\n"
	hosts := "127.0.0.1\tlocalhost\n127.0.1.1\timage\n\n::1\tlocalhost\n"
	tests := []struct {
		name, line, conf string
		root             map[string]string
		want             map[string]string // "" means that it is not there
	}{
		{"usual", line, conf, map[string]string{"etc/resolv.conf": "", "etc/hostname": "image\n", "etc/hosts": hosts}, map[string]string{
			"root/etc/resolv.conf":                          "search lab.example\nnameserver 192.0.2.53\n",
			"root/etc/hostname":                             "ws07\n",
			"root/etc/hosts":                                "127.0.0.1\tlocalhost\n127.0.1.1\tws07\n\n::1\tlocalhost\n",
			"run/systemd/network/00-dlreconcile.network":    "[Match]\nMACAddress=52:54:00:00:00:01\n\n[Link]\nUnmanaged=yes\nRequiredForOnline=no\n",
			"run/NetworkManager/conf.d/00-dlreconcile.conf": "[keyfile]\nunmanaged-devices=mac:52:54:00:00:00:01\n",
			"called": "phone http://192.0.2.1 root\n",
		}},
		{"dangling resolv.conf", line, conf, map[string]string{"etc/resolv.conf": "-> /run/nowhere"}, map[string]string{
			"root/etc/resolv.conf": "search lab.example\nnameserver 192.0.2.53\n"}},
		{"resolv.conf of its own", line, conf, map[string]string{"etc/resolv.conf": "nameserver 192.0.2.99\n"}, map[string]string{
			"root/etc/resolv.conf": "nameserver 192.0.2.99\n"}},
		{"systemd-resolved", line, conf, map[string]string{"etc/resolv.conf": "-> ../run/systemd/resolve/stub-resolv.conf"}, map[string]string{
			"run/systemd/resolved.conf.d/dlreconcile.conf": "[Resolve]\nDNS=192.0.2.53 \nDomains=lab.example\n",
			"root/etc/resolv.conf":                         ""}},
		{"DHCP gives nothing", line, "DEVICE='eth0'\nHOSTNAME=''\nIPV4DNS0='0.0.0.0'\n",
			map[string]string{"etc/resolv.conf": "", "etc/hostname": "image\n"}, map[string]string{"root/etc/hostname": "image\n", "root/etc/resolv.conf": "empty"}},
		{"a host name that is none", line, "DEVICE='eth0'\nHOSTNAME='a;b'\n", map[string]string{"etc/hostname": "image\n"},
			map[string]string{"root/etc/hostname": "image\n"}},
		{"not our boot", "root=/dev/sda1", conf, map[string]string{"etc/hostname": "image\n"},
			map[string]string{"root/etc/hostname": "image\n", "run/systemd/network/00-dlreconcile.network": "", "called": ""}},
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
