package cow

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/providers/internal/sparse"
)

// Fill says how full an overlay is. Limit 0 is none: then Full says that the file
// system of the store is, but for what it keeps in reserve.
type Fill struct {
	Record
	Used  int64 // bytes in blocks of its own that are no holes
	Limit int64
	Full  bool // a write was refused
}

// nearly and easy are tenths of a limit: from nearly on somebody is told, once, and
// again only after it was below easy.
const (
	nearly = 9
	easy   = 8
)

// SetLimit says how many bytes the overlay may hold; 0 is no limit. It counts from
// the next write on: what is held already may be more, and stays, and can be
// written to. Holes take nothing.
func (o *Overlay) SetLimit(bytes int64) { o.limit.Store(max(0, bytes)) }

// Limit gives what SetLimit said last.
func (o *Overlay) Limit() int64 { return o.limit.Load() }

// Used gives how many bytes the overlay holds, in blocks of its own that are no holes.
func (o *Overlay) Used() (int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.count(); err != nil {
		return 0, err
	}
	return o.held.n.Load() * BlockSize, nil
}

// count finds out which blocks take space, once: from the files, so that it is the
// same after a restart, whatever a killed process knew. What only was reserved
// (ZeroRange with noHole) may not be told from a hole there, and is counted again when it is written. The
// caller holds mu.
func (o *Overlay) count() error {
	if o.held != nil {
		return nil
	}
	held, at := newBitmap(blocksOf(o.size)), int64(0)
	err := sparse.Extents(o.data, 0, o.size, func(n int64, hole bool) bool {
		if !hole && n > 0 {
			o.present.each(at/BlockSize, (at+n-1)/BlockSize, func(first, last int64) bool {
				held.set(first, last)
				return true
			})
		}
		at += n
		return true
	})
	if err != nil {
		return fmt.Errorf("overlay %s: what it holds: %w", o.rec.Key, err)
	}
	o.held = held
	return nil
}

// admit says whether blocks first to last may be written: those that take no space
// yet have to fit. The error is ENOSPC. The caller holds mu.
func (o *Overlay) admit(first, last int64) error {
	limit, more := o.limit.Load(), last-first+1
	if limit > 0 {
		if err := o.count(); err != nil {
			return err
		}
	}
	if o.held != nil {
		if more -= o.held.among(first, last); more == 0 {
			return nil
		}
	}
	if used := (o.heldBlocks() + more) * BlockSize; limit > 0 && used > limit {
		o.tell(true)
		return fmt.Errorf("overlay %s: it may hold %d bytes: %w", o.rec.Key, limit, syscall.ENOSPC)
	}
	if o.store == nil || o.store.room.take(more*BlockSize) {
		return nil
	}
	// Only what takes no more space goes on, so it must be known now.
	if err := o.count(); err != nil {
		return err
	}
	if o.held.among(first, last) == last-first+1 {
		return nil
	}
	o.tell(true)
	return fmt.Errorf("overlay %s: the file system is full but for its reserve: %w", o.rec.Key, syscall.ENOSPC)
}

func (o *Overlay) heldBlocks() int64 {
	if o.held == nil {
		return 0
	}
	return o.held.n.Load()
}

// take notes that blocks take space now. The caller holds mu.
func (o *Overlay) take(first, last int64) {
	if o.held != nil {
		o.held.set(first, last)
		o.tell(false)
	}
}

// give notes that blocks are holes now. The caller holds mu.
func (o *Overlay) give(first, last int64) {
	if o.held == nil || first > last {
		return
	}
	o.held.clear(first, last)
	if o.held.n.Load()*BlockSize < o.limit.Load()/10*easy {
		o.told = toldNothing
	}
}

// What the owner was told of how full an overlay is.
const (
	toldNothing = iota
	toldNearly
	toldFull
)

// tell tells the owner, once. The caller holds mu.
func (o *Overlay) tell(full bool) {
	limit := o.limit.Load()
	now := toldNothing
	switch {
	case full:
		now = toldFull
	case limit > 0 && o.held.n.Load()*BlockSize >= limit/10*nearly:
		now = toldNearly
	}
	if now <= o.told {
		return
	}
	o.told = now
	if o.store != nil && o.store.fill != nil {
		o.store.fill(Fill{Record: o.rec, Used: o.heldBlocks() * BlockSize, Limit: limit, Full: full})
	}
}

// DefaultReserve gives what overlays leave free of a file system of that many bytes:
// 2 %, and 512 MiB at most.
func DefaultReserve(total int64) int64 { return min(total/50, 512<<20) }

// room is what all overlays of a store may still take together. Safe for concurrent
// use.
type room struct {
	reserve int64 // bytes; 0: DefaultReserve; negative: none
	statfs  func() (free, total int64, err error)

	left atomic.Int64 // bytes that may be taken before the file system is asked again
	mu   sync.Mutex   // one asks
}

// slack bounds what is taken without asking: others write there too.
const slack = 16 << 20

// take reports whether n bytes may be taken.
func (r *room) take(n int64) bool {
	if r.reserve < 0 || r.left.Add(-n) >= 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	free, total, err := r.statfs()
	if err != nil {
		return true // the write will say what is wrong
	}
	reserve := r.reserve
	if reserve == 0 {
		reserve = DefaultReserve(total)
	}
	free -= reserve + n
	r.left.Store(min(max(free, 0)/8, slack))
	return free >= 0
}

// spare gives how many bytes are free beside the reserve.
func (r *room) spare() (int64, error) {
	free, total, err := r.statfs()
	switch {
	case err != nil:
		return 0, fmt.Errorf("free space: %w", err)
	case r.reserve == 0:
		free -= DefaultReserve(total)
	case r.reserve > 0:
		free -= r.reserve
	}
	return max(free, 0), nil
}

// Spare gives how many bytes copies of disks may take on the store's file system, so
// that its reserve stays.
func (s *Store) Spare() (int64, error) { return s.room.spare() }

// statfs gives what a file system has free for everybody, and in all, in bytes.
func statfs(dir string) func() (free, total int64, err error) {
	return func() (int64, int64, error) {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			return 0, 0, err
		}
		unit := st.Frsize
		if unit == 0 {
			unit = st.Bsize
		}
		return int64(st.Bavail) * unit, int64(st.Blocks) * unit, nil
	}
}
