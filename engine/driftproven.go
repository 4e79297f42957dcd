package engine

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// proven is what is known of files whose bytes were seen to be those of their blob. It
// is kept over restarts, so that a start believes what is as it was, and scrub goes on
// where it was. The file is a hint: what it lacks, or all when it is damaged or older than
// what it tells of, is read before the rest. It belongs to watch.
type proven struct {
	path  string
	marks map[string]store.Mark // by digest
	turns *turns
	dirty bool // marks are not as in the file
	// turned says that turns are not, and saved of Config.Elapsed when it was written.
	turned bool
	saved  time.Duration
}

// provenMark is an entry of the file.
type provenMark struct {
	store.Mark
	Read uint64 `json:",omitempty"` // its turn; see turns
}

// turns is the order in which files were read through. Safe for concurrent use.
type turns struct {
	mu   sync.Mutex // guards all below
	last uint64
	of   map[string]uint64 // by digest; 0: never. It is no time: clocks are set
}

// had notes that a file was read now.
func (t *turns) had(digest string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	t.of[digest] = t.last
}

// set takes what the process before knew.
func (t *turns) set(of map[string]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of, t.last = of, 0
	for _, n := range of {
		t.last = max(t.last, n)
	}
}

func (t *turns) at(digest string) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.of[digest]
}

func (t *turns) forget(digest string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.of, digest)
}

// oldestFirst sorts files by when they were read: those never read first, and in their
// order.
func (t *turns) oldestFirst(list []provider.Blob) []provider.Blob {
	slices.SortStableFunc(list, func(a, b provider.Blob) int { return cmp.Compare(t.at(a.Digest), t.at(b.Digest)) })
	return list
}

// provenFile is its name in the state directory.
const provenFile = "proven"

// mostProven bounds what is read of it, in bytes: about 100,000 files.
const mostProven = 32 << 20

// keepTurns is how often the file is written for what was read alone.
const keepTurns = time.Minute

// loadProven reads what the process before knew, into turns too.
func loadProven(s *store.Store, t *turns) proven {
	p := proven{path: filepath.Join(s.Dir(), provenFile), marks: map[string]store.Mark{}, turns: t}
	b := s.ReadHint(provenFile, mostProven)
	sum, text, ok := bytes.Cut(b, []byte("\n"))
	if !ok || string(sum) != digestOf(text) {
		return p
	}
	var all map[string]provenMark
	if json.Unmarshal(text, &all) != nil {
		return p
	}
	of := map[string]uint64{}
	for digest, m := range all {
		p.marks[digest] = m.Mark
		if m.Read > 0 {
			of[digest] = m.Read
		}
	}
	t.set(of)
	return p
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// set notes that a file was sound with a mark, as somebody just saw.
func (p *proven) set(digest string, m store.Mark) {
	p.turns.had(digest)
	p.turned = true
	if p.marks[digest] != m {
		p.marks[digest], p.dirty = m, true
	}
}

func (p *proven) drop(digest string) {
	p.turns.forget(digest)
	if _, ok := p.marks[digest]; ok {
		delete(p.marks, digest)
		p.dirty = true
	}
}

// keep forgets what nothing needs any more.
func (p *proven) keep(needed map[string][]store.Use) {
	for d := range p.marks {
		if needed[d] == nil {
			p.drop(d)
		}
	}
}

// save writes what has changed. Nothing is synced: a file that a crash took half of does
// not have its sum.
func (p *proven) save() error {
	all := map[string]provenMark{}
	for digest, m := range p.marks {
		all[digest] = provenMark{m, p.turns.at(digest)}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	next := p.path + ".new"
	if err := os.RemoveAll(next); err != nil { // whatever it is
		return err
	}
	if err := os.WriteFile(next, append([]byte(digestOf(text)+"\n"), text...), 0o600); err != nil {
		return err
	}
	if err := os.Rename(next, p.path); err != nil {
		return err
	}
	p.dirty, p.turned = false, false
	return nil
}

// saveProven writes what is proven when that has changed. That something was read once
// more is not written each time, but at the end.
func (w *watch) saveProven(end bool) {
	p, now := &w.proven, w.elapsed()
	if !p.dirty && (!p.turned || !end && now-p.saved < keepTurns) {
		return
	}
	p.saved = now
	if err := p.save(); err != nil {
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
