package cow

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/statefile"
)

// Errors of Open. They are wrapped with what was asked for.
var (
	ErrBase    = errors.New("the overlay lies over another base")
	ErrRetired = errors.New("the boot that the overlay belonged to is over")
	// ErrDamaged says that what the files hold was not written by a store: nobody knows
	// which blocks the machine wrote, so none is served.
	ErrDamaged = errors.New("the overlay is damaged")
)

// Config of a store. Zero fields have defaults.
type Config struct {
	Log *slog.Logger // discards
	Now func() time.Time
	// BootID identifies the running kernel; "" reads /proc/sys/kernel/random/boot_id.
	BootID string
	// Reserve is how many bytes of the file system overlays leave free for others; 0
	// is DefaultReserve, and negative none.
	Reserve int64
	// Fill, when set, is told when an overlay comes near its limit, and when a write
	// to it is refused for want of space: once each, until it was emptier again. It
	// must not block, nor call the overlay. When it gives false it was not told, and is
	// at the next such write.
	Fill func(Fill) bool
}

// Store is a folder of overlays. One process may use it at a time; within that
// it is safe for concurrent use.
type Store struct {
	dir    string
	log    *slog.Logger
	now    func() time.Time
	bootID string
	fill   func(Fill) bool
	room   *room

	superblock func(dir *os.File) string

	mu    sync.Mutex // guards slots, and in each all but busy; never held over disk work
	slots map[Key]*slot

	shut []Record // see Shut; as it was found

	folders sync.Mutex // held while folders are made or given up that keys share
}

// slot is the place of one key.
type slot struct {
	// busy is held while files of the key are made, opened or removed, so that
	// two hundred machines that boot at once wait for the disk together and not
	// one after the other. It is taken before Store.mu.
	busy sync.Mutex

	found   bool   // there is an overlay on disk
	rec     Record // Key is always set
	version int    // of the overlay's files; 0: it is to be made
	unsaved bool   // rec is newer than the file
	forget  bool   // the next Sweep removes it, if it is retired
	shut    bool   // its folder cannot be opened, and rec is Unreadable
	open    *Overlay
	sizes   sizes // see Bytes
}

// OpenStore opens the store in dir, and makes the folder when it is missing. What
// a killed process left half made or half removed is cleared away.
func OpenStore(dir string, c Config) (*Store, error) {
	s := &Store{dir: dir, log: c.Log, now: c.Now, bootID: c.BootID, slots: map[Key]*slot{},
		superblock: func(dir *os.File) string { return superblock(dir, sysfs) },
		fill:       c.Fill, room: &room{reserve: c.Reserve, statfs: func() (int64, int64, error) { return statefile.Free(dir) }}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.bootID == "" {
		b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return nil, fmt.Errorf("overlays: %w", err)
		}
		s.bootID = strings.TrimSpace(string(b))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("overlays: %w", err)
	}
	if err := s.scan(); err != nil {
		return nil, fmt.Errorf("overlays: %w", err)
	}
	if err := s.Sweep(); err != nil { // costs space, and nobody's boot
		s.log.Error("overlays of former boots cannot be cleared away", "err", err)
	}
	if err := s.prune(); err != nil {
		s.log.Error("empty folders of overlays cannot be removed", "err", err)
	}
	return s, nil
}

// acquire gives the slot of a key, busy. release it.
func (s *Store) acquire(key Key) *slot {
	for {
		s.mu.Lock()
		sl := s.slots[key]
		if sl == nil {
			sl = &slot{rec: Record{Key: key}}
			s.slots[key] = sl
		}
		s.mu.Unlock()
		sl.busy.Lock()
		s.mu.Lock()
		same := s.slots[key] == sl
		s.mu.Unlock()
		if same {
			return sl
		}
		sl.busy.Unlock() // it was given up meanwhile
	}
}

// release ends what acquire began. A slot of nothing is given up.
func (s *Store) release(sl *slot) {
	s.mu.Lock()
	if !sl.found {
		delete(s.slots, sl.rec.Key)
	}
	s.mu.Unlock()
	sl.busy.Unlock()
}

// Open opens the overlay of that key, and makes it when there is none. Several
// Opens of one key share the overlay; each has its Close. base must stay readable
// until the last of them, and hold b.Size bytes. note is kept in a new record.
func (s *Store) Open(key Key, b Base, base io.ReaderAt, note map[string]string) (*Overlay, error) {
	if err := key.check(); err != nil {
		return nil, err
	}
	sl := s.acquire(key)
	defer s.release(sl)
	o, err := s.openSlot(sl, b, base, note)
	if err != nil {
		return nil, fmt.Errorf("overlay %s: %w", key, err)
	}
	return o, nil
}

