package cow

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Fill says how full an overlay is. With Limit 0 it is the file system of the store that
// is full, but for what it keeps in reserve.
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
func (o *Overlay) SetLimit(bytes int64) {
	bytes = max(0, bytes)
	if o.limit.Swap(bytes) != bytes {
		o.relimited.Store(true)
	}
}

// Limit gives what SetLimit said last.
func (o *Overlay) Limit() int64 { return o.limit.Load() }

// eased notes by how many blocks more the overlay holds: with fewer, what its owner was
// told may be over. The caller holds mu.
func (o *Overlay) eased(more int64) {
	if more < 0 && o.held.n.Load()*BlockSize < o.limit.Load()/10*easy {
		o.told = toldNothing
	}
}

// What the owner was told of how near an overlay is to its limit.
const (
	toldNothing = iota
	toldNearly
	toldFull
)

// tell tells the owner of the limit, once. The caller holds mu.
func (o *Overlay) tell(full bool) {
	limit := o.limit.Load()
	if o.relimited.Swap(false) { // that was another limit
		o.told = toldNothing
	}
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
	if o.say(Fill{Record: o.rec, Used: o.heldBlocks() * BlockSize, Limit: limit, Full: full}) {
		o.told = now
	}
}

// tellRoom tells the owner that the store is full, once for each time that it is. The
// caller holds mu.
func (o *Overlay) tellRoom() {
	if times := o.store.room.times.Load(); times != o.toldTimes {
		if o.say(Fill{Record: o.rec, Used: o.heldBlocks() * BlockSize, Full: true}) {
			o.toldTimes = times
		}
	}
}

// say reports whether somebody was told.
func (o *Overlay) say(f Fill) bool {
	return o.store == nil || o.store.fill == nil || o.store.fill(f)
}

// DefaultReserve gives what overlays leave free of a file system of that many bytes:
// 2 %, and 512 MiB at most.
func DefaultReserve(total int64) int64 { return min(total/50, 512<<20) }

// room is what all overlays of a store may still take together. Safe for concurrent
// use.
type room struct {
	reserve int64 // bytes; 0: DefaultReserve; negative: none
	statfs  func() (free, total int64, err error)

	times atomic.Uint64 // how often it got full, with room for more in between

	mu      sync.Mutex // one asks; guards below
	left    int64      // bytes that may be granted before the file system is asked again
	granted int64      // bytes whose writers are not done: the file system may not know of them
	full    bool
}

// slack bounds what is granted without asking: others write there too.
const slack = 16 << 20

// take reports whether n bytes may be taken. Who may says when that is done.
//
// What others were granted counts as taken, so together they keep the reserve, however
// many ask at once. What of it is written already counts twice until they are done: near
// the reserve one may be refused early, by as much as is being written at that moment.
func (r *room) take(n int64) bool {
	if r.reserve < 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left >= n {
		r.left -= n
		r.granted += n
		return true
	}
	free, total, err := r.statfs()
	if err != nil {
		r.granted += n
		return true // the write will say what is wrong
	}
	reserve := r.reserve
	if reserve == 0 {
		reserve = DefaultReserve(total)
	}
	free -= reserve + r.granted + n
	r.left = min(max(free, 0)/8, slack)
	switch {
	case free < 0 && !r.full:
		r.full = true
		r.times.Add(1)
	case free >= reserve/8: // less comes and goes all the time
		r.full = false
	}
	if free < 0 {
		return false
	}
	r.granted += n
	return true
}

// done ends what take allowed n bytes for, of which unused were not taken in the end. They
// may have been the answer of a file system that was asked, so what is left stays within
// slack.
func (r *room) done(n, unused int64) {
	if r.reserve < 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.granted -= n
	r.left = min(r.left+unused, max(r.left, slack))
}

// spare gives how many bytes are free beside the reserve.
func (r *room) spare() (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	free, total, err := r.statfs()
	switch {
	case err != nil:
		return 0, fmt.Errorf("free space: %w", err)
	case r.reserve == 0:
		free -= DefaultReserve(total)
	case r.reserve > 0:
		free -= r.reserve
	}
	return max(free-r.granted, 0), nil
}

// Spare gives how many bytes copies of disks may take on the store's file system, so
// that its reserve stays.
func (s *Store) Spare() (int64, error) { return s.room.spare() }
