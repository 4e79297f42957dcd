package node

import (
	"context"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	ws01  = schema.Addr{Kind: "host", Name: "ws01"}
	lan   = schema.Addr{Kind: "subnet", Name: "lan"}
	arch  = schema.Addr{Kind: "image", Name: "arch"}
	macA  = provider.MAC{0x52, 0x54, 0, 0, 0, 1}
	macB  = provider.MAC{0x52, 0x54, 0, 0, 0, 2}
	addrA = netip.MustParseAddr("10.0.0.21")
	addrB = netip.MustParseAddr("10.0.0.22")
)

// lab is a tracker with a clock and a generation that the test sets.
type lab struct {
	t    *testing.T
	path string
	db   *bbolt.DB
	*Tracker
	cfg Config

	mu   sync.Mutex
	at   time.Time
	cur  uint64
	stop func()
}

func newLab(t *testing.T, change ...func(*Config)) *lab {
	t.Helper()
	l := &lab{t: t, path: filepath.Join(t.TempDir(), "state.db"), at: start, cur: 1}
	l.cfg = Config{Now: l.time, Current: l.current}
	for _, f := range change {
		f(&l.cfg)
	}
	l.open()
	t.Cleanup(l.close)
	return l
}

func (l *lab) open() {
	l.t.Helper()
	db, err := bbolt.Open(l.path, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		l.t.Fatal(err)
	}
	db.MaxBatchDelay = time.Millisecond
	l.db, l.cfg.DB = db, db
	l.Tracker, err = New(l.cfg)
	if err != nil {
		l.t.Fatal(err)
	}
}

// run starts the writer; close waits for it.
func (l *lab) run() {
	l.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	l.stop = func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Errorf("Run: %v", err)
		}
	}
}

func (l *lab) close() {
	if l.stop != nil {
		l.stop()
		l.stop = nil
	}
	if err := l.db.Close(); err != nil {
		l.t.Error(err)
	}
}

// restart stops the daemon in an orderly way and starts it again.
func (l *lab) restart() {
	l.t.Helper()
	if l.stop == nil {
		l.run()
	}
	l.close()
	l.open()
}

// crash loses everything that is not on disk.
func (l *lab) crash() {
	l.t.Helper()
	if l.stop != nil {
		l.t.Fatal("a crash cannot be played while the writer runs")
	}
	l.close()
	l.open()
}

func (l *lab) time() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at
}

func (l *lab) pass(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = l.at.Add(d)
}

func (l *lab) current() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cur
}

func (l *lab) commit(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cur = n
}

func (l *lab) boot(mac provider.MAC, discover bool, vendor, class string) provider.Session {
	l.t.Helper()
	l.pass(100 * time.Millisecond)
	s, err := l.Boot(provider.Contact{MAC: mac, Discover: discover, Vendor: vendor, Class: class})
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// exchange is DISCOVER, REQUEST and the acknowledgement, as one DHCP client does
// them. It gives the session of the DISCOVER, which must be that of the REQUEST.
func (l *lab) exchange(mac provider.MAC, addr netip.Addr, vendor, class string) provider.Session {
	l.t.Helper()
	s := l.boot(mac, true, vendor, class)
	if r := l.boot(mac, false, vendor, class); r != s {
		l.t.Fatalf("DISCOVER got session %v, its REQUEST %v", s, r)
	}
	l.ack(mac, addr, vendor, class)
	return s
}

func (l *lab) firmware(mac provider.MAC, addr netip.Addr) provider.Session {
	l.t.Helper()
	return l.exchange(mac, addr, "PXEClient", "")
}

func (l *lab) ipxe(mac provider.MAC, addr netip.Addr) provider.Session {
	l.t.Helper()
	return l.exchange(mac, addr, "PXEClient", "iPXE")
}

func (l *lab) system(mac provider.MAC, addr netip.Addr) provider.Session {
	l.t.Helper()
	return l.exchange(mac, addr, "", "")
}

func (l *lab) ack(mac provider.MAC, addr netip.Addr, vendor, class string) {
	l.event(provider.Event{Kind: provider.EventAck, MAC: mac, Addr: addr, Host: hostOf(mac), Subnet: lan, Vendor: vendor, Class: class, Protocol: "dhcp"})
}

func hostOf(mac provider.MAC) schema.Addr {
	if mac == macA {
		return ws01
	}
	return schema.Addr{}
}

func (l *lab) event(ev provider.Event) {
	l.pass(100 * time.Millisecond)
	ev.At = l.time()
	l.Event(ev)
}

func (l *lab) file(addr netip.Addr, role provider.AnswerKind, name string) {
	l.event(provider.Event{Kind: provider.EventFile, Addr: addr, Role: role, Name: name, Protocol: "http", Bytes: 4096, Tree: "tree1"})
}

// load fetches script, kernel and initrd.
func (l *lab) load(addr netip.Addr) {
	l.file(addr, provider.AnswerScript, "b/tree1/boot.ipxe")
	l.file(addr, provider.AnswerKernel, "b/tree1/arch/vmlinuz")
	l.file(addr, provider.AnswerInitrd, "b/tree1/arch/initrd.img")
}

func (l *lab) attach(addr netip.Addr, artifact, instance string, gen uint64) {
	l.event(provider.Event{Kind: provider.EventAttach, Addr: addr, Name: "arch@" + artifact, Artifact: "sha256:" + artifact, Instance: instance, Image: arch, Generation: gen, Protocol: "nbd"})
}

func (l *lab) detach(addr netip.Addr, artifact, instance string) {
	l.event(provider.Event{Kind: provider.EventDetach, Addr: addr, Name: "arch@" + artifact, Artifact: "sha256:" + artifact, Instance: instance, Protocol: "nbd"})
}

func (l *lab) phone(addr netip.Addr, stage string) {
	l.event(provider.Event{Kind: provider.EventPhone, Addr: addr, Name: stage, Protocol: "http"})
}

// up boots a machine with an iPXE ROM to userland.
func (l *lab) up(mac provider.MAC, addr netip.Addr, artifact, instance string) provider.Session {
	l.t.Helper()
	s := l.ipxe(mac, addr)
	l.load(addr)
	l.system(mac, addr)
	l.phone(addr, "initramfs")
	l.attach(addr, artifact, instance, s.Generation)
	l.phone(addr, "attached")
	l.phone(addr, "root")
	l.phone(addr, "userland")
	return s
}

func (l *lab) node(mac provider.MAC) Node {
	l.t.Helper()
	n, ok := l.Node(mac)
	if !ok {
		l.t.Fatalf("machine %s is not known", mac)
	}
	return n
}

func (l *lab) wantState(mac provider.MAC, state string) {
	l.t.Helper()
	if got := l.node(mac).State; got != state {
		l.t.Errorf("machine %s is %q, want %q", mac, got, state)
	}
}

func (l *lab) wantLive(gens ...uint64) {
	l.t.Helper()
	got := l.Live()
	for _, g := range gens {
		if !got[g] {
			l.t.Errorf("generation %d is not live, live are %v", g, got)
		}
	}
	if len(got) != len(gens) {
		l.t.Errorf("live are %v, want %v", got, gens)
	}
}
