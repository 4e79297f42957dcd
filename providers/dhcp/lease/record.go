package lease

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
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
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(text, "\n%08x", checksum(l.MAC[:], text)), nil
}

// checksum is the CRC-32C of a record's key and text. It follows the text behind a line
// feed: a flipped bit must not give an address to another machine.
func checksum(key, text []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(key, table), table, text)
}

func unmarshal(key, value []byte) (Lease, error) {
	if len(key) != len(MAC{}) {
		return Lease{}, fmt.Errorf("record with a key of %d bytes", len(key))
	}
	m := MAC(key)
	text, sum, sealed := bytes.Cut(value, []byte("\n"))
	if sealed && string(sum) != fmt.Sprintf("%08x", checksum(key, text)) {
		return Lease{}, fmt.Errorf("record of %s: it does not match its checksum", m)
	}
	value = text // one of an older program's has no checksum
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

// Whole says why a record of Bucket is not what was written; nil: it is, as far as can
// be told.
func Whole(key, value []byte) error {
	_, err := unmarshal(key, value)
	return err
}

// Stray reports whether a record found anywhere is certainly a lease, and whole.
func Stray(key, value []byte) bool {
	return bytes.IndexByte(value, '\n') > 0 && Whole(key, value) == nil
}

// Younger reports whether the lease in record a was given after the one in b, both of
// one machine.
func Younger(a, b []byte) bool {
	bound := func(v []byte) int64 {
		var r record
		text, _, _ := bytes.Cut(v, []byte("\n"))
		_ = json.Unmarshal(text, &r) // it was whole
		return r.Bound
	}
	return bound(a) > bound(b)
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
		b, err := tx.CreateBucketIfNotExists([]byte(Bucket))
		if err != nil {
			return err
		}
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
		if b := tx.Bucket([]byte(Bucket)); b != nil {
			return deleteRecord(b, l)
		}
		return nil
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
