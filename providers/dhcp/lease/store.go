package lease

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
)

// Bucket is the bucket of the database that holds leases: key is the hardware
// address, value a record. There is at most one record per address.
const Bucket = "leases"

// DB is the database that a Store keeps leases in. *bbolt.DB is one. It may call a
// function more than once: what an earlier call did in the transaction is taken back then.
type DB interface {
	View(func(*bbolt.Tx) error) error
	Update(func(*bbolt.Tx) error) error
	Batch(func(*bbolt.Tx) error) error
}

// Store is the set of leases. Safe for concurrent use; several packets of one
// machine take turns.
//
// Writes of different machines share transactions (DB.Batch), so that a
// room full of machines that is switched on costs a few fsyncs a second. How long
// a write waits for company is the database's choice.
type Store struct {
	db  DB
	now func() time.Time

	turn [1024]sync.Mutex // one machine at a time, its disk write included; taken before mu

	mu    sync.Mutex // guards all below; not held while the disk or anybody else works
	byMAC map[MAC]Lease
	// byAddr names the machine whose record holds the address. While a machine
	// moves, both its addresses are here: neither is free before the disk knows.
	byAddr   map[netip.Addr]MAC
	offers   map[MAC]offer
	offered  map[netip.Addr]MAC
	declined map[netip.Addr]time.Time // until when
	care     care
}

// offer is an address kept for a client that has not asked for it yet. It is in
// memory only: after a restart the client's request is judged anew.
type offer struct {
	addr  netip.Addr
	until time.Time
}

// Open reads the leases of a database that the caller owns and closes after the
// last use of the Store. now is the clock; nil means time.Now. It is no error that nothing
// can be written: what there is can be read.
func Open(db DB, now func() time.Time) (*Store, error) {
	if now == nil {
		now = time.Now
	}
	s := &Store{
		db:       db,
		now:      now,
		byMAC:    map[MAC]Lease{},
		byAddr:   map[netip.Addr]MAC{},
		offers:   map[MAC]offer{},
		offered:  map[netip.Addr]MAC{},
		declined: map[netip.Addr]time.Time{},
	}
	if err := failpoint.Hit("lease.open.commit"); err != nil {
		return nil, fmt.Errorf("leases: %w", err)
	}
	var stale []Lease
	err := db.View(func(tx *bbolt.Tx) (err error) {
		stale, err = s.load(tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("leases: %w", err)
	}
	for _, l := range stale {
		if s.remove(l) != nil { // the next start finds it again
			break
		}
	}
	return s, nil
}

// Fill writes every record there is into an empty bucket.
func (s *Store) Fill(b *bbolt.Bucket) error {
	for _, l := range s.All() {
		v, err := marshal(l)
		if err != nil {
			return err
		}
		if err := b.Put(l.MAC[:], v); err != nil {
			return err
		}
	}
	return nil
}

// load fills the index, from the beginning each time it is called. Two records of one
// address can only be left over from a failing disk; the younger one is true, and the
// other one is stale.
func (s *Store) load(tx *bbolt.Tx) (stale []Lease, err error) {
	clear(s.byMAC)
	clear(s.byAddr)
	b := tx.Bucket([]byte(Bucket))
	if b == nil {
		return nil, nil
	}
	err = b.ForEach(func(k, v []byte) error {
		l, err := unmarshal(k, v)
		if err != nil {
			return err
		}
		if other, ok := s.byAddr[l.Addr]; ok {
			old := s.byMAC[other]
			if !l.Bound.After(old.Bound) {
				stale = append(stale, l)
				return nil
			}
			stale = append(stale, old)
			delete(s.byMAC, other)
		}
		s.byMAC[l.MAC], s.byAddr[l.Addr] = l, l.MAC
		return nil
	})
	return stale, err
}

// ByAddr gives the lease of an address, or the last one it had: ask Expired. A
// machine whose root file system is attached does not always renew, so an
// expired lease still says best who is there.
func (s *Store) ByAddr(a netip.Addr) (Lease, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.byAddr[a]
	if !ok {
		return Lease{}, false
	}
	l := s.byMAC[m]
	return l, l.Addr == a
}

// ByMAC gives the lease of a machine, or the last one it had: ask Expired.
func (s *Store) ByMAC(m MAC) (Lease, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.byMAC[m]
	return l, ok
}

// Newest gives the last time at which a lease was given or renewed; zero: none ever was.
func (s *Store) Newest() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var t time.Time
	for _, l := range s.byMAC {
		if l.Bound.After(t) {
			t = l.Bound
		}
	}
	return t
}

// All gives every record, expired ones too, in order of address.
func (s *Store) All() []Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Lease, 0, len(s.byMAC))
	for _, l := range s.byMAC {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b Lease) int { return a.Addr.Compare(b.Addr) })
	return all
}

// turnOf gives the lock that packets of one machine take turns with.
func (s *Store) turnOf(m MAC) *sync.Mutex { return &s.turn[hash(m)%uint32(len(s.turn))] }

// hash is FNV-1a: the same in every process and on every machine, so that a
// machine tends to get the same pool address even when the database was lost.
func hash(m MAC) uint32 {
	h := uint32(2166136261)
	for _, c := range m {
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}
