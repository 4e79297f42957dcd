package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

func TestTimelineText(t *testing.T) {
	l := newLab(t)
	l.firmware(macA, addrA)
	l.file(addrA, provider.AnswerLoader, "b/tree1/undionly.kpxe")
	l.ipxe(macA, addrA)
	l.load(addrA)
	l.file(addrA, provider.AnswerKernel, "b/tree1/arch/vmlinuz") // a second time: not a new stage
	l.system(macA, addrA)
	l.phone(addrA, "initramfs")
	l.pass(20 * time.Second)
	l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
	l.phone(addrA, "attached")
	l.phone(addrA, "root")
	l.phone(addrA, "userland")
	tls := l.node(macA).Boots
	if len(tls) != 1 {
		t.Fatalf("%d timelines, want 1", len(tls))
	}
	var b strings.Builder
	if err := tls[0].Text(&b); err != nil {
		t.Fatal(err)
	}
	want := `boot of generation 1 at 2026-11-22T10:00:00Z
      0.20 s  dhcp       10.0.0.21 for firmware
      0.30 s  loader     b/tree1/undionly.kpxe, 4096 bytes over http
      0.60 s  dhcp       10.0.0.21 for iPXE
      0.70 s  script     b/tree1/boot.ipxe, 4096 bytes over http
      0.80 s  kernel     b/tree1/arch/vmlinuz, 4096 bytes over http
      0.90 s  initrd     b/tree1/arch/initrd.img, 4096 bytes over http
      1.30 s  dhcp       10.0.0.21 for system
      1.40 s  initramfs
     21.50 s  attach     arch@aaaaaaaaaaaa
     21.60 s  attached
     21.70 s  root
     21.80 s  userland
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("timeline (-want +got):\n%s", d)
	}
	l.restart()
	if d := cmp.Diff(tls, l.node(macA).Boots); d != "" {
		t.Errorf("the restart changed the timeline (-before +after):\n%s", d)
	}
}

func TestLastTimelinesAreKept(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Timelines = 2 })
	var ids []string
	for range 4 {
		ids = append(ids, l.ipxe(macA, addrA).ID)
		l.load(addrA)
	}
	l.boot(macA, true, "PXEClient", "") // leads to nothing, and takes no place for long
	l.boot(macA, false, "PXEClient", "")
	var got []string
	for _, tl := range l.node(macA).Boots {
		if len(tl.Stages) > 0 {
			got = append(got, tl.Session)
		}
	}
	if d := cmp.Diff(ids[3:], got); d != "" {
		t.Errorf("sessions with a timeline (-want +got):\n%s", d)
	}
}

func TestTimelineIsBounded(t *testing.T) {
	tl := &Timeline{Started: start}
	for i := range 1000 {
		tl.add(start, "file", strings.Repeat("x", i))
	}
	tl.add(start, "bad\x1b[2J", "\x00")
	if len(tl.Stages) != maxStages {
		t.Errorf("%d stages, want %d", len(tl.Stages), maxStages)
	}
	if got := printable("a\x1b[2Jb", maxWhat); got != `a\x1b[2Jb` {
		t.Errorf("printable gave %q", got)
	}
}

// A refusal was cut off before it said what to do.
func TestRefusalsAreNotCutOff(t *testing.T) {
	l := reserved(t)
	why := strings.Repeat("the disk cannot be had; ", 10) + "`dlreconcile image reset` discards it"
	l.event(provider.Event{Kind: provider.EventDenied, MAC: macA, Addr: addrA, Host: ws01, Name: strings.Repeat("n", 255), Err: why, Protocol: "nbd"})
	if text := stagesOf(t, l.node(macA)); !strings.Contains(text, why) {
		t.Errorf("%s\nhas no %q", text, why)
	}
}

func TestEvents(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Events = 4 })
	list, more := l.Events(0)
	if len(list) != 0 {
		t.Fatalf("%d events, want none", len(list))
	}
	select {
	case <-more:
		t.Fatal("the channel is closed before there is an event")
	default:
	}
	for range 6 {
		l.phone(addrA, "root")
	}
	<-more
	seqs := func(since uint64) (n []uint64) {
		list, _ := l.Events(since)
		for _, e := range list {
			n = append(n, e.Seq)
		}
		return n
	}
	for since, want := range map[uint64][]uint64{
		0:  {3, 4, 5, 6},
		4:  {5, 6},
		6:  nil,
		99: {2, 3, 4, 5, 6}, // a number from before a restart: a gap, and what there is
	} {
		if d := cmp.Diff(want, seqs(since)); d != "" {
			t.Errorf("events since %d (-want +got):\n%s", since, d)
		}
	}
}

func TestStream(t *testing.T) {
	l := newLab(t)
	l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- l.Stream(ctx, w, 0) }()
	dec := json.NewDecoder(r)
	have, _ := l.Events(0)
	for i, want := range have {
		var got Logged
		if err := dec.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got.Seq != uint64(i+1) {
			t.Errorf("event %d has number %d", i, got.Seq)
		}
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b provider.Event) bool { return a == b })); d != "" {
			t.Errorf("event %d (-want +got):\n%s", i, d)
		}
	}
	l.phone(addrA, "shutdown")
	var got Logged
	if err := dec.Decode(&got); err != nil || got.Name != "shutdown" || got.MAC != macA || got.Host != ws01 {
		t.Errorf("got %+v, %v, want the shutdown of %s", got, err, ws01)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Stream: %v", err)
	}
	stop := errors.New("enough")
	if err := l.Subscribe(context.Background(), 0, func(Logged) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Subscribe gave %v, want the callback's error", err)
	}
	b, err := json.Marshal(have[len(have)-1])
	if err != nil || !bytes.Contains(b, []byte(`"name":"userland"`)) || bytes.Contains(b, []byte(`"tree"`)) {
		t.Errorf("JSON of an event is %s, %v", b, err)
	}
}
