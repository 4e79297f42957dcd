package main

import (
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestConnectBody pins the bytes of CONNECT, as the kernel's policy in
// drivers/block/nbd.c reads them on a little-endian machine.
func TestConnectBody(t *testing.T) {
	got := hex.EncodeToString(connectBody(3, exportInfo{size: 1 << 30, flags: 0x12d}, 9))
	want := "01010000" + // CONNECT, version 1
		"0800" + "0100" + "03000000" +
		"0c00" + "0200" + "0000004000000000" +
		"0c00" + "0300" + "0002000000000000" +
		"0c00" + "0400" + "0500000000000000" +
		"0c00" + "0500" + "2d01000000000000" +
		"0c00" + "0600" + "0000000000000000" +
		"1000" + "0780" + "0c00" + "0180" + "0800" + "0100" + "09000000" +
		"0c00" + "0800" + "008d270000000000"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFamilyAnswer(t *testing.T) {
	group := func(name string, id uint32) []byte {
		return appendU32(appendAttr(nil, 1, append([]byte(name), 0)), 2, id)
	}
	groups := appendNested(appendNested(nil, 1, group("other", 8)), 2, group(nbdGroupName, 9))
	body := appendAttr(genlBody(1), 2, append([]byte("nbd"), 0))
	body = appendAttr(body, 1, []byte{0x21, 0})
	body = appendNested(body, 7, groups)
	family, id, err := parseFamily(body)
	if err != nil || family != 0x21 || id != 9 {
		t.Fatalf("family %d, group %d, %v", family, id, err)
	}
	if _, _, err := parseFamily(body[:len(body)-4]); err == nil {
		t.Fatal("a cut answer was taken")
	}
}

func TestLinkDeadIsForOurDevice(t *testing.T) {
	event := func(cmd uint8, index uint32) []byte { return appendU32(genlBody(cmd), attrIndex, index) }
	if !isLinkDead(event(cmdLinkDead, 2), 2) {
		t.Error("our own event was not seen")
	}
	for name, body := range map[string][]byte{
		"another device":  event(cmdLinkDead, 1),
		"another command": event(cmdConnect, 2),
		"no index":        genlBody(cmdLinkDead),
		"nothing":         nil,
	} {
		if isLinkDead(body, 2) {
			t.Errorf("%s was taken for our event", name)
		}
	}
}

func TestMessageRoundTrip(t *testing.T) {
	m := message{typ: 0x10, flags: 5, seq: 7, body: appendU32(genlBody(3), 1, 4)}
	got, err := parseMessages(append(m.encode(), message{typ: 2, body: []byte{0, 0, 0, 0}}.encode()...))
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	if diff := cmp.Diff(m, got[0], cmp.AllowUnexported(message{})); diff != "" {
		t.Error(diff)
	}
}

func FuzzNetlink(f *testing.F) {
	f.Add(message{typ: 0x10, body: connectBody(0, exportInfo{size: 1}, 3)}.encode())
	f.Add(message{typ: 2, body: []byte{255, 255, 255, 255}}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		ms, err := parseMessages(b)
		if err != nil {
			return
		}
		total := 0
		for _, m := range ms {
			total += nlHeaderLen + len(m.body)
			isLinkDead(m.body, 0)
			parseFamily(m.body)
			ackError(m.body)
		}
		if total > len(b) {
			t.Fatalf("%d bytes of messages in %d", total, len(b))
		}
	})
}
