package node

import (
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

func TestCrashMidBoot(t *testing.T) {
	l := newLab(t)
	s := l.boot(macA, true, "PXEClient", "iPXE")
	l.commit(2)
	l.crash()
	l.wantLive(1)
	if got := l.boot(macA, false, "PXEClient", "iPXE"); got != s {
		t.Errorf("REQUEST after the crash got %+v, want %+v", got, s)
	}
	l.ack(macA, addrA, "PXEClient", "iPXE")
	l.load(addrA)
	l.restart()
	if got := l.system(macA, addrA); got != s {
		t.Errorf("the initramfs got %+v after the restart, want %+v", got, s)
	}
	if c, ok := l.ByAddr(addrA); !ok || c.Session != s.ID || c.Generation != 1 {
		t.Errorf("behind %s is %+v, want session %s", addrA, c, s.ID)
	}
	// The restart did not forget that this boot got as far as its files.
	if got := l.boot(macA, true, "PXEClient", "iPXE"); got.ID == s.ID || got.Generation != 2 {
		t.Errorf("reset after the restart got %+v, want a new session on generation 2", got)
	}
}

func TestRestartWhileUp(t *testing.T) {
	l := newLab(t)
	s := l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	l.commit(2)
	l.pass(24 * time.Hour)
	l.restart()
	l.wantLive(1)
	l.wantState(macA, StateUp)
	if !l.Holds(addrA, macB) {
		t.Error("after the restart the address of the running machine may be given away")
	}
	if l.node(macA).Connected {
		t.Error("connected before it has come back")
	}
	l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
	if n := l.node(macA); !n.Connected || n.Session != s.ID || n.Generation != 1 {
		t.Errorf("node %+v, want session %s on generation 1, connected", n, s.ID)
	}
	l.pass(24 * time.Hour)
	l.wantLive(1)

	// One that does not come back is given its timeout, from the restart on, and
	// further restarts do not lengthen it.
	l.restart()
	l.pass(DefaultRootTimeout - time.Minute)
	l.wantLive(1)
	l.restart()
	l.wantLive(1)
	l.pass(2 * time.Minute)
	l.wantLive(1)
	l.pass(DefaultSessionTimeout)
	l.wantLive()
	l.up(macA, addrA, "aaaaaaaaaaaa", "boot-2")
	l.detach(addrA, "aaaaaaaaaaaa", "boot-2")
	l.pass(DefaultRootTimeout - time.Minute)
	l.attach(addrA, "aaaaaaaaaaaa", "boot-2", 2)
	l.restart() // it was attached: what was before is forgotten
	l.pass(DefaultRootTimeout - time.Minute)
	l.wantLive(2)
	l.pass(2 * time.Minute)
	l.wantLive()
}

// Nobody watched while the daemon was down: that time does not count as idle.
func TestRestartGivesAFullTimeout(t *testing.T) {
	l := newLab(t)
	s := l.ipxe(macA, addrA)
	l.load(addrA)
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	l.close()
	l.pass(time.Hour)
	l.open()
	l.pass(DefaultSessionTimeout - time.Minute)
	if got := l.system(macA, addrA); got != s {
		t.Errorf("the initramfs got %+v, want %+v", got, s)
	}
}

func TestWhatIsWrittenIsNotWrittenAgain(t *testing.T) {
	l := newLab(t)
	l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	before := l.writes()
	l.ack(macA, addrA, "", "")
	l.phone(addrA, "anything")
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	if after := l.writes(); after != before {
		t.Errorf("%d writes although nothing changed that must survive", after-before)
	}
}

// The disk is full: the transaction fails at its commit, when everything has been
// put into it.
func TestFailedWriteStaysToBeDone(t *testing.T) {
	l := newLab(t)
	l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	l.db.MaxSize = 1
	l.db.AllocSize = 1
	var failed []provider.MAC
	for i := range 200 {
		mac := provider.MAC{2, 0, 0, 0, 0, byte(i)}
		if _, err := l.Boot(provider.Contact{MAC: mac, Discover: true, Vendor: "PXEClient"}); err != nil {
			failed = append(failed, mac)
		}
	}
	if len(failed) == 0 || l.Err() == nil {
		t.Fatalf("%d of 200 sessions failed on a full disk, Err %v", len(failed), l.Err())
	}
	for _, mac := range failed {
		if !l.dirty[mac] {
			t.Fatalf("%s could not be written and is forgotten", mac)
		}
	}
	if err := l.flush(); err == nil || !l.dirty[failed[0]] {
		t.Errorf("the second try gave %v", err)
	}

	// There is room again.
	l.db.MaxSize = 0
	if err := l.flush(); err != nil || l.Err() != nil || len(l.dirty) != 0 {
		t.Errorf("with room: %v, Err %v, %d still to write", err, l.Err(), len(l.dirty))
	}
	l.crash()
	if n := len(l.Nodes()); n != 201 {
		t.Errorf("%d machines on disk, want 201", n)
	}
}

func TestRestartWhileSpoofed(t *testing.T) {
	l := newLab(t)
	l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	l.commit(2)
	l.boot(macA, true, "PXEClient", "")
	l.restart()
	l.wantLive(1, 2)
	l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
	l.pass(DefaultSessionTimeout + time.Second)
	l.wantLive(1)
}

func TestRestartBetweenAttachAndUserland(t *testing.T) {
	l := newLab(t)
	s := l.ipxe(macA, addrA)
	l.load(addrA)
	l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
	l.restart()
	l.wantState(macA, StateBooting)
	l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
	l.phone(addrA, "userland")
	l.wantState(macA, StateUp)
	n := l.node(macA)
	if len(n.Boots) != 1 || !n.Boots[0].Complete || n.Boots[0].Session != s.ID {
		t.Errorf("timelines %+v, want one, complete", n.Boots)
	}
}

func TestUnreadableRecordIsSkipped(t *testing.T) {
	l := newLab(t)
	l.boot(macA, true, "PXEClient", "")
	err := l.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(Bucket))
		if err := b.Put(macB[:], []byte(`{"running":{"id":"x"}}`)); err != nil {
			return err
		}
		return b.Put([]byte("short"), []byte("{}"))
	})
	if err != nil {
		t.Fatal(err)
	}
	l.restart()
	if n := l.Nodes(); len(n) != 1 || n[0].MAC != macA {
		t.Errorf("nodes %+v, want %s alone", n, macA)
	}
	l.wantLive(1)
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"seen":"2026-11-22T10:00:00Z","booting":{"id":"A","generation":1,"opened":"2026-11-22T10:00:00Z","seen":"2026-11-22T10:00:00Z","root":{"instance":"i","generation":1}},"same":true}`))
	f.Add([]byte(`{"same":true}`))
	f.Add([]byte(`{"running":{"root":{}},"timeline":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(macA, b, start)
		if err != nil {
			return
		}
		// Whatever was read must be usable.
		m.state(start, DefaultSessionTimeout)
		m.real()
		m.node(start, &Config{SessionTimeout: DefaultSessionTimeout, Wall: func(t time.Time) time.Time { return t }})
		if _, err := m.encode(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFloodOfHardwareAddresses(t *testing.T) {
	const room = 64
	l := newLab(t, func(c *Config) { c.MaxMachines = room })
	s := l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	b := l.ipxe(macB, addrB)
	l.load(addrB)
	l.commit(2)
	l.run() // takes the forgotten ones off the disk
	for i := range 10 * room {
		mac := provider.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}
		if got := l.boot(mac, true, "PXEClient", ""); got.Generation != 2 {
			t.Fatalf("newcomer %d got %+v", i, got)
		}
	}
	if n := len(l.Nodes()); n > room {
		t.Errorf("%d machines are remembered, room is for %d", n, room)
	}
	if n := l.node(macA); n.State != StateUp || n.Session != s.ID {
		t.Errorf("the machine that is up became %+v", n)
	}
	if got := l.boot(macB, false, "", ""); got != b {
		t.Errorf("the machine in the middle of its boot got %+v, want %+v", got, b)
	}
	l.wantLive(1, 2)
	l.restart()
	var keys int
	if err := l.db.View(func(tx *bbolt.Tx) error {
		keys = tx.Bucket([]byte(Bucket)).Stats().KeyN
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if keys > room {
		t.Errorf("%d records on disk, room is for %d", keys, room)
	}
}

// The same on a disk that takes nothing: nobody may fill the memory with what waits
// to be written.
func TestFloodOnAFullDisk(t *testing.T) {
	const room = 64
	l := newLab(t, func(c *Config) { c.MaxMachines = room })
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	l.db.MaxSize, l.db.AllocSize = 1, 1
	refused := 0
	for i := range 6 * room {
		mac := provider.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}
		got, err := l.Boot(provider.Contact{MAC: mac, Discover: true, Vendor: "PXEClient"})
		if err != nil {
			refused++
		} else if got.ID == "" {
			t.Fatalf("there is no room for newcomer %d: %d machines that never reached the disk wait to be deleted from it", i, len(l.dirty))
		}
		if i%room == 0 {
			_ = l.flush() // as Run does
		}
	}
	if refused == 0 {
		t.Fatal("the disk was not full")
	}
	if len(l.dirty) > 2*room || len(l.stored) > 2*room+refused {
		t.Errorf("%d machines wait to be written and %d are taken to be on disk, room is for %d", len(l.dirty), len(l.stored), room)
	}

	// There is room again, and nobody is left on the disk who is not in memory.
	l.db.MaxSize = 0
	for range 2 {
		if err := l.flush(); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.dirty) != 0 || len(l.stored) != len(l.machines) {
		t.Errorf("%d to be written, %d on disk, %d in memory", len(l.dirty), len(l.stored), len(l.machines))
	}
	l.crash()
	if n := len(l.Nodes()); n != room {
		t.Errorf("%d machines on disk, want %d", n, room)
	}
}

// When every machine is needed, a newcomer is served without a record.
func TestNoRoomAtAll(t *testing.T) {
	l := newLab(t, func(c *Config) { c.MaxMachines = 1 })
	l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	if got := l.boot(macB, true, "PXEClient", ""); got != (provider.Session{}) {
		t.Errorf("got %+v, want no session", got)
	}
	l.wantState(macA, StateUp)
	// The first one leaves: there is room again.
	l.detach(addrA, "aaaaaaaaaaaa", "boot-1")
	l.pass(DefaultSessionTimeout + time.Minute)
	if got := l.boot(macB, true, "PXEClient", ""); got.ID == "" {
		t.Error("no session although the other machine is gone")
	}
}

// A restart of ours is nobody's boot: who had his disk taken away is known by when he booted.
func TestWhenABootBegan(t *testing.T) {
	l := newLab(t)
	s := l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	began := l.began(s.ID)
	for range 2 {
		l.pass(24 * time.Hour)
		l.restart()
		l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
		if c, ok := l.ByAddr(addrA); !ok || c.Session != s.ID || !c.Began.Equal(began) {
			t.Errorf("%+v, want session %s of %s", c, s.ID, began)
		}
	}
}
