package cow

import (
	"fmt"
	"syscall"

	"github.com/dlreconcile/dlreconcile/providers/internal/sparse"
)

// Used gives how many bytes the overlay holds, in blocks of its own that are no holes.
func (o *Overlay) Used() (int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.count(); err != nil {
		return 0, err
	}
	return o.heldBlocks() * BlockSize, nil
}

// span is the blocks from first to last; none when last comes before first.
type span struct{ first, last int64 }

func (s span) blocks() int64 { return max(0, s.last-s.first+1) }

// count finds out which blocks take space, unless that is known. The files say so, so it
// is the same whatever a process knew that was killed. What only is reserved (ZeroRange
// with noHole) counts, where the file system tells it from a hole. The caller holds mu.
func (o *Overlay) count() error {
	if o.held != nil {
		return nil
	}
	o.held = newBitmap(blocksOf(o.size))
	if err := o.settle(span{0, blocksOf(o.size) - 1}); err != nil {
		return fmt.Errorf("overlay %s: what it holds: %w", o.rec.Key, err)
	}
	o.counted.Store(o.held)
	return nil
}

// settle has a range accounted as it is on disk, after an operation that may have ended
// anywhere. Blocks that are not present give back what they take: nobody reads them
// there. After an error nothing is known of what the overlay holds, and count looks
// again. The caller holds mu.
func (o *Overlay) settle(where span) error {
	if where.blocks() == 0 {
		return nil
	}
	o.absent(where, func(s span) {
		// What cannot be given back still takes its space, and is counted below.
		_, _ = zeros(o.data, s.first*BlockSize, s.blocks()*BlockSize, false, true)
	})
	if o.held == nil {
		return nil
	}
	off := where.first * BlockSize
	end := min((where.last+1)*BlockSize, o.size)
	o.held.clear(where.first, where.last)
	err := sparse.Taken(o.data, off, end-off, func(off, n int64) {
		o.held.set(off/BlockSize, (off+n-1)/BlockSize)
	})
	if err != nil {
		o.held = nil
		o.counted.Store(nil)
	}
	return err
}

// absent calls f for each run of blocks that are not present.
func (o *Overlay) absent(where span, f func(span)) {
	at := where.first
	o.present.each(where.first, where.last, func(first, last int64) bool {
		if first > at {
			f(span{at, first - 1})
		}
		at = last + 1
		return true
	})
	if at <= where.last {
		f(span{at, where.last})
	}
}

// admit says whether blocks may be written: those that take no space yet have to fit.
// The error is ENOSPC. It gives how many bytes of the store's room are reserved for
// them: who wrote them calls done, and who failed to calls undone. The caller holds mu.
func (o *Overlay) admit(where ...span) (reserved int64, err error) {
	limit := o.limit.Load()
	if limit > 0 {
		if err := o.count(); err != nil {
			return 0, err
		}
	}
	more := o.lacking(where)
	if more == 0 {
		return 0, nil
	}
	if limit > 0 && (o.heldBlocks()+more)*BlockSize > limit {
		o.tell(true)
		return 0, fmt.Errorf("overlay %s: it may hold %d bytes: %w", o.rec.Key, limit, syscall.ENOSPC)
	}
	if o.store == nil {
		return 0, nil
	}
	if o.store.room.take(more * BlockSize) {
		return more * BlockSize, nil
	}
	// Only what takes no more space goes on, so it must be known now.
	if err := o.count(); err != nil {
		return 0, err
	}
	if o.lacking(where) == 0 {
		return 0, nil
	}
	o.tellRoom()
	return 0, fmt.Errorf("overlay %s: the file system is full but for its reserve: %w", o.rec.Key, syscall.ENOSPC)
}

// lacking counts the blocks that are not known to take space.
func (o *Overlay) lacking(where []span) int64 {
	more := int64(0)
	for _, s := range where {
		if n := s.blocks(); n > 0 {
			more += n
			if o.held != nil {
				more -= o.held.among(s.first, s.last)
			}
		}
	}
	return more
}

// undone ends an operation that admit let begin, and that ended with an error: what is
// held is what takes space on disk now, and what was reserved beyond that is free again.
// The caller holds mu.
func (o *Overlay) undone(where span, reserved int64) {
	had, unused := int64(0), reserved
	if o.held != nil {
		had = o.held.among(where.first, where.last)
	}
	_ = o.settle(where) // who needs to know counts
	if o.held != nil {
		got := o.held.among(where.first, where.last) - had
		unused = max(0, reserved-max(0, got)*BlockSize)
		o.eased(got)
	}
	o.done(reserved, unused)
}

// done ends what admit reserved, of which unused bytes were not taken.
func (o *Overlay) done(reserved, unused int64) {
	if o.store != nil && reserved > 0 {
		o.store.room.done(reserved, unused)
	}
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
	had := o.held.n.Load()
	o.held.clear(first, last)
	o.eased(o.held.n.Load() - had)
}
