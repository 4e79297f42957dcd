package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Logged is an event, or a note of the engine's, with its number. Numbers start above
// Config.FirstEvent with the daemon and have no gaps, so whoever asks for the events
// after N sees by the first number whether some were forgotten meanwhile; it is told by
// a note as well, NoteGap, which has the number before.
type Logged struct {
	Seq uint64
	provider.Event
	Note *provider.Note // not nil: it is the engine's; of Event there are Kind and At then
}

// loggedJSON is the JSON form of Logged.
type loggedJSON struct {
	Seq        uint64              `json:"seq"`
	Kind       provider.EventKind  `json:"kind"`
	At         time.Time           `json:"at"`
	MAC        provider.MAC        `json:"mac,omitzero"`
	Addr       netip.Addr          `json:"address,omitzero"`
	Host       schema.Addr         `json:"host,omitzero"`
	Subnet     schema.Addr         `json:"subnet,omitzero"`
	Generation uint64              `json:"generation,omitempty"`
	Protocol   string              `json:"protocol,omitempty"`
	Name       string              `json:"name,omitempty"`
	Role       provider.AnswerKind `json:"role,omitempty"`
	Tree       string              `json:"tree,omitempty"`
	Artifact   string              `json:"artifact,omitempty"`
	Instance   string              `json:"instance,omitempty"`
	Image      schema.Addr         `json:"image,omitzero"`
	Class      string              `json:"class,omitempty"`
	Vendor     string              `json:"vendor,omitempty"`
	Arch       *uint16             `json:"arch,omitempty"`
	Bytes      int64               `json:"bytes,omitempty"`
	Err        string              `json:"error,omitempty"`
}

// loggedNote is the JSON form of Logged with a Note.
type loggedNote struct {
	Seq uint64 `json:"seq"`
	provider.Note
}

// MarshalJSON writes one flat object; what does not apply is left out.
func (l Logged) MarshalJSON() ([]byte, error) {
	if l.Note != nil {
		return json.Marshal(loggedNote{l.Seq, *l.Note})
	}
	e := l.Event
	var arch *uint16
	if e.HasArch {
		arch = &e.Arch
	}
	return json.Marshal(loggedJSON{
		Seq: l.Seq, Kind: e.Kind, At: e.At.UTC(), MAC: e.MAC, Addr: e.Addr, Host: e.Host, Subnet: e.Subnet,
		Generation: e.Generation, Protocol: e.Protocol, Name: e.Name, Role: e.Role, Tree: e.Tree,
		Artifact: e.Artifact, Instance: e.Instance, Image: e.Image, Class: e.Class, Vendor: e.Vendor,
		Arch: arch, Bytes: e.Bytes, Err: e.Err,
	})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (l *Logged) UnmarshalJSON(b []byte) error {
	var j loggedJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*l = Logged{Seq: j.Seq, Event: provider.Event{
		Kind: j.Kind, At: j.At, MAC: j.MAC, Addr: j.Addr, Host: j.Host, Subnet: j.Subnet,
		Generation: j.Generation, Protocol: j.Protocol, Name: j.Name, Role: j.Role, Tree: j.Tree,
		Artifact: j.Artifact, Instance: j.Instance, Image: j.Image, Class: j.Class, Vendor: j.Vendor,
		Bytes: j.Bytes, Err: j.Err,
	}}
	if j.Arch != nil {
		l.Arch, l.HasArch = *j.Arch, true
	}
	if j.Kind.IsNote() {
		n := new(loggedNote)
		if err := json.Unmarshal(b, n); err != nil {
			return err
		}
		*l = logNote(n.Seq, n.Note)
	}
	return nil
}

func logNote(seq uint64, n provider.Note) Logged {
	return Logged{Seq: seq, Event: provider.Event{Kind: n.Kind, At: n.At}, Note: &n}
}

// ring holds the last events. It calls nobody while it holds its lock.
type ring struct {
	mu     sync.Mutex // guards the fields below
	first  uint64     // number of the first that there ever was
	events []Logged   // at index (Seq-first) % cap
	last   uint64     // number of the newest; first-1: none yet
	more   chan struct{}
}

func newRing(size int, before uint64) *ring {
	return &ring{first: before + 1, last: before, events: make([]Logged, 0, size), more: make(chan struct{})}
}

// add gives l the next number and keeps it.
func (r *ring) add(l Logged) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	l.Seq = r.last
	if len(r.events) < cap(r.events) {
		r.events = append(r.events, l)
	} else {
		r.events[(r.last-r.first)%uint64(cap(r.events))] = l
	}
	close(r.more)
	r.more = make(chan struct{})
}

// Note keeps what the engine did or saw, among the events. It may be called while any
// lock is held.
func (t *Tracker) Note(n provider.Note) {
	if n.At.IsZero() {
		n.At = t.cfg.Wall(t.now())
	}
	n.At = n.At.UTC()
	t.ring.add(logNote(0, n))
}

// Events gives the events after number since that are still remembered, the oldest
// first, and a channel that is closed when there is another one. since 0 means all
// of them. A number that has not been given out, or not by this process, means all of
// them too, behind a NoteGap, and so does one behind which some are forgotten.
func (t *Tracker) Events(since uint64) ([]Logged, <-chan struct{}) {
	r := t.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.last - uint64(len(r.events)) + 1 // the oldest there is
	first, gap := max(kept, since+1), since != 0 && since+1 < kept
	var missed uint64
	switch {
	case since > r.last: // of a daemon whose clock was ahead
		first, gap = kept, true
	case gap && since+1 >= r.first:
		missed = kept - since - 1
	}
	list := make([]Logged, 0, r.last+2-first)
	if gap {
		list = append(list, logNote(first-1, provider.Note{Kind: provider.NoteGap, At: t.cfg.Wall(t.now()).UTC(), Missed: missed}))
	}
	for n := first; n <= r.last; n++ {
		list = append(list, r.events[(n-r.first)%uint64(cap(r.events))])
	}
	return list, r.more
}

// Subscribe calls f for every event after number since, in order, until f gives an
// error, which it returns, or ctx ends, which gives nil. f is called without any
// lock held; one that is slower than the events come misses some, as Logged says.
func (t *Tracker) Subscribe(ctx context.Context, since uint64, f func(Logged) error) error {
	for {
		list, more := t.Events(since)
		for _, l := range list {
			if err := f(l); err != nil {
				return err
			}
			since = l.Seq
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil
		}
	}
}

// Stream is Subscribe as NDJSON: one JSON object per line.
func (t *Tracker) Stream(ctx context.Context, w io.Writer, since uint64) error {
	enc := json.NewEncoder(w)
	return t.Subscribe(ctx, since, func(l Logged) error {
		if err := enc.Encode(l); err != nil {
			return fmt.Errorf("events: %w", err)
		}
		return nil
	})
}
