package tftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// read waits for an ACK and gives its block number.
func (w *sender) read(deadline time.Time) (uint16, error) {
	w.conn.SetReadDeadline(deadline)
	for {
		// Looked at after the deadline was set: the end of ctx sets it to the past.
		if err := w.interrupted(); err != nil {
			return 0, err
		}
		n, err := w.conn.Read(w.in[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if why := w.interrupted(); why != nil {
				return 0, why
			}
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
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
		p = appendOption(p, "tsize", w.t.file.Size())
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
		_, err := w.conn.Write(w.oack())
		return w.lost(err)
	}
	block := int64(w.t.block)
	off := (first - 1) * block
	data := w.data[:min((last-first+1)*block, w.t.file.Size()-off)]
	if len(data) > 0 {
		if n, err := w.t.file.ReadAt(data, off); n < len(data) {
			return fmt.Errorf("tftp: read: %w", err)
		}
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
	w.resent += max(0, min(w.highest, last)-first+1)
	w.highest = max(w.highest, last)
	for len(msgs) > 0 {
		n, err := w.batch.WriteBatch(msgs, 0)
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

// lost says whether a datagram that could not be sent ends the transfer. A full
// queue is a loss like any other.
func (w *sender) lost(err error) error {
	switch {
	case err == nil || errors.Is(err, syscall.ENOBUFS):
		return nil
	case errors.Is(err, syscall.ECONNREFUSED):
		return errGone
	}
	return fmt.Errorf("tftp: send: %w", err)
}
