package cow

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
)

// ReadAt is io.ReaderAt, except that a range which ends beyond the end reads
// nothing. It takes no lock: a bit that is set has its data written already, and
// one that gets set meanwhile is a write that runs beside this read.
func (o *Overlay) ReadAt(p []byte, off int64) (int, error) {
	if err := o.check(off, int64(len(p))); err != nil {
		return 0, err
	}
	done := 0
	for done < len(p) {
		from, n := o.run(off+int64(done), int64(len(p)-done))
		got, err := from.ReadAt(p[done:done+int(n)], off+int64(done))
		done += got
		if int64(got) < n {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return done, err
		}
	}
	return done, nil
}

// run gives the longest range from off on, at most limit bytes, that lies in one
// place, and the place.
func (o *Overlay) run(off, limit int64) (io.ReaderAt, int64) {
	from := o.base
	if o.present.n.Load() == 0 {
		return from, limit
	}
	block := off / BlockSize
	here := o.present.has(block)
	if here {
		from = o.data
	}
	end := (block + 1) * BlockSize
	for end < off+limit && o.present.has(end/BlockSize) == here {
		end += BlockSize
	}
	return from, min(limit, end-off)
}

// WriteAt is io.WriterAt. When it fails, each block that it covers reads as before or
// has its new bytes, and one that was present may have some of each.
func (o *Overlay) WriteAt(p []byte, off int64) (n int, err error) {
	if err := o.check(off, int64(len(p))); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	where := span{off / BlockSize, (off + int64(len(p)) - 1) / BlockSize}
	reserved, err := o.admit(where)
	if err != nil {
		return 0, err
	}
	if n, err = o.write(p, off, where); err != nil {
		o.undone(where, reserved)
		return n, err
	}
	o.done(reserved, 0)
	o.take(where.first, where.last)
	return n, nil
}

// write does WriteAt, but for the accounting. The caller holds mu.
func (o *Overlay) write(p []byte, off int64, where span) (int, error) {
	if err := o.copyUpEdges(off, off+int64(len(p))); err != nil {
		return 0, err
	}
	o.unsynced = true
	if n, err := o.data.WriteAt(p, off); err != nil {
		return n, err
	}
	if err := o.mark(where.first, where.last); err != nil {
		return 0, err
	}
	return len(p), nil
}

// copyUpEdges copies the blocks that [off, end) covers in part from the base, when
// they are not present yet. They do not become present by that. The caller holds mu.
func (o *Overlay) copyUpEdges(off, end int64) error {
	edges, n := o.edges(off, end)
	for _, block := range edges[:n] {
		if err := o.copyUp(block); err != nil {
			return err
		}
	}
	return nil
}

// edges gives the n blocks that [off, end) covers in part.
func (o *Overlay) edges(off, end int64) (list [2]int64, n int) {
	first, last := off/BlockSize, (end-1)/BlockSize
	if off%BlockSize != 0 || end < min((first+1)*BlockSize, o.size) {
		list[n], n = first, n+1
	}
	if last != first && end < min((last+1)*BlockSize, o.size) {
		list[n], n = last, n+1
	}
	return list, n
}

func (o *Overlay) copyUp(block int64) error {
	if o.present.has(block) {
		return nil
	}
	at := block * BlockSize
	b := o.scratch[:min(BlockSize, o.size-at)]
	if n, err := o.base.ReadAt(b, at); n < len(b) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("reading the base: %w", err)
	}
	o.unsynced = true
	_, err := o.data.WriteAt(b, at)
	return err
}

// mark makes blocks present whose data is written: in live first, so that memory says
// what a killed process leaves, no more and no less. It goes by pieces, as a disk may be
// trimmed whole: who is killed in between, or fails, leaves the first of them present, and
// the others as they were. The caller holds mu.
func (o *Overlay) mark(first, last int64) error {
	var b []byte
	for first <= last {
		end := min(last, o.liveForm.pieceOf(first))
		if !o.present.all(first, end) {
			at := int64(0)
			b, at = o.liveForm.with(b[:0], o.present, first, end)
			if err := o.markPiece(b, at); err != nil {
				return err
			}
		}
		first = end + 1
	}
	return nil
}

