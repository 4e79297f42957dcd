package cow

import (
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/providers/internal/sparse"
)

// Lookup gives the record of a key, retired or not.
func (s *Store) Lookup(key Key) (Record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl := s.slots[key]; sl != nil && sl.found {
		return sl.rec, true
	}
	return Record{}, false
}

// List gives the records of all overlays, retired ones too, in order of key. Of
// one that is Unreadable only the key is known.
func (s *Store) List() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Record, 0, len(s.slots))
	for _, sl := range s.slots {
		if sl.found {
			out = append(out, sl.rec)
		}
	}
	slices.SortFunc(out, func(a, b Record) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	return out
}

// Of gives the records of one machine's overlays of one export, or of all exports
// when export is "", in no order.
func (s *Store) Of(machine, export string) []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Record
	for k, sl := range s.slots {
		if sl.found && k.Machine == machine && (export == "" || k.Export == export) {
			out = append(out, sl.rec)
		}
	}
	return out
}

// sizes is what is known of the space that an overlay takes, in bytes. While it is not
// open nobody changes that but Sweep and Discard.
type sizes struct {
	held    *int64 // as its limit counts; nil: not known
	space   *int64 // as the file system counts; nil: not known
	changes int    // of the data: what was measured before the last one is void
}

// void forgets what is known. The caller holds Store.mu.
func (z *sizes) void() { *z = sizes{changes: z.changes + 1} }

// Bytes gives how many bytes an overlay holds, as its limit counts them, open or not; 0
// when it is gone, or cannot be read. It waits for nobody who writes. Unless it was counted
// before, the file system is asked for all pieces of it, which may be a million.
func (s *Store) Bytes(key Key) int64 {
	return s.size(key, func(z *sizes) **int64 { return &z.held }, held)
}

// Space is Bytes at a price that is the same for every overlay, so for who asks for many and
// often. What is not counted yet is what the file system says that the file takes, its own
// map of it included on some. A disk that hangs is waited for only if nothing is known.
func (s *Store) Space(key Key) int64 {
	return s.size(key, func(z *sizes) **int64 {
		if z.held != nil {
			return &z.held
		}
		return &z.space
	}, func(f *os.File) (int64, error) {
		var st unix.Stat_t
		err := unix.Fstat(int(f.Fd()), &st)
		return st.Blocks * 512, err
	})
}

// size gives what of says is known of an overlay, or else what measure says of its data,
// which is known then.
func (s *Store) size(key Key, of func(*sizes) **int64, measure func(data *os.File) (int64, error)) int64 {
	s.mu.Lock()
	sl := s.slots[key]
	if sl == nil || !sl.found {
		s.mu.Unlock()
		return 0
	}
	changes, o := sl.sizes.changes, sl.open
	if o != nil {
		if counted := o.counted.Load(); counted != nil {
			s.mu.Unlock()
			return counted.n.Load() * BlockSize
		}
	} else if n := *of(&sl.sizes); n != nil {
		s.mu.Unlock()
		return *n
	}
	s.mu.Unlock()
	at, err := s.place(key, false)
	if err != nil {
		return 0
	}
	defer at.close()
	f, err := at.dir().file(dataFile, unix.O_RDONLY)
	if err != nil {
		return 0
	}
	defer f.Close()
	n, err := measure(f)
	if err != nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots[key] == sl && sl.open == nil && sl.sizes.changes == changes && sl.rec.Unreadable == nil {
		*of(&sl.sizes) = &n
	}
	return n
}

// held measures what Bytes gives.
func held(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	blocks, next := int64(0), int64(0) // next is the first that is not counted yet
	err = sparse.Taken(f, 0, st.Size(), func(off, n int64) {
		last := (off + n - 1) / BlockSize
		blocks += max(0, last+1-max(next, off/BlockSize))
		next = max(next, last+1)
	})
	return blocks * BlockSize, err
}
