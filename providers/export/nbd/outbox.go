package nbd

import (
	"net"
	"sync"
	"time"
)

// outbox sends replies. Those of the request loop gather in pending, and go out
// together; those of the sync loop go out at once. pending belongs to the request
// loop; the socket's write side belongs to whoever holds mu.
type outbox struct {
	nc      net.Conn
	stall   time.Duration
	buffers *buffers
	form    form
	pending []byte // whole replies, in a lent buffer; nil when none was lent

	mu sync.Mutex // guards the write side: replies must not be torn
}

// gather bounds what is held back for company.
const gather = 64 << 10

// reserve gives room for need bytes, at most largeBuffer: whole replies, or whole
// chunks. commit adds it. Pending replies are sent when they and these do not go
// together.
func (o *outbox) reserve(need int) ([]byte, error) {
	if o.pending != nil && (len(o.pending) >= gather || len(o.pending)+need > cap(o.pending)) {
		if err := o.flush(); err != nil {
			return nil, err
		}
	}
	if o.pending == nil {
		o.pending = o.buffers.get(need)
	}
	end := len(o.pending)
	return o.pending[end : end+need : end+need], nil
}

// commit adds n bytes of what reserve gave.
func (o *outbox) commit(n int) { o.pending = o.pending[:len(o.pending)+n] }

// reply adds a reply without payload.
func (o *outbox) reply(errno uint32, c command) error {
	b, err := o.reserve(headRoom)
	if err != nil {
		return err
	}
	o.commit(o.form.putAnswer(b, errno, c))
	return nil
}

// flush sends what is pending, and gives the buffer back: an idle connection
// lends none.
func (o *outbox) flush() error {
	if o.pending == nil {
		return nil
	}
	b := o.pending
	o.pending = nil
	defer o.buffers.put(b)
	return o.send(b)
}

// send writes whole replies.
func (o *outbox) send(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.write(b)
}

// write writes a part of a reply. The caller holds mu from the first part to the
// last.
func (o *outbox) write(b []byte) error {
	if err := o.nc.SetWriteDeadline(time.Now().Add(o.stall)); err != nil {
		return err
	}
	_, err := o.nc.Write(b)
	return err
}

// close gives a lent buffer back, unsent.
func (o *outbox) close() {
	o.buffers.put(o.pending)
	o.pending = nil
}