// markPiece writes b, which says what is to be present, into live at that place.
func (o *Overlay) markPiece(b []byte, at int64) error {
	_, err := o.live.WriteAt(b, at)
	if err != nil { // how far it came, only the file can say
		n, _ := o.live.ReadAt(b, at)
		b = b[:n]
	}
	o.liveForm.add(o.present, b, at)
	if len(b) > 0 {
		o.dirty.set(at/pageSize, (at+int64(len(b))-1)/pageSize)
	}
	return err
}

// Sync returns when every write that returned before is on stable storage, its
// bits included. After it failed it fails until the overlay is opened anew: the
// kernel reports a lost page once, and clean ever after.
func (o *Overlay) Sync() error {
	o.syncMu.Lock()
	defer o.syncMu.Unlock()
	if o.failed != nil {
		return o.failed
	}
	o.mu.Lock()
	if !o.unsynced && o.dirty.n.Load() == 0 {
		o.mu.Unlock()
		return nil
	}
	dirty := o.dirty
	o.dirty = newBitmap(o.flushedForm.pages(o.present))
	o.unsynced = false
	pages := o.dirtyPages(dirty)
	o.mu.Unlock()

	err := o.syncPages(pages)
	for err == nil && dirty.n.Load() > 0 {
		o.mu.Lock()
		pages = o.dirtyPages(dirty)
		o.mu.Unlock()
		err = o.syncPages(pages)
	}
	if err == nil && len(pages) > 0 {
		err = o.syncFlushed()
	}
	if err != nil {
		o.failed = fmt.Errorf("overlay %s: sync: %w", o.rec.Key, err)
	}
	return o.failed
}

// Synced reports that Sync would return nil at once: every write that returned before is
// on stable storage. It waits for nobody: who writes or syncs now makes it false.
func (o *Overlay) Synced() bool {
	if !o.syncMu.TryLock() { // one that runs has taken what is dirty already, and is not done
		return false
	}
	defer o.syncMu.Unlock()
	if o.failed != nil || !o.mu.TryLock() {
		return false
	}
	defer o.mu.Unlock()
	return !o.unsynced && o.dirty.n.Load() == 0
}

// flushedAtOnce is how many pages of flushed are held in memory: those of 64 GiB of disk.
const flushedAtOnce = 1024

// flushedPage is a page of flushed as it is to be.
type flushedPage struct {
	number int64
	bytes  []byte
}

// dirtyPages takes the first pages out of a set, and gives what they are to be: what is
// present now, so what has to be on stable storage before they are written. The caller
// holds mu.
func (o *Overlay) dirtyPages(dirty *bitmap) (pages []flushedPage) {
	if dirty.n.Load() == 0 {
		return nil
	}
	dirty.each(0, o.flushedForm.pages(o.present)-1, func(first, last int64) bool {
		last = min(last, first+flushedAtOnce-1-int64(len(pages)))
		for i := first; i <= last; i++ {
			pages = append(pages, flushedPage{i, o.flushedForm.page(o.present, i)})
		}
		return len(pages) < flushedAtOnce
	})
	for _, p := range pages {
		dirty.clear(p.number, p.number)
	}
	return pages
}

// syncPages makes data stable first, and only then writes the bits that speak of it.
func (o *Overlay) syncPages(pages []flushedPage) error {
	if err := failpoint.Hit("cow.sync.data"); err != nil {
		return err
	}
	if err := unix.Fdatasync(int(o.data.Fd())); err != nil {
		return err
	}
	if len(pages) == 0 {
		return nil
	}
	if err := failpoint.Hit("cow.sync.bitmap"); err != nil {
		return err
	}
	for _, p := range pages {
		if _, err := o.flushed.WriteAt(p.bytes, p.number*pageSize); err != nil {
			return err
		}
	}
	return nil
}

// syncFlushed makes the bits stable.
func (o *Overlay) syncFlushed() error {
	if err := failpoint.Hit("cow.sync.flushed"); err != nil {
		return err
	}
	return unix.Fdatasync(int(o.flushed.Fd()))
}
