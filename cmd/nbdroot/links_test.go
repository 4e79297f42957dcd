package main

import (
	"net"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

func TestNormalMAC(t *testing.T) {
	for in, want := range map[string]string{
		"01-52-54-00-AB-cd-56": "52:54:00:ab:cd:56",
		"52-54-00-ab-cd-56":    "52:54:00:ab:cd:56",
		"01-52:54:00:ab:cd:56": "52:54:00:ab:cd:56", // GRUB's $net_default_mac after "01-"
		"01:52:54:00:ab:cd:56": "52:54:00:ab:cd:56",
		"01:02:03:04:05:06":    "01:02:03:04:05:06",
		"":                     "",
	} {
		if got := normalMAC(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestRaiseLinks(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "ip")
	// The thread ends with the test's goroutine, and the namespace with it.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	ip := func(args ...string) {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %s", args, out)
		}
	}
	ip("link", "add", "boot0", "address", "52:54:00:00:00:01", "type", "veth", "peer", "name", "far0")
	ip("link", "add", "other0", "address", "52:54:00:00:00:02", "type", "veth", "peer", "name", "far1")
	if err := raiseLinks("01-52-54-00-00-00-01", 100*time.Millisecond); err == nil {
		t.Fatal("a link without a carrier counted as ready")
	}
	up := func(name string) bool {
		l, err := net.InterfaceByName(name)
		if err != nil {
			t.Fatal(err)
		}
		return l.Flags&net.FlagUp != 0
	}
	if !up("boot0") || up("other0") {
		t.Fatal("want boot0 up and other0 left alone")
	}
	ip("link", "set", "far0", "up")
	if err := raiseLinks("01-52:54:00:00:00:01", 5*time.Second); err != nil {
		t.Fatal(err)
	}
}
