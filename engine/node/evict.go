package node

import (
	"container/list"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// admit gives the record of a hardware address, made when there is none. When the
// tracker is full, the machine that was silent longest, of those that nothing
// hangs on, is forgotten; when something hangs on every one, admit gives nil. So a
// flood of invented hardware addresses costs a bounded amount of memory and disk,
// and no machine that boots or is up loses anything. Invented addresses of machines
// that nothing else is known of take a quarter of the room at most, and then each
// other's. The caller holds t.mu.
func (t *Tracker) admit(mac provider.MAC, now time.Time) *machine {
	if m := t.machines[mac]; m != nil {
		return m
	}
	_, guest := mac.Address()
	crowded := guest && t.guests.Len() >= max(1, t.cfg.MaxMachines/4)
	full := len(t.machines) >= t.cfg.MaxMachines
	// A disk that does not take deletions any more stops newcomers, not memory.
	if (crowded || full) && len(t.dirty) >= 2*t.cfg.MaxMachines {
		return nil
	}
	switch {
	case crowded:
		t.forget(t.guests.Back().Value.(*machine))
	case full && !t.evict(now):
		return nil
	}
	m := &machine{mac: mac, seen: now}
	t.machines[mac] = m
	t.place(m)
	return m
}

// evict forgets one machine, and reports whether there was one to forget. The
// caller holds t.mu.
func (t *Tracker) evict(now time.Time) bool {
	last := t.oldest()
	if last == nil {
		// Timeouts are noticed when a machine is looked at; look now.
		for e := t.held.Back(); e != nil; {
			m, prev := e.Value.(*machine), e.Prev()
			if now.Sub(m.seen) <= t.cfg.SessionTimeout {
				break // all before it were seen later still
			}
			t.expire(m, now)
			if t.oldest() == nil && m.booting == nil && m.running != nil && m.running.silent(now, t.cfg.SessionTimeout) {
				// Room is worth more than the root of a machine that is gone.
				t.setRunning(m, nil)
			}
			e = prev
		}
		if last = t.oldest(); last == nil {
			return false
		}
	}
	t.forget(last)
	return true
}

// oldest gives the machine that was silent longest of those that nothing hangs on;
// nil when there is none. The caller holds t.mu.
func (t *Tracker) oldest() *machine {
	var found *machine
	for _, l := range [...]*list.List{t.loose, t.guests} {
		if e := l.Back(); e != nil {
			if m := e.Value.(*machine); found == nil || m.seen.Before(found.seen) {
				found = m
			}
		}
	}
	return found
}

// forget drops all that is known of a machine. The caller holds t.mu.
func (t *Tracker) forget(m *machine) {
	m.in.Remove(m.elem)
	delete(t.machines, m.mac)
	if t.addrs[m.addr] == m {
		delete(t.addrs, m.addr)
	}
	t.unclaim(m, m.booting)
	delete(t.dirty, m.mac)
	if t.stored[m.mac] {
		t.dirty[m.mac] = true // its record goes from the disk
		t.poke()
	}
}

// place puts m where evict looks for it. The caller holds t.mu.
func (t *Tracker) place(m *machine) {
	if t.machines[m.mac] != m {
		return
	}
	in := t.loose
	switch {
	case m.isHeld():
		in = t.held
	case m.isNameless():
		in = t.guests
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
