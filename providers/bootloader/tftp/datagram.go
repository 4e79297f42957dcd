package tftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// goneWait is how long what a client sent before it closed its port is waited for: it
// is here already.
const goneWait = time.Millisecond

// read waits for an ACK and gives its block number. A client that has the last block
// closes its port, and what was sent to it twice is refused then: the kernel tells that
// before it gives the acknowledgement.
func (w *sender) read(deadline time.Time) (uint16, error) {
	for {
		if w.gone {
			deadline = time.Now().Add(goneWait)
		}
		n, err := w.sock.receive(w.in[:], deadline)
		if errors.Is(err, syscall.ECONNREFUSED) {
			if w.gone {
				return 0, errGone
			}
			w.gone = true
			continue
		}
		if w.gone && errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, errGone
		}
		if err != nil {
			return 0, err
		}
		if n < 4 {
			continue
		}
		arg := binary.BigEndian.Uint16(w.in[2:])
		switch binary.BigEndian.Uint16(w.in[:]) {
		case opACK:
			return arg, nil
		case opERROR:
			text, _, _ := field(w.in[4:n])
			return 0, &clientError{arg, text}
		}
	}
}

// oack makes the answer to the options that were asked for and understood, with
// the values in use (RFC 2347).
func (w *sender) oack() []byte {
	p := binary.BigEndian.AppendUint16(nil, opOACK)
	if w.t.req.block > 0 {
		p = appendOption(p, "blksize", int64(w.t.block))
	}
	if w.t.req.timeout > 0 {
		p = appendOption(p, "timeout", int64(w.t.req.timeout))
	}
	if w.t.req.tsize {
		p = appendOption(p, "tsize", w.t.data.Size())
	}
	if w.t.req.window > 0 {
		p = appendOption(p, "windowsize", int64(w.window))
	}
	return p
}

// send sends the blocks first to last, at most a window, or the OACK when they are
// 0. Nothing is sent when last is below first.
func (w *sender) send(first, last int64) error {
	if last < first {
		return nil
	}
	if first == 0 {
		return w.lost(w.sock.write(w.oack()))
	}
	w.resent += max(0, min(w.highest, last)-first+1)
	w.highest = max(w.highest, last)
	if first == last {
		if err := w.prepare(first); err != nil {
			return err
		}
		return w.lost(w.sock.write(w.packet))
	}
	block := int64(w.t.block)
	data, err := w.ahead.bytes((first-1)*block, (last-first+1)*block)
	if err != nil {
		return err
	}
	msgs := w.msgs[:last-first+1]
	for i := range msgs {
		h := w.header[i*4 : i*4+4]
		binary.BigEndian.PutUint16(h, opDATA)
		binary.BigEndian.PutUint16(h[2:], uint16(first+int64(i)))
		n := min(int64(len(data)), block)
		msgs[i].Buffers[0], msgs[i].Buffers[1] = h, data[:n]
		data = data[n:]
	}
	for len(msgs) > 0 {
		n, err := w.sock.writeBatch(msgs)
		if err := w.lost(err); err != nil {
			return err
		}
		if n <= 0 {
			break // lost
		}
		msgs = msgs[n:]
	}
	return nil
}

// prepare makes the packet of one block, unless it is the one that is ready.
func (w *sender) prepare(n int64) error {
	if w.ready == n {
		return nil
	}
	block := int64(w.t.block)
	data, err := w.ahead.bytes((n-1)*block, block)
	if err != nil {
		return err
	}
	p := binary.BigEndian.AppendUint16(w.packet[:0], opDATA)
	p = binary.BigEndian.AppendUint16(p, uint16(n))
	w.packet, w.ready = append(p, data...), n
	return nil
}

// lost says whether a datagram that could not be sent ends the transfer. A full
// queue is a loss like any other, and so is one that was not waited for any longer.
func (w *sender) lost(err error) error {
	switch {
	case err == nil || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.EAGAIN) || errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case errors.Is(err, syscall.ECONNREFUSED):
		w.gone = true // which ends it, after what came before
		return nil
	}
	return fmt.Errorf("tftp: send: %w", err)
}
