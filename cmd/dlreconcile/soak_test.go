package main

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

const (
	// soakApplies asks for more applies than soakFew, which make a test.
	soakApplies = "DLRECONCILE_TEST_SOAK"
	soakFew     = 100
	// soakInside says to this test binary that it is in a network of its own.
	soakInside = "DLRECONCILE_TEST_SOAK_INSIDE"

	soakRelay, soakPerfRelay = "127.0.2.251", "127.0.2.252"
	soakRate                 = 150 // exchanges a second of the one generator
	soakPerfRate             = 100 // and of the other one, which rests half of the time
	soakTotal                = 190 // both, at the least
	soakClients              = 500 // of each
)

// TestSoak applies commit after commit while fifty machines boot, read, write and load
// their files again, other people's clients do so too, and DHCP clients come and go.
// Nobody may notice anything, and the daemon may not grow.
func TestSoak(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "mke2fs", "ip", "grub-mkimage", "curl", "tftp", "atftp", "nbdcopy", "nbdsh", "qemu-img", "perfdhcp")
	if os.Getenv(soakInside) == "" {
		cmd := ownNetwork(t, os.Args[0], "TestSoak", soakInside+"=1")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
		if err := cmd.Run(); err != nil {
			t.Errorf("in a network of its own: %v", err)
		}
		return
	}
	applies := soakFew
	if s := os.Getenv(soakApplies); s != "" {
		var err error
		if applies, err = strconv.Atoi(s); err != nil || applies < soakFew {
			t.Fatalf("%s=%q: want a number of %d or more", soakApplies, s, soakFew)
		}
	}
	for _, line := range []string{
		"link set lo up",
		"address add " + soakPerfRelay + "/8 dev lo",
		// Who does not say from where it asks, asks from here.
		"route change local 127.0.0.1 dev lo table local proto kernel scope host src " + soakTools,
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
	r := newSoakRun(t)
	defer r.s.end()
	defer r.cancel()
	r.work()
	for n := 1; n <= applies; n++ {
		for _, kind := range r.site.edit() {
			r.kinds[kind]++
		}
		took := r.apply(false)
		r.list = append(r.list, soaked{took, r.meter.read(t, n%5 == 0)})
		if missing := r.deaf(); len(missing) > 0 {
			t.Errorf("apply %d: sockets are not listened on any more: %v", n, missing)
			break
		}
		if n%100 == 0 || n == applies/4 || n == applies {
			t.Log(r.line())
		}
	}
	r.end()
	r.tell()
	r.judge()
	r.flat()
	if t.Failed() {
		t.Logf("the daemon's log:\n%s", r.s.logged())
	}
}
