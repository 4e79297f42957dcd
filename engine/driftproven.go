package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// proven is what is known of files whose bytes were seen to be those of their blob. It
// is kept over restarts, so that a start need not read everything. The file is a hint:
// what it lacks, or all when it is damaged or older than what it tells of, is read
// again. It belongs to watch.
type proven struct {
	path  string
	marks map[string]store.Mark // by digest
	dirty bool
}

// provenFile is its name in the state directory.
const provenFile = "proven"

// mostProven bounds what is read of it, in bytes: about 100,000 files.
const mostProven = 32 << 20

// loadProven reads what the process before knew.
func loadProven(s *store.Store) proven {
	p := proven{path: filepath.Join(s.Dir(), provenFile), marks: map[string]store.Mark{}}
	if info, err := os.Stat(p.path); err != nil || info.Size() > mostProven {
		return p
	}
	b, err := os.ReadFile(p.path)
	if err != nil {
		return p
	}
	sum, text, ok := bytes.Cut(b, []byte("\n"))
	if !ok || string(sum) != digestOf(text) {
		return p
	}
	var marks map[string]store.Mark
	if json.Unmarshal(text, &marks) == nil && marks != nil {
		p.marks = marks
	}
	return p
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// set notes that a file was sound with a mark.
func (p *proven) set(digest string, m store.Mark) {
	if p.marks[digest] != m {
		p.marks[digest], p.dirty = m, true
	}
}

func (p *proven) drop(digest string) {
	if _, ok := p.marks[digest]; ok {
		delete(p.marks, digest)
		p.dirty = true
	}
}

// keep forgets what nothing needs any more.
func (p *proven) keep(needed map[string][]store.Use) {
	before := len(p.marks)
	maps.DeleteFunc(p.marks, func(d string, _ store.Mark) bool { return needed[d] == nil })
	p.dirty = p.dirty || len(p.marks) != before
}

// save writes what has changed. Nothing is synced: a file that a crash took half of does
// not have its sum.
func (p *proven) save() error {
	if !p.dirty {
		return nil
	}
	text, err := json.Marshal(p.marks)
	if err != nil {
		return err
	}
	next := p.path + ".new"
	if err := os.WriteFile(next, append([]byte(digestOf(text)+"\n"), text...), 0o600); err != nil {
		return err
	}
	if err := os.Rename(next, p.path); err != nil {
		return err
	}
	p.dirty = false
	return nil
}

func (w *watch) saveProven() {
	if err := w.proven.save(); err != nil {
		w.log.Debug("what was read through is not kept over a restart", "error", err)
	}
}

// proved notes that the bytes of a file are those of its blob while it has that mark.
func (w *watch) proved(digest string, m store.Mark) {
	if w.lost[digest] == nil {
		w.proven.set(digest, m)
	}
}

// believe takes a file that is seen for the first time for sound, and has it read through
// soon unless it is as it was when that was last known.
func (w *watch) believe(b provider.Blob, m store.Mark) {
	was, known := w.proven.marks[b.Digest]
	if known && was == m {
		return
	}
	if sealed, ok := w.cfg.Store.Content().Sealed(b.Digest); ok && sealed == m {
		w.proven.set(b.Digest, m)
		return
	}
	w.drifts.doubts.add(doubt{b, known})
}

// doubt is a file whose bytes nobody vouches for.
type doubt struct {
	blob    provider.Blob
	changed bool // it was sound, and something happened to it since
}

// doubts are files to be read through, those that changed first. Safe for concurrent use.
type doubts struct {
	wake  chan struct{} // capacity 1: there are some
	begun chan struct{} // closed when files have been looked at once
	once  sync.Once

	mu             sync.Mutex
	changed, other []doubt
}

func newDoubts() *doubts { return &doubts{wake: make(chan struct{}, 1), begun: make(chan struct{})} }

// begin says that what there is at the start is known.
func (d *doubts) begin() { d.once.Do(func() { close(d.begun) }) }

func (d *doubts) add(one doubt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if one.changed {
		d.changed = append(d.changed, one)
	} else {
		d.other = append(d.other, one)
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// take gives the next; false: there is none.
func (d *doubts) take() (doubt, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, list := range []*[]doubt{&d.changed, &d.other} {
		if len(*list) > 0 {
			one := (*list)[0]
			*list = (*list)[1:]
			return one, true
		}
	}
	return doubt{}, false
}
