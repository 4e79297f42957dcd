package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// DriftTimes says how often the engine looks whether the world is still what it
// published. Zero fields have the defaults that they name.
type DriftTimes struct {
	Off    bool          // nobody looks
	Every  time.Duration // how often providers are asked what they know; 5 s
	Resync time.Duration // how often all files are looked at without a hint, plus up to a tenth; 10 min
	Ask    time.Duration // how long providers may look anew, when somebody asks for it; 4 s
	Scrub  time.Duration // how often every file is read through; 24 h, and never when negative
	Rate   int64         // bytes per second that this reads; 32 MiB
}

func (d DriftTimes) orDefault() DriftTimes {
	d.Every = cmp.Or(d.Every, 5*time.Second)
	d.Resync = cmp.Or(d.Resync, 10*time.Minute)
	d.Ask = cmp.Or(d.Ask, 4*time.Second)
	d.Scrub = cmp.Or(d.Scrub, 24*time.Hour)
	d.Rate = cmp.Or(d.Rate, 32<<20)
	return d
}

// settleHints is how long files are left alone after something happened to them:
// what happens to one happens to others.
const settleHints = 200 * time.Millisecond

// drifts is what ties the watching goroutines to those who ask.
type drifts struct {
	asked   chan chan []provider.Drift // somebody wants to know what is so now
	read    chan reading               // a file was read through
	doubts  *doubts                    // files that are to be read before others
	turns   *turns                     // in which files were read
	rebuild chan rebuild               // to the loop; capacity 1, for watch asks for one at a time
}

func newDrifts() drifts {
	return drifts{asked: make(chan chan []provider.Drift), read: make(chan reading), doubts: newDoubts(), turns: &turns{of: map[string]uint64{}}, rebuild: make(chan rebuild, 1)}
}

// Drift looks whether what is served is what was published, and says what is not. It
// changes nothing. It takes a few seconds, or as long as reading a file through that
// was touched; what is being made anew is told, and not waited for.
func (e *Engine) Drift(ctx context.Context) ([]provider.Drift, error) {
	if e.cfg.Drift.Off {
		return nil, errors.New("this daemon does not look for drift")
	}
	ask, cancel := context.WithTimeout(ctx, e.cfg.Drift.Ask)
	defer cancel()
	for _, p := range e.cfg.Providers {
		if w, ok := p.(provider.Watcher); ok {
			if err := w.Look(ask); err != nil && ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
				e.log.Warn("looking for drift", "provider", p.Name(), "error", err)
			}
		}
	}
	reply := make(chan []provider.Drift, 1)
	select {
	case e.drifts.asked <- reply:
	case <-e.stopped:
		return nil, ErrStopped
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case list := <-reply:
		return list, nil
	case <-e.stopped:
		return nil, ErrStopped
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// watch looks for drift and heals it. Its fields belong to the goroutine of run.
type watch struct {
	*Engine
	uses  map[uint64][]store.Use // what each kept generation needs
	marks map[string]store.Mark  // of files that are sound as far as is known, by digest
	lost  map[string]*lostBlob   // those that are not
	// proven holds the marks of files with which they were read through, or sealed. What
	// is there again at the next start with its mark is believed then.
	proven proven
	told   []provider.Drift // what status says
	seen   uint64           // generation that was served at the last look for its sake

	making *making // what is being made anew; nil: nothing
}

func newWatch(e *Engine) *watch {
	return &watch{Engine: e, uses: map[uint64][]store.Use{}, marks: map[string]store.Mark{}, lost: map[string]*lostBlob{}, proven: loadProven(e.cfg.Store, e.drifts.turns)}
}

// run looks until ctx ends, and returns nil. Serving never depends on it.
func (w *watch) run(ctx context.Context) error {
	hints := w.hints()
	if hints != nil {
		defer hints.Close()
	}
	defer w.saveProven(true)
	t := w.cfg.Drift
	every := time.NewTicker(t.Every)
	defer every.Stop()
	resync := time.NewTimer(0)
	defer resync.Stop()
	settled := time.NewTimer(time.Hour)
	settled.Stop()
	defer settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events(hints): // something happened to a file of the store
			settled.Reset(settleHints)
			continue
		case err := <-failures(hints): // some of what happened is not known
			w.log.Debug("watching the content store", "error", err)
			settled.Reset(settleHints)
			continue
		case <-settled.C:
			w.follow(hints)
			w.look(ctx)
		case <-resync.C: // nobody says what happened to files while nobody watched
			resync.Reset(t.Resync + rand.N(t.Resync/10+1))
			w.follow(hints)
			w.look(ctx)
			w.drifts.doubts.begin()
		case r := <-w.drifts.read:
			if r.spoilt {
				w.suspect(ctx, r.blob.Digest)
			} else {
				w.proved(r.blob.Digest, r.mark)
			}
		case <-every.C: // providers may have found something
			w.retry(ctx)
			w.saveProven(false)
		case out := <-w.made(): // what was lost has been made anew, or could not be
			w.finish(ctx, out)
		case reply := <-w.drifts.asked:
			w.look(ctx)
			reply <- w.known()
		}
		w.tell() // what was found, also where it is healed at once
		w.heal(ctx)
		w.tell()
	}
}

