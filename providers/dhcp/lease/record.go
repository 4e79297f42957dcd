package lease

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"go.etcd.io/bbolt"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
)

// record is a Lease on disk. Times are seconds since 1970 in UTC: a lease has no
// finer grain, and rounding must never end it early.
type record struct {
	Addr    netip.Addr `json:"addr"`
	Network string     `json:"network,omitempty"`
	Bound   int64      `json:"bound"` // milliseconds: it decides which of two is younger
	Expires int64      `json:"expires,omitempty"`
}

func marshal(l Lease) ([]byte, error) {
	r := record{Addr: l.Addr, Network: l.Network, Bound: l.Bound.UnixMilli()}
	if !l.Expires.IsZero() {
		r.Expires = l.Expires.Add(time.Second - 1).Unix()
	}
	return json.Marshal(r)
}

func unmarshal(key, value []byte) (Lease, error) {
	if len(key) != len(MAC{}) {
		return Lease{}, fmt.Errorf("record with a key of %d bytes", len(key))
	}
	m := MAC(key)
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return Lease{}, fmt.Errorf("record of %s: %w", m, err)
	}
	if !r.Addr.Is4() {
		return Lease{}, fmt.Errorf("record of %s: %q is no IPv4 address", m, r.Addr)
	}
	l := Lease{MAC: m, Addr: r.Addr, Network: r.Network, Bound: time.UnixMilli(r.Bound).UTC()}
	if r.Expires != 0 {
		l.Expires = time.Unix(r.Expires, 0).UTC()
	}
	return l, nil
}

// put writes l, and removes the record that ousted had of the same address. It
// returns when both are on disk.
func (s *Store) put(l Lease, ousted *Lease) error {
	v, err := marshal(l)
	if err != nil {
		return err
	}
	err = s.db.Batch(func(tx *bbolt.Tx) error {
		if err := failpoint.Hit("lease.put.commit"); err != nil {
			return err
		}
		b := tx.Bucket([]byte(Bucket))
		if ousted != nil {
			if err := deleteRecord(b, *ousted); err != nil {
				return err
			}
		}
		return b.Put(l.MAC[:], v)
	})
	if err != nil {
		return err
	}
	return failpoint.Hit("lease.put.committed")
}

// remove deletes the record of l. It returns when that is on disk.
func (s *Store) remove(l Lease) error {
	if err := failpoint.Hit("lease.remove.commit"); err != nil {
		return err
	}
	return s.db.Batch(func(tx *bbolt.Tx) error {
		return deleteRecord(tx.Bucket([]byte(Bucket)), l)
	})
}

// deleteRecord leaves a record alone that names another address by now: the
// machine has moved on meanwhile.
func deleteRecord(b *bbolt.Bucket, l Lease) error {
	v := b.Get(l.MAC[:])
	if v == nil {
		return nil
	}
	if now, err := unmarshal(l.MAC[:], v); err == nil && now.Addr != l.Addr {
		return nil
	}
	return b.Delete(l.MAC[:])
}
