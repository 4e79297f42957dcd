package node

import (
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// admit gives the record of a hardware address, made when there is none. When the
// tracker is full, the machine that was silent longest, of those that nothing
// hangs on, is forgotten; when something hangs on every one, admit gives nil. So a
// flood of invented hardware addresses costs a bounded amount of memory and disk,
// and no machine that boots or is up loses anything. The caller holds t.mu.
func (t *Tracker) admit(mac provider.MAC, now time.Time) *machine {
	if m := t.machines[mac]; m != nil {
		return m
	}
	if len(t.machines) >= t.cfg.MaxMachines {
		// A disk that does not take deletions any more stops newcomers, not memory.
		if len(t.dirty) >= 2*t.cfg.MaxMachines || !t.evict(now) {
			return nil
		}
	}
	m := &machine{mac: mac, seen: now}
	t.machines[mac] = m
	t.place(m)
	return m
}

// evict forgets one machine, and reports whether there was one to forget. The
// caller holds t.mu.
func (t *Tracker) evict(now time.Time) bool {
	last := t.loose.Back()
	if last == nil {
		// Timeouts are noticed when a machine is looked at; look now.
		for e := t.held.Back(); e != nil; {
			m, prev := e.Value.(*machine), e.Prev()
			if now.Sub(m.seen) <= t.cfg.SessionTimeout {
				break // all before it were seen later still
			}
			t.expire(m, now)
			if t.loose.Len() == 0 && m.booting == nil && m.running != nil && m.running.silent(now, t.cfg.SessionTimeout) {
				// Room is worth more than the root of a machine that is gone.
				t.setRunning(m, nil)
			}
			e = prev
		}
		if last = t.loose.Back(); last == nil {
			return false
		}
	}
	m := last.Value.(*machine)
	t.loose.Remove(last)
	delete(t.machines, m.mac)
	if t.addrs[m.addr] == m {
		delete(t.addrs, m.addr)
	}
	delete(t.dirty, m.mac)
	if t.stored[m.mac] {
		t.dirty[m.mac] = true // its record goes from the disk
		t.poke()
	}
	return true
}

// place puts m where evict looks for it. The caller holds t.mu.
func (t *Tracker) place(m *machine) {
	if t.machines[m.mac] != m {
		return
	}
	in := t.loose
	if m.isHeld() {
		in = t.held
	}
	if m.in == in {
		return
	}
	if m.elem != nil {
		m.in.Remove(m.elem)
	}
	m.in, m.elem = in, in.PushFront(m)
}

// alive notes a sign of life. The caller holds t.mu.
func (t *Tracker) alive(m *machine, now time.Time) {
	if now.After(m.seen) {
		m.seen = now
	}
	m.in.MoveToFront(m.elem)
}
