package node

import (
	"errors"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// writes gives the number of the last write transaction: it grows with each one.
func (l *lab) writes() (n int) {
	l.t.Helper()
	err := l.db.View(func(tx *bbolt.Tx) error {
		n = tx.ID()
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

func TestRetransmittedDiscoverContinues(t *testing.T) {
	l := newLab(t)
	first := l.boot(macA, true, "PXEClient", "")
	if first.ID == "" || first.Generation != 1 {
		t.Fatalf("session %+v, want one on generation 1", first)
	}
	l.commit(2)
	before := l.writes()
	for range 3 {
		if again := l.boot(macA, true, "PXEClient", ""); again != first {
			t.Errorf("retransmitted DISCOVER got %+v, want %+v", again, first)
		}
	}
	if req := l.boot(macA, false, "PXEClient", ""); req != first {
		t.Errorf("REQUEST got %+v, want %+v", req, first)
	}
	if after := l.writes(); after != before {
		t.Errorf("continuing a session wrote %d times", after-before)
	}
}

// Firmware that repeats its DISCOVER for ever must not hold a generation for ever.
func TestUnansweredSessionEnds(t *testing.T) {
	l := newLab(t)
	first := l.boot(macA, true, "PXEClient", "")
	l.commit(2)
	for range 20 {
		l.pass(time.Minute)
		l.boot(macA, true, "PXEClient", "")
	}
	if now := l.boot(macA, true, "PXEClient", ""); now.ID == first.ID || now.Generation != 2 {
		t.Errorf("session after 20 minutes is %+v, want a new one on generation 2", now)
	}
	l.wantLive(2)
}

// A machine that was acknowledged and could fetch nothing starts anew, on the
// commit that mends it.
func TestFailedFetchStartsOnTheNewGeneration(t *testing.T) {
	for _, class := range []string{"", "iPXE"} {
		t.Run("class="+class, func(t *testing.T) {
			l := newLab(t)
			first := l.exchange(macA, addrA, "PXEClient", class)
			l.event(provider.Event{Kind: provider.EventFileError, Addr: addrA, Name: "b/x/boot.ipxe", Err: "aborted"})
			l.commit(2)
			again := l.boot(macA, true, "PXEClient", class)
			if again.ID == first.ID || again.Generation != 2 {
				t.Errorf("session %+v, want a new one on generation 2", again)
			}
		})
	}
}

func TestChainedIPXEContinues(t *testing.T) {
	l := newLab(t)
	s := l.firmware(macA, addrA)
	l.commit(2)
	l.file(addrA, provider.AnswerLoader, "b/tree1/undionly.kpxe")
	if got := l.ipxe(macA, addrA); got != s {
		t.Errorf("chain-loaded iPXE got %+v, want %+v", got, s)
	}
	if got := l.boot(macA, true, "PXEClient", "iPXE"); got != s {
		t.Errorf("iPXE that asks twice got %+v, want %+v", got, s)
	}
	l.load(addrA)
	if got := l.system(macA, addrA); got != s {
		t.Errorf("the initramfs got %+v, want %+v", got, s)
	}
	l.wantState(macA, StateBooting)
	l.wantLive(1)

	// Reset while the initramfs runs.
	if got := l.boot(macA, true, "PXEClient", ""); got.ID == s.ID || got.Generation != 2 {
		t.Errorf("after the reset the session is %+v, want a new one on generation 2", got)
	}
	l.wantLive(2)
}

func TestIPXEROMRebootOpensANewSession(t *testing.T) {
	l := newLab(t)
	s := l.ipxe(macA, addrA)
	l.load(addrA)
	l.commit(2)
	again := l.ipxe(macA, addrA)
	if again.ID == s.ID || again.Generation != 2 {
		t.Errorf("reboot got %+v, want a new session on generation 2", again)
	}

	l = newLab(t)
	up := l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	l.commit(2)
	again = l.ipxe(macA, addrA)
	if again.ID == up.ID || again.Generation != 2 {
		t.Errorf("reboot from userland got %+v, want a new session on generation 2", again)
	}
	l.wantLive(1, 2) // the old root may still be unmounting
}

func TestSystemThatNeverBootedHereHasNoSession(t *testing.T) {
	l := newLab(t)
	if s := l.system(macA, addrA); s != (provider.Session{}) {
		t.Errorf("session %+v, want none", s)
	}
	if n := l.Nodes(); len(n) != 0 {
		t.Errorf("nodes %+v, want none", n)
	}
}

// Lease options follow the commit at the next renewal, once a machine is up.
func TestRenewalAfterUserlandIsOnTheCurrentGeneration(t *testing.T) {
	l := newLab(t)
	l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	l.commit(2)
	if s := l.boot(macA, false, "", ""); s != (provider.Session{}) {
		t.Errorf("renewal got %+v, want no session", s)
	}
	l.wantLive(1)
}

// An image that does not phone home: renewals must not keep its session open.
func TestRenewalsDoNotProlongASession(t *testing.T) {
	l := newLab(t)
	l.ipxe(macA, addrA)
	l.load(addrA)
	l.system(macA, addrA)
	l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
	for range 5 {
		l.pass(5 * time.Minute)
		l.boot(macA, false, "", "")
		l.ack(macA, addrA, "", "")
	}
	if s := l.boot(macA, false, "", ""); s.ID != "" {
		t.Errorf("the session is still open after 25 minutes of renewals: %+v", s)
	}
	l.wantState(macA, StateUp)
	l.wantLive(1)
}

func TestIdleSessionEnds(t *testing.T) {
	l := newLab(t)
	l.firmware(macA, addrA)
	l.file(addrA, provider.AnswerLoader, "b/tree1/undionly.kpxe")
	l.wantLive(1)
	l.pass(DefaultSessionTimeout + time.Second)
	l.wantLive()
	l.wantState(macA, StateGone)
	if s := l.boot(macA, true, "PXEClient", "iPXE"); s.ID == "" {
		t.Error("iPXE after the timeout got no session")
	}
}

func TestBootFailsWhenItCannotBeWritten(t *testing.T) {
	l := newLab(t)
	if err := l.db.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := l.Boot(provider.Contact{MAC: macA, Discover: true, Vendor: "PXEClient"})
	if !errors.Is(err, berrors.ErrDatabaseNotOpen) {
		t.Fatalf("Boot gave %v, want the database's error", err)
	}
	if l.Err() == nil {
		t.Error("Err tells nothing")
	}
	// The retransmission must not be answered from memory alone.
	if _, err := l.Boot(provider.Contact{MAC: macA, Discover: true, Vendor: "PXEClient"}); err == nil {
		t.Error("the second Boot succeeded without the disk")
	}
}

func TestManyOpenAtOnceShareWrites(t *testing.T) {
	l := newLab(t)
	l.db.MaxBatchDelay = 50 * time.Millisecond
	before := l.writes()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			mac := provider.MAC{2, 0, 0, 0, 0, byte(i)}
			if s, err := l.Boot(provider.Contact{MAC: mac, Discover: true, Vendor: "PXEClient"}); err != nil || s.ID == "" {
				t.Errorf("%s: %+v, %v", mac, s, err)
			}
		}()
	}
	wg.Wait()
	if n := l.writes() - before; n > 20 {
		t.Errorf("200 machines cost %d writes", n)
	}
	l.crash()
	if n := len(l.Nodes()); n != 200 {
		t.Errorf("%d machines after the crash, want 200", n)
	}
}

// The boots of a suspended machine begin on the generation of the order, over a
// restart too, and those of others on what is served; a boot that has begun goes on
// where it is.
func TestSuspendedMachineStays(t *testing.T) {
	var mu sync.Mutex
	stays := uint64(0)
	set := func(n uint64) {
		mu.Lock()
		defer mu.Unlock()
		stays = n
	}
	l := newLab(t, func(c *Config) {
		c.Pinned = func(mac provider.MAC) uint64 {
			mu.Lock()
			defer mu.Unlock()
			if mac == macA {
				return stays
			}
			return 0
		}
	})
	l.commit(3)
	first := l.boot(macA, true, "PXEClient", "")
	set(2)
	if again := l.boot(macA, false, "PXEClient", ""); again != first || first.Generation != 3 {
		t.Errorf("a boot under way got %+v after %+v", again, first)
	}
	l.pass(20 * time.Minute)
	if s := l.boot(macA, true, "PXEClient", ""); s.Generation != 2 {
		t.Errorf("it boots on generation %d, want 2", s.Generation)
	}
	if s := l.boot(macB, true, "PXEClient", ""); s.Generation != 3 {
		t.Errorf("another machine boots on generation %d, want 3", s.Generation)
	}
	if n, ok := l.Node(macA); !ok || n.Stays != 2 || n.Generation != 2 {
		t.Errorf("%+v", n)
	}
	l.close()
	l.open()
	if live := l.Live(); !live[2] {
		t.Errorf("after a restart %v are live", live)
	}
	set(0)
	l.pass(20 * time.Minute)
	if s := l.boot(macA, true, "PXEClient", ""); s.Generation != 3 {
		t.Errorf("resumed, it boots on generation %d, want 3", s.Generation)
	}
}