// events gives what a watcher tells; nil, which tells nothing, without one.
func events(h *fsnotify.Watcher) <-chan fsnotify.Event {
	if h == nil {
		return nil
	}
	return h.Events
}

func failures(h *fsnotify.Watcher) <-chan error {
	if h == nil {
		return nil
	}
	return h.Errors
}

// hints watches the folders of the content store. Without it drift is found later.
func (w *watch) hints() *fsnotify.Watcher {
	h, err := fsnotify.NewWatcher()
	if err != nil {
		w.log.Warn("the content store cannot be watched; it is looked at from time to time", "every", w.cfg.Drift.Resync, "error", err)
		return nil
	}
	w.follow(h)
	return h
}

// follow watches folders that are new. Watching one twice is once.
func (w *watch) follow(h *fsnotify.Watcher) {
	if h == nil {
		return
	}
	dirs, err := w.cfg.Store.Content().Folders()
	for _, d := range dirs {
		if aerr := h.Add(d); aerr != nil && !errors.Is(aerr, fs.ErrNotExist) {
			err = aerr
		}
	}
	if err != nil {
		w.log.Debug("watching the content store", "error", err)
	}
}

// known gives all drift that is known of, in order.
func (w *watch) known() []provider.Drift {
	list := w.blobDrift()
	for _, p := range w.cfg.Providers {
		if watcher, ok := p.(provider.Watcher); ok {
			list = append(list, watcher.Drift()...)
		}
	}
	for i := range list {
		if d := &list[i]; d.Since.IsZero() {
			d.Since = w.now().UTC()
			if j := slices.IndexFunc(w.told, func(o provider.Drift) bool { return d.Same(&o) }); j >= 0 {
				d.Since = w.told[j].Since
			}
		}
	}
	slices.SortFunc(list, provider.CompareDrift)
	return list
}

// tell says in the status, and among the events, what drift there is now.
func (w *watch) tell() {
	now := w.known()
	if slices.EqualFunc(now, w.told, equalDrift) {
		return
	}
	was := w.told
	w.told = now
	w.update(func(s *Status) { s.Drift = slices.Clone(now) }) // who hears of it finds it there
	gen := w.Generation()
	for i := range now {
		if d := &now[i]; !holds(was, d) {
			w.log.Warn("drift", "kind", d.Kind, "resource", d.Address, "what", d.What, "message", d.Message, "heals", d.Heals)
			w.emit(provider.Note{Kind: provider.NoteDriftFound, Address: d.Address, Generation: gen, Reason: string(d.Kind), Message: d.Message, Hosts: d.Machines})
		}
	}
	for i := range was {
		if d := &was[i]; !holds(now, d) {
			w.log.Info("drift is over", "kind", d.Kind, "resource", d.Address, "what", d.What)
			w.emit(provider.Note{Kind: provider.NoteDriftHealed, Address: d.Address, Generation: gen, Reason: string(d.Kind), Message: d.What})
		}
	}
}

func holds(list []provider.Drift, d *provider.Drift) bool {
	return slices.ContainsFunc(list, func(o provider.Drift) bool { return d.Same(&o) })
}

func equalDrift(a, b provider.Drift) bool {
	return a.Same(&b) && a.Message == b.Message && a.Heals == b.Heals && a.Former == b.Former && a.How == b.How && a.Since.Equal(b.Since) &&
		a.Range == b.Range && slices.Equal(a.Machines, b.Machines)
}

// driftText gives what machines meet of a list as one line for people; "" for nothing.
func driftText(list []provider.Drift) string {
	list = slices.DeleteFunc(slices.Clone(list), func(d provider.Drift) bool { return d.Former && len(d.Machines) == 0 })
	switch len(list) {
	case 0:
		return ""
	case 1:
		return list[0].Message
	}
	return fmt.Sprintf("%s; and %d more", list[0].Message, len(list)-1)
}