// Reopen is Open for an overlay that is there; else the error is fs.ErrNotExist.
func (s *Store) Reopen(key Key, b Base, base io.ReaderAt) (*Overlay, error) {
	sl := s.acquire(key)
	defer s.release(sl)
	s.mu.Lock()
	found := sl.found
	s.mu.Unlock()
	var o *Overlay
	err := fs.ErrNotExist
	if found {
		o, err = s.openSlot(sl, b, base, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("overlay %s: %w", key, err)
	}
	return o, nil
}

// openSlot does Open with the slot busy.
func (s *Store) openSlot(sl *slot, b Base, base io.ReaderAt, note map[string]string) (*Overlay, error) {
	o, err := s.again(sl, b)
	if o != nil || err != nil {
		return o, err
	}
	s.mu.Lock()
	found, rec, version := sl.found, sl.rec, sl.version
	s.mu.Unlock()
	mounted, err := s.mounted()
	if err != nil {
		return nil, err
	}
	if !found {
		version = recordVersion
		rec = Record{Key: rec.Key, Base: b, Created: s.now().UTC(), Note: note, ServerBoot: s.bootID, ServerMount: mounted}
		if err := s.create(rec); err != nil {
			return nil, err
		}
		s.mu.Lock() // whatever fails from here on, it is on disk
		sl.found, sl.rec, sl.version = true, rec, version
		s.mu.Unlock()
	}
	at, err := s.place(rec.Key, false)
	if err != nil {
		return nil, err
	}
	defer at.close()
	o, err = openFiles(at.dir(), rec, version, base, s.livesOn(rec, mounted))
	if err != nil {
		return nil, err
	}
	if rec.ServerBoot == s.bootID && remounted(rec, mounted) {
		s.log.Warn("the file system of overlays was mounted anew since this one was used: what its machine wrote after its last flush does not count", "overlay", rec.Key.String())
	}
	if rec.ServerBoot != s.bootID || rec.ServerMount != mounted { // live is valid for these, or was made from flushed just now
		rec.ServerBoot, rec.ServerMount = s.bootID, mounted
		if err := writeRecord(at.dir(), rec, version); err != nil {
			o.closeFiles()
			return nil, err
		}
	}
	o.store, o.slot, o.rec, o.version = s, sl, rec, version
	return s.use(sl, o)
}

// again counts one more Open of an overlay that is open; nil: it is not. The last of the
// others may be closing it at this moment.
func (s *Store) again(sl *slot, b Base) (*Overlay, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case sl.rec.Unreadable != nil:
		return nil, sl.rec.Unreadable
	case sl.found && sl.rec.Retired:
		return nil, ErrRetired
	case sl.found && sl.rec.Base != b:
		return nil, fmt.Errorf("%w: %s, asked for %s", ErrBase, sl.rec.Base.Digest, b.Digest)
	case sl.open != nil:
		sl.open.refs++
	}
	return sl.open, nil
}

// use counts the first Open of o, unless its boot ended meanwhile.
func (s *Store) use(sl *slot, o *Overlay) (*Overlay, error) {
	s.mu.Lock()
	if sl.rec.Retired {
		unused := sl.open == nil
		s.mu.Unlock()
		if unused {
			o.closeFiles()
		}
		return nil, ErrRetired
	}
	defer s.mu.Unlock()
	if sl.open == nil {
		note := sl.rec.Note
		sl.rec = o.rec
		sl.rec.Note = note // may have been added to
		sl.open = o
		sl.sizes.void()
	}
	o.refs++
	return o, nil
}

// close does Overlay.Close.
func (s *Store) close(o *Overlay) {
	s.mu.Lock()
	o.refs--
	last := o.refs == 0
	if last {
		o.slot.open = nil
		if counted := o.counted.Load(); counted != nil {
			held := counted.n.Load() * BlockSize
			o.slot.sizes.held = &held
		}
	}
	s.mu.Unlock()
	if last { // who opens the overlay meanwhile has files of his own
		o.closeFiles()
	}
}

// create makes an empty overlay on stable storage, or leaves nothing.
func (s *Store) create(rec Record) (err error) {
	at, err := s.place(rec.Key, true)
	if err != nil {
		return err
	}
	defer at.close()
	d := at.dir()
	f, err := d.file(recordFile, unix.O_RDONLY)
	switch {
	case err == nil:
		f.Close()
		fallthrough
	case errors.As(err, new(*statefile.UnfitError)):
		return d.unfit(recordFile, "it came when the store was open already; nothing is made in its place before the next start")
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	defer func() {
		if err != nil {
			_ = s.clearAt(at, rec.Key) // without a record it never was
		}
	}()
	if err := failpoint.Hit("cow.create.files"); err != nil {
		return err
	}
	if err := makeFiles(d, rec, recordVersion); err != nil {
		return err
	}
	if err := writeRecord(d, rec, recordVersion); err != nil {
		return err
	}
	if err := failpoint.Hit("cow.create.sync"); err != nil {
		return err
	}
	for i := len(at) - 2; i >= 0; i-- { // the folders above may be new
		if err := at[i].Sync(); err != nil {
			return err
		}
	}
	return nil
}

// clear removes the files of a key, its folder, and those above it that nothing else is
// in. What the store did not make stays, and is told.
func (s *Store) clear(key Key) error {
	at, err := s.place(key, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer at.close()
	return s.clearAt(at, key)
}

// clearAt does clear in folders that are open, so that it takes no descriptors.
func (s *Store) clearAt(at *place, key Key) error {
	left, err := at.dir().empty()
	if err != nil {
		return err
	}
	if len(left) > 0 {
		var l strays
		for _, name := range left {
			l.add(filepath.Join(at.dir().Name(), name))
		}
		s.tell(&l)
		return nil
	}
	s.folders.Lock()
	defer s.folders.Unlock()
	if gone, err := at[2].rmdir(key.Export); err != nil || !gone {
		return err
	}
	if gone, _ := at[1].rmdir(key.Instance); gone { // else it is in use, or the next start tries again
		_, _ = at[0].rmdir(key.Machine)
	}
	return nil
}
