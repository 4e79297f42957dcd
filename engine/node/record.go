package node

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"sort"
	"time"

	"go.etcd.io/bbolt"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Bucket is the bucket of Config.DB: six bytes of hardware address to a record.
const Bucket = "sessions"

// Whole says why a record of Bucket is not what was written; nil: it is, as far as can
// be told.
func Whole(key, value []byte) error {
	if len(key) != len(provider.MAC{}) {
		return fmt.Errorf("a key of %d bytes", len(key))
	}
	_, err := decode(provider.MAC(key), value, time.Time{})
	return err
}

// Fill writes the record of every machine into an empty bucket.
func (t *Tracker) Fill(b *bbolt.Bucket) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for mac, m := range t.machines {
		if m.visit != nil {
			continue
		}
		v, err := m.encode()
		if err != nil {
			return err
		}
		if err := b.Put(mac[:], v); err != nil {
			return err
		}
		t.stored[mac] = true
	}
	return nil
}

// record is what the disk knows of a machine.
type record struct {
	Host     schema.Addr `json:"host,omitzero"`
	Subnet   schema.Addr `json:"subnet,omitzero"`
	Addr     netip.Addr  `json:"addr,omitzero"`
	Arch     *uint16     `json:"arch,omitempty"`
	Seen     time.Time   `json:"seen"`
	Booting  *boot       `json:"booting,omitempty"`
	Running  *boot       `json:"running,omitempty"` // left out when it is Booting
	Same     bool        `json:"same,omitempty"`    // Running is Booting
	Timeline *Timeline   `json:"timeline,omitempty"`
}

func (m *machine) encode() ([]byte, error) {
	r := record{Host: m.host, Subnet: m.subnet, Addr: m.addr, Arch: m.arch, Seen: m.seen, Booting: m.booting, Running: m.running}
	if r.Booting != nil && r.Booting == r.Running {
		r.Running, r.Same = nil, true
	}
	if n := len(m.timelines); n > 0 {
		r.Timeline = m.timelines[n-1]
	}
	return json.Marshal(r)
}

// decode reads what encode wrote. now is the new last sign of life of an open
// session: nobody watched since it was written.
func decode(mac provider.MAC, value []byte, now time.Time) (*machine, error) {
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, err
	}
	m := &machine{mac: mac, host: r.Host, subnet: r.Subnet, addr: r.Addr, arch: r.Arch, seen: r.Seen, booting: r.Booting, running: r.Running}
	if r.Same {
		m.running = m.booting
	}
	if m.running != nil && m.running.Root == nil {
		return nil, fmt.Errorf("a running boot without a root")
	}
	if r.Timeline != nil {
		m.timelines = []*Timeline{r.Timeline}
	}
	for _, b := range []*boot{m.booting, m.running} {
		if b == nil {
			continue
		}
		b.durable, b.loaded = true, now
		if b == m.booting || b.Seen.After(now) {
			b.Seen = now
		}
		if !b.isUnderWay() {
			b.Opened = now
		}
		if r := b.Root; r != nil && (r.Quiet.IsZero() || r.Quiet.After(now)) {
			r.Quiet = now
		}
		if r.Timeline != nil && r.Timeline.Session == b.ID {
			b.timeline = r.Timeline
		} else {
			// Written before the one that is kept: nothing shows it any more.
			b.timeline = &Timeline{Session: b.ID, Generation: b.Generation, Started: b.Opened.UTC(), Stages: []Stage{}}
		}
	}
	return m, nil
}

// load reads the bucket. A record that cannot be read is logged and dropped: it
// must not keep the others from being served. It is no error that nothing can be written.
func (t *Tracker) load() error {
	now := t.now()
	var all []*machine
	if err := failpoint.Hit("node.load.commit"); err != nil {
		return fmt.Errorf("boot sessions: %w", err)
	}
	read := func(tx *bbolt.Tx) error {
		all = nil
		clear(t.stored)
		clear(t.dirty)
		bucket := tx.Bucket([]byte(Bucket))
		if bucket == nil {
			return nil
		}
		return bucket.ForEach(func(k, v []byte) error {
			if len(k) != len(provider.MAC{}) {
				t.log.Warn("boot session record skipped", "key", fmt.Sprintf("%x", k), "err", "the key is not a hardware address")
				return nil
			}
			mac := provider.MAC(k)
			t.stored[mac] = true
			m, err := decode(mac, v, now)
			if err != nil {
				t.log.Warn("boot session record skipped", "mac", mac, "err", err)
				t.dirty[mac] = true
				return nil
			}
			all = append(all, m)
			return nil
		})
	}
	if err := t.cfg.DB.View(read); err != nil {
		return fmt.Errorf("boot sessions: %w", err)
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].seen.Before(all[j].seen) })
	for _, m := range all {
		if m.isHeld() {
			m.seen = now
		}
		if m.running != nil && m.running.Root.Quiet.Equal(now) {
			t.dirty[m.mac] = true // the next start counts from now on, too
		}
		t.machines[m.mac] = m
		t.place(m)
		if m.addr.IsValid() && (!m.isNameless() || t.addrs[m.addr] == nil) {
			t.addrs[m.addr] = m
		}
		if m.running != nil && m.running.Root.Addr.IsValid() {
			t.roots[m.running.Root.Addr] = m
		}
		for _, b := range []*boot{m.running, m.booting} {
			if b != nil && b.Addr.IsValid() && b.Addr != m.addr && !m.isNameless() {
				t.claims[b.Addr] = m
			}
		}
	}
	for len(t.machines) > t.cfg.MaxMachines && t.evict(now) {
	}
	if len(t.dirty) > 0 {
		t.poke()
	}
	return nil
}

