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

// Back-off between tries of the message that is next, doubled with each.
const (
	firstWait = time.Second
	mostWait  = 5 * time.Minute
)

// hopelessError says that a message will never be taken.
type hopelessError struct{ error }

// laterError says when at the earliest to try again.
type laterError struct {
	error
	wait time.Duration
}

// Counts says what became of messages so far.
type Counts struct {
	Delivered   uint64
	Failed      uint64 // tries that failed, and are made again
	Dropped     uint64 // that were given up: not wanted there, or too many waited
	Outstanding int    // that wait
}

// outbox delivers messages one after the other, in their order.
type outbox struct {
	most  int // messages that wait at the same time
	send  func(context.Context, message) error
	after func(time.Duration) <-chan time.Time
	log   *slog.Logger

	wake chan struct{} // capacity 1

	mu     sync.Mutex // guards the fields below
	queue  []message
	sent   uint64 // taken out of the queue so far: tells whether its first one is still the same
	counts Counts
}

func newOutbox(most int, log *slog.Logger, send func(context.Context, message) error) *outbox {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &outbox{most: most, send: send, log: log, after: time.After, wake: make(chan struct{}, 1)}
}

// put takes a message, and drops the oldest when there are too many. It does not block.
func (o *outbox) put(m message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer func() {
		select {
		case o.wake <- struct{}{}:
		default:
		}
	}()
	for i := range o.queue {
		if m.key != "" && o.queue[i].key == m.key {
			o.queue[i] = m
			return
		}
	}
	o.queue = append(o.queue, m)
	if len(o.queue) > o.most {
		o.queue = o.queue[1:]
		o.sent++
		o.counts.Dropped++
	}
}

// first gives the message that is next, and its number.
func (o *outbox) first() (m message, number uint64, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		return m, 0, false
	}
	return o.queue[0], o.sent, true
}

// over takes the message with a number out, unless another took its place meanwhile.
func (o *outbox) over(m message, number uint64, delivered bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if delivered {
		o.counts.Delivered++
	} else {
		o.counts.Dropped++
	}
	if o.sent == number && len(o.queue) > 0 && o.queue[0].body == m.body {
		o.queue = o.queue[1:]
		o.sent++
	}
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
	wait := firstWait
	told := ""
	for {
		m, number, ok := o.first()
		if !ok {
			select {
			case <-o.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		err := o.send(ctx, m)
		if ctx.Err() != nil {
			return
		}
		var hopeless hopelessError
		switch {
		case err == nil:
			o.over(m, number, true)
			if told != "" {
				o.log.Info("delivered again", "what", m.what)
			}
			wait, told = firstWait, ""
			continue
		case errors.As(err, &hopeless):
			o.log.Warn("not wanted there, and given up", "what", m.what, "error", err)
			o.over(m, number, false)
			continue
		}
		if err.Error() != told {
			told = err.Error()
			o.log.Warn("cannot be delivered, and is tried again", "what", m.what, "error", err)
		}
		o.mu.Lock()
		o.counts.Failed++
		o.mu.Unlock()
		pause := wait
		if later := (laterError{}); errors.As(err, &later) {
			pause = min(max(pause, later.wait), mostLater)
		}
		select {
		case <-o.after(pause):
		case <-ctx.Done():
			return
		}
		wait = min(2*wait, mostWait)
	}
}

// mostLater bounds what a server may ask for with Retry-After.
const mostLater = time.Hour
