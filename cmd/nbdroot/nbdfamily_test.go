package main

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOneDeathTwoEvents(t *testing.T) {
	k := &kernelNBD{family: unix.GENL_ID_CTRL}
	for _, s := range []**nlSocket{&k.requests, &k.events} {
		var err error
		if *s, err = openNetlink(); err != nil {
			t.Fatal(err)
		}
	}
	defer k.close()
	// Answers of the controller stand for events: they, too, come from the kernel.
	ask := message{typ: unix.GENL_ID_CTRL, flags: unix.NLM_F_REQUEST, seq: 1,
		body: appendAttr(genlBody(unix.CTRL_CMD_GETFAMILY), unix.CTRL_ATTR_FAMILY_NAME, []byte("nlctrl\x00"))}
	for range 3 {
		if err := unix.Sendto(k.events.fd, ask.encode(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			t.Fatal(err)
		}
	}
	k.reconfigure(0) // the controller refuses it; the events come first
	if ms, err := k.events.receiveFlags(unix.MSG_DONTWAIT); !errors.Is(err, unix.EAGAIN) {
		t.Fatalf("%d messages are left, %v", len(ms), err)
	}
}