// save writes the record of one machine, together with others that are being
// saved, and returns when it is on disk. What is written is what memory holds
// when the transaction runs, so a later state is never overwritten by an earlier
// one.
func (t *Tracker) save(mac provider.MAC) error {
	var wrote put
	err := t.cfg.DB.Batch(func(tx *bbolt.Tx) (err error) {
		if err := failpoint.Hit("node.save.commit"); err != nil {
			return err
		}
		wrote, err = t.put(tx, mac)
		return err
	})
	if err == nil {
		err = failpoint.Hit("node.save.committed")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wrote(err, []provider.MAC{mac}, wrote)
	return err
}

// flush writes whatever is dirty in one transaction. On an error all of it stays
// dirty.
func (t *Tracker) flush() error {
	t.mu.Lock()
	macs := make([]provider.MAC, 0, len(t.dirty))
	for mac := range t.dirty {
		macs = append(macs, mac)
	}
	t.mu.Unlock()
	if len(macs) == 0 {
		return nil
	}
	var wrote []put
	err := t.cfg.DB.Update(func(tx *bbolt.Tx) error {
		wrote = nil
		for _, mac := range macs {
			b, err := t.put(tx, mac)
			if err != nil {
				return err
			}
			wrote = append(wrote, b)
		}
		return failpoint.Hit("node.flush.commit")
	})
	if err == nil {
		err = failpoint.Hit("node.flush.committed")
	}
	if err != nil {
		err = fmt.Errorf("boot sessions: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wrote(err, macs, wrote...)
	return err
}

// put is what a transaction does about one machine.
type put struct {
	record  bool  // it is written; else it is deleted
	session *boot // that the record holds; nil when none
}

// put writes or deletes one record. It takes mac off the dirty list; wrote puts it
// back if the transaction fails.
func (t *Tracker) put(tx *bbolt.Tx, mac provider.MAC) (put, error) {
	bucket, err := tx.CreateBucketIfNotExists([]byte(Bucket))
	if err != nil {
		return put{}, err
	}
	t.mu.Lock()
	delete(t.dirty, mac)
	m := t.machines[mac]
	if m == nil || m.visit != nil {
		t.mu.Unlock()
		return put{}, bucket.Delete(mac[:])
	}
	value, err := m.encode()
	open := m.booting
	t.mu.Unlock()
	if err != nil {
		return put{}, err
	}
	return put{record: true, session: open}, bucket.Put(mac[:], value)
}

// wrote takes note of how a write ended. A machine that was forgotten meanwhile is
// to be deleted from the disk if it got there, and nothing is left of it in memory
// if it did not: else a flood of invented hardware addresses piles up on a full
// disk. The caller holds t.mu.
func (t *Tracker) wrote(err error, macs []provider.MAC, puts ...put) {
	if (err == nil) != (t.writeErr == nil) {
		if err != nil {
			t.log.Error("boot sessions cannot be written", "err", err)
		} else {
			t.log.Info("boot sessions are written again")
		}
	}
	t.writeErr = err
	if err != nil {
		for _, mac := range macs {
			if t.machines[mac] != nil || t.stored[mac] {
				t.dirty[mac] = true
			}
		}
		return
	}
	for i, mac := range macs {
		known := t.machines[mac] != nil
		switch {
		case puts[i].record:
			t.stored[mac] = true
			if !known {
				t.dirty[mac] = true
				t.poke()
			}
		case !known:
			delete(t.stored, mac)
		}
		if b := puts[i].session; b != nil {
			b.durable = true
		}
	}
}
