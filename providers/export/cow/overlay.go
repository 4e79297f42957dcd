package cow

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// BlockSize is the unit that is copied on write, in bytes.
const BlockSize = 4096

// Overlay is an open overlay: a disk that reads like its base where nothing was
// written. It is a backend.Backend of package go-nbd. Safe for concurrent use.
//
// Offsets outside [0, Size) are an error, and so is a range that ends beyond it.
type Overlay struct {
	store *Store
	slot  *slot
	rec   Record
	base  io.ReaderAt
	size  int64 // bytes
	refs  int   // guarded by store.mu

	version int // of its files

	data, live, flushed   *os.File
	liveForm, flushedForm form

	present *bitmap // read by anyone; bits are set under mu, after their data was written

	limit     atomic.Int64 // bytes; 0: none
	relimited atomic.Bool  // limit was changed since somebody was told of it last

	counted atomic.Pointer[bitmap] // held, once all of it is counted; changed under mu

	mu        sync.Mutex // one writer at a time; guards below
	held      *bitmap    // blocks that take space; nil: not counted yet
	told      int        // what the owner was told of that
	toldTimes uint64     // which time that the store was full the owner was told of last
	unsynced  bool       // data was written since the last Sync began
	dirty     *bitmap    // pages of flushed that lack what is present
	scratch   [BlockSize]byte

	syncMu sync.Mutex // one Sync at a time; guards failed
	failed error
}

const (
	dataFile    = "data"
	liveFile    = "live"
	flushedFile = "flushed"
)

func blocksOf(size int64) int64 { return (size + BlockSize - 1) / BlockSize }

// makeFiles makes the files of an empty overlay in d. flushed is on stable storage then,
// so that zeros in it are damage ever after; the others need not be: what a power cut makes
// of them before the first Sync, openFiles mends.
func makeFiles(d folder, rec Record, version int) error {
	m := newBitmap(blocksOf(rec.Base.Size))
	for _, name := range []string{dataFile, liveFile, flushedFile} {
		if err := d.unlink(name); err != nil { // left by who was killed, or failed
			return err
		}
		f, err := d.file(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
		if err != nil {
			return err
		}
		if name == dataFile {
			err = f.Truncate(rec.Base.Size)
		} else { // with its space taken, so that a full disk stops a write of data and not the marking of it
			err = formOf(version, rec, name).write(f, m)
		}
		if err == nil && name == flushedFile && version >= versionChecked {
			err = unix.Fdatasync(int(f.Fd()))
		}
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	return nil
}

// openFiles opens the files of an overlay and finds out which blocks are present.
// trustLive says that since live was written the server was not rebooted, nor the file
// system mounted anew.
func openFiles(d folder, rec Record, version int, base io.ReaderAt, trustLive bool) (_ *Overlay, err error) {
	o := &Overlay{
		rec: rec, base: base, size: rec.Base.Size,
		present:  newBitmap(blocksOf(rec.Base.Size)),
		liveForm: formOf(version, rec, liveFile), flushedForm: formOf(version, rec, flushedFile),
	}
	o.dirty = newBitmap(o.flushedForm.pages(o.present))
	defer func() {
		if err != nil {
			o.closeFiles()
		}
	}()
	for name, f := range map[string]**os.File{dataFile: &o.data, liveFile: &o.live, flushedFile: &o.flushed} {
		if *f, err = d.file(name, unix.O_RDWR); err != nil {
			return nil, err
		}
	}
	if !trustLive {
		return o, o.mend()
	}
	if err := o.checkDataSize(); err != nil {
		return nil, err
	}
	if err := o.liveForm.load(o.present, o.live, blocksOf(o.size)); err != nil {
		return nil, err
	}
	flushed := newBitmap(blocksOf(o.size))
	if err := o.flushedForm.load(flushed, o.flushed, blocksOf(o.size)); err != nil {
		return nil, err
	}
	if block, found := o.present.lacks(flushed); found { // what is flushed was live before
		return nil, fmt.Errorf("%w: %s: block %d is flushed, and not live", ErrDamaged, o.live.Name(), block)
	}
	// What flushed lacks on stable storage is not known: the next Sync writes all of it.
	o.unsynced = true
	if n := o.flushedForm.pages(o.present); n > 0 {
		o.dirty.set(0, n-1)
	}
	return o, nil
}

// mend takes flushed for what is present, and makes live say the same. Data that is too
// short was never synced, as a Sync makes its size stable too; and so it is with flushed
// in an overlay that is not checked.
func (o *Overlay) mend() error {
	if !o.flushedForm.checked {
		if err := lengthen(o.flushed, o.flushedForm.bytes(o.present)); err != nil {
			return err
		}
	}
	if err := o.flushedForm.load(o.present, o.flushed, blocksOf(o.size)); err != nil {
		return err
	}
	if o.present.n.Load() == 0 {
		if err := lengthen(o.data, o.size); err != nil {
			return err
		}
	}
	if err := o.checkDataSize(); err != nil {
		return err
	}
	if err := o.live.Truncate(o.liveForm.bytes(o.present)); err != nil {
		return err
	}
	return o.liveForm.write(o.live, o.present)
}

// lengthen makes a file that is shorter than size that long.
func lengthen(f *os.File, size int64) error {
	st, err := f.Stat()
	if err != nil || st.Size() >= size {
		return err
	}
	return f.Truncate(size)
}

func (o *Overlay) checkDataSize() error {
	st, err := o.data.Stat()
	if err != nil {
		return err
	}
	if st.Size() != o.size {
		return fmt.Errorf("%w: %s: %d bytes, want %d", ErrDamaged, o.data.Name(), st.Size(), o.size)
	}
	return nil
}

func (o *Overlay) closeFiles() {
	for _, f := range []*os.File{o.data, o.live, o.flushed} {
		if f != nil {
			f.Close()
		}
	}
}

// Record says what the overlay is.
func (o *Overlay) Record() Record { return o.rec }

// Size gives the size in bytes, which is the base's.
func (o *Overlay) Size() (int64, error) { return o.size, nil }

// Written gives how many bytes are in blocks of its own.
func (o *Overlay) Written() int64 { return o.present.n.Load() * BlockSize }

// Close gives back one Open. The last one closes the files, and syncs nothing:
// what was not flushed may be lost in a power cut, as with a disk.
func (o *Overlay) Close() { o.store.close(o) }

func (o *Overlay) check(off, length int64) error {
	if off < 0 || length < 0 || off > o.size || length > o.size-off {
		return fmt.Errorf("overlay %s: %d bytes at %d are not within its %d", o.rec.Key, length, off, o.size)
	}
	return nil
}
