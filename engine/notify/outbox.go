package notify

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// message is one thing to deliver.
type message struct {
	key  string // a newer one with the same key takes its place; "" never
	what string // for the log: no secrets
	body any    // for the sender
}

// Back-off between tries of one message, doubled with each.
const (
	firstWait = time.Second
	mostWait  = 5 * time.Minute
	// mostLater bounds what a server may ask for with Retry-After.
	mostLater = time.Hour
)

// Counts says what became of messages so far.
type Counts struct {
	Delivered   uint64
	Failed      uint64 // tries that failed, and are made again
	Dropped     uint64 // that were given up: not wanted there, or too many waited
	Outstanding int    // that wait
}

// delivery says how an outbox delivers.
type delivery struct {
	most    int  // messages that wait at the same time
	ordered bool // one waits for those before it; else the one that failed least goes first
	// tries is how many answers with a status code (0: it cannot be sent at all) are
	// taken for the last word on a message; 0: it is tried for ever.
	tries func(code int) int
	send  func(context.Context, message) error
}

// outbox delivers messages, one at a time.
type outbox struct {
	delivery
	now   func() time.Time // of a clock that only goes forward
	after func(time.Duration) <-chan time.Time
	log   *slog.Logger

	wake chan struct{} // capacity 1

	mu     sync.Mutex // guards the fields below, and what entries hold
	queue  []*entry   // the oldest first
	quiet  time.Time  // until then nothing is sent, because the other side asked for that
	lost   int        // dropped since the queue was full first
	counts Counts
}

// entry is a message that waits.
type entry struct {
	message
	fails, refused int       // tries in vain, and how many of them it was refused itself
	due            time.Time // when to try again
	told           string    // the last error in the log
}

func newOutbox(log *slog.Logger, d delivery) *outbox {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &outbox{delivery: d, log: log, now: time.Now, after: time.After, wake: make(chan struct{}, 1)}
}

// put takes a message. When there are too many, the one that failed most is dropped, and
// of several the oldest; in an ordered outbox always the oldest. It does not block.
func (o *outbox) put(m message) {
	defer func() {
		select {
		case o.wake <- struct{}{}:
		default:
		}
	}()
	o.mu.Lock()
	defer o.mu.Unlock()
	e := &entry{message: m}
	for i := range o.queue {
		if m.key != "" && o.queue[i].key == m.key {
			o.queue[i] = e // what is on its way of the old one is not looked for any more
			return
		}
	}
	o.queue = append(o.queue, e)
	if len(o.queue) <= o.most {
		return
	}
	worst := 0
	for i, e := range o.queue {
		if !o.ordered && e.fails > o.queue[worst].fails {
			worst = i
		}
	}
	if o.lost == 0 {
		o.log.Warn("more waits than is kept, and the oldest are dropped", "kept", o.most, "first", o.queue[worst].what)
	}
	o.lost++
	o.remove(o.queue[worst])
	o.counts.Dropped++
}

// remove takes an entry out, unless another took its place. The caller holds mu.
func (o *outbox) remove(gone *entry) {
	for i, e := range o.queue {
		if e == gone {
			o.queue = append(o.queue[:i:i], o.queue[i+1:]...)
			return
		}
	}
}

// next gives the message to send next, and how long to wait before; nil when none waits.
func (o *outbox) next() (*entry, time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		return nil, 0
	}
	now := o.now()
	best := o.queue[0]
	wait := best.due.Sub(now)
	if !o.ordered {
		for _, e := range o.queue[1:] {
			w := e.due.Sub(now)
			if wait <= 0 && w <= 0 && e.fails < best.fails || wait > 0 && w < wait {
				best, wait = e, w
			}
		}
	}
	return best, max(wait, o.quiet.Sub(now), 0)
}

// Counts says what became of messages so far.
func (o *outbox) Counts() Counts {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.counts
	c.Outstanding = len(o.queue)
	return c
}

// run delivers until ctx ends.
func (o *outbox) run(ctx context.Context) {
	for {
		// What is put from here on wakes the pause below; what was put before is seen.
		select {
		case <-o.wake:
		default:
		}
		e, pause := o.next()
		var due <-chan time.Time // none: only something new ends the pause
		if e != nil && pause > 0 {
			due = o.after(pause)
		}
		if e == nil || pause > 0 {
			select {
			case <-due:
			case <-o.wake:
			case <-ctx.Done():
				return
			}
			continue
		}
		err := o.send(ctx, e.message)
		if ctx.Err() != nil {
			return
		}
		o.over(e, err)
	}
}

// over says what became of a try.
func (o *outbox) over(e *entry, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		o.counts.Delivered++
		o.remove(e)
		if e.told != "" {
			o.log.Info("delivered after all", "what", e.what, "tries", e.fails+1)
		}
		if o.lost > 0 && len(o.queue) <= o.most/2 {
			o.log.Warn("messages were dropped while too many waited", "dropped", o.lost)
			o.lost = 0
		}
		return
	}
	e.fails++
	var answer answerError
	if errors.As(err, &answer) {
		if most := o.tries(answer.code); most > 0 {
			if e.refused++; e.refused >= most {
				o.counts.Dropped++
				o.remove(e)
				o.log.Warn("not wanted there, and given up", "what", e.what, "refused", e.refused, "error", err)
				return
			}
		}
	}
	if err.Error() != e.told {
		e.told = err.Error()
		o.log.Warn("cannot be delivered, and is tried again", "what", e.what, "error", err)
	}
	o.counts.Failed++
	wait := mostWait
	if e.fails < 16 { // more doublings than any wait has
		wait = min(firstWait<<(e.fails-1), mostWait)
	}
	now := o.now()
	e.due = now.Add(wait)
	if answer.wait > 0 {
		o.quiet = now.Add(min(answer.wait, mostLater))
	}
}
