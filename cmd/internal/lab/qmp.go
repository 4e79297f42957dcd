package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// qmp speaks the QEMU Machine Protocol (docs/interop/qmp-spec) over one
// descriptor. Events are read and dropped.
type qmp struct {
	file *os.File

	mu      sync.Mutex // guards what follows, and writing
	next    int
	waiting map[int]chan qmpReply
	err     error // why no reply will come any more
}

// qmpMessage is anything that QEMU sends.
type qmpMessage struct {
	QMP    json.RawMessage `json:"QMP"` // the greeting
	Event  string          `json:"event"`
	ID     *int            `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *QMPError       `json:"error"`
}

type qmpReply struct {
	value json.RawMessage
	err   error
}

// QMPError is QEMU's refusal of a command.
type QMPError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *QMPError) Error() string { return e.Class + ": " + e.Desc }

func newQMP(f *os.File) *qmp { return &qmp{file: f, waiting: map[int]chan qmpReply{}} }

// run hands replies to those who wait for them until QEMU hangs up.
func (q *qmp) run() {
	dec := json.NewDecoder(q.file)
	var err error
	for {
		var m qmpMessage
		if err = dec.Decode(&m); err != nil {
			break
		}
		if m.ID == nil {
			continue // the greeting, an event, or the answer to what was no JSON
		}
		r := qmpReply{value: m.Return}
		if m.Error != nil {
			r.err = m.Error
		}
		q.mu.Lock()
		if ch := q.waiting[*m.ID]; ch != nil {
			ch <- r // never blocks: one reply, one place
			delete(q.waiting, *m.ID)
		}
		q.mu.Unlock()
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		err = fmt.Errorf("qemu speaks no QMP: %w", syntax)
	} else {
		err = ErrExited // hung up, or was killed with something unread
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = err
	for _, ch := range q.waiting {
		ch <- qmpReply{err: err}
	}
	clear(q.waiting)
}

// writeTime bounds the writing of one command; QEMU's main loop reads them at once
// unless it hangs.
const writeTime = 10 * time.Second

// execute runs one command and waits for its return value.
func (q *qmp) execute(ctx context.Context, command string, args any) (json.RawMessage, error) {
	ch, id, err := q.send(command, args)
	if err != nil {
		return nil, fmt.Errorf("qmp %s: %w", command, err)
	}
	select {
	case r := <-ch:
		if r.err != nil {
			return nil, fmt.Errorf("qmp %s: %w", command, r.err)
		}
		return r.value, nil
	case <-ctx.Done():
		q.mu.Lock()
		delete(q.waiting, id)
		q.mu.Unlock()
		return nil, fmt.Errorf("qmp %s: %w", command, ctx.Err())
	}
}

func (q *qmp) send(command string, args any) (<-chan qmpReply, int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return nil, 0, q.err
	}
	q.next++
	b, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        int    `json:"id"`
	}{command, args, q.next})
	if err != nil {
		return nil, 0, err
	}
	if err := q.file.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return nil, 0, err
	}
	if _, err := q.file.Write(append(b, '\n')); err != nil {
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) {
			err = ErrExited
		}
		q.err = err // half a command may have been written: nothing can follow it
		return nil, 0, err
	}
	ch := make(chan qmpReply, 1)
	q.waiting[q.next] = ch
	return ch, q.next, nil
}
