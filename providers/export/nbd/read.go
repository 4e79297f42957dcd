package nbd

import (
	"fmt"
	"io"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// read is NBD_CMD_READ. Bytes that are in memory are sent from where they lie; what
// can be copied without waiting is; the rest is left to slowReads, unless w is of
// them.
func (w *worker) read(c command) error {
	// FUA is valid on every command, and clients are known to send it here.
	flags := cmdFlagFUA
	if w.form != simple {
		flags |= cmdFlagDF
	}
	switch {
	case c.flags&^flags != 0 || c.length > maxPayload || !w.inside(c):
		return w.out.reply(protocol.TRANSMISSION_ERROR_EINVAL, c)
	case c.length == 0: // a content chunk may not be empty
		return w.out.reply(errnoNone, c)
	case w.form != simple:
		return w.readChunks(c)
	}
	off, n := int64(c.offset), int(c.length)
	if w.lent(off, n) {
		b, err := w.out.reserve(replySize)
		if err != nil {
			return err
		}
		putReply(b, errnoNone, c.cookie)
		w.out.commit(replySize)
		w.lend(w.pieces)
		return nil
	}
	if w.waits() && n > smallPiece {
		return w.slow.add(c)
	}
	if w.srv.buffers.piece(n) < n {
		return w.readLong(c)
	}
	b, err := w.out.reserve(replySize + n)
	if err != nil {
		return err
	}
	if w.waits() {
		if !w.readNow(b[replySize:], off) {
			return w.slow.add(c)
		}
	} else if err := w.readBackend(b[replySize:], off); err != nil {
		putReply(b, w.failed("read", c, err), c.cookie)
		w.out.commit(replySize)
		return nil
	}
	putReply(b, errnoNone, c.cookie)
	w.out.commit(replySize + n)
	w.out.carried(n)
	return nil
}

// lend adds pieces to what is sent, as they lie.
func (w *worker) lend(pieces []part) {
	for _, p := range pieces {
		w.out.lend(p)
	}
}

// readLong answers a READ that is not held in memory as a whole. An error in a
// later piece cannot be said any more: "If an error occurs while reading after
// the server has already sent out the reply header […] the server MUST
// immediately initiate a hard disconnect".
func (w *worker) readLong(c command) error {
	size := w.srv.buffers.piece(int(c.length))
	buf := w.srv.buffers.get(replySize + size)
	defer w.srv.buffers.put(buf)
	buf = buf[:replySize+size]

	if err := w.readBackend(buf[replySize:], int64(c.offset)); err != nil {
		return w.out.reply(w.failed("read", c, err), c)
	}
	putReply(buf, errnoNone, c.cookie)
	return w.direct(func(send func([]byte) error) error {
		w.to.sent(int(c.length))
		if err := send(buf); err != nil {
			return err
		}
		for done := size; done < int(c.length); {
			if w.dropped.Load() {
				return errDropped
			}
			piece := buf[:min(size, int(c.length)-done)]
			at := int64(c.offset) + int64(done)
			if err := w.readBackend(piece, at); err != nil {
				return fmt.Errorf("%d bytes at %d cannot be read, and the reply was begun: %w", len(piece), at, err)
			}
			if err := send(piece); err != nil {
				return err
			}
			done += len(piece)
		}
		return nil
	})
}

// direct sends what is pending, and gives do the connection's write side for the
// parts of one reply.
func (w *worker) direct(do func(send func([]byte) error) error) error {
	if err := w.out.flush(); err != nil {
		return err
	}
	if !w.out.held {
		w.to.mu.Lock()
		defer w.to.mu.Unlock()
	}
	one := make([]part, 1)
	w.out.had.replies++
	err := do(func(b []byte) error {
		one[0].b = b
		w.out.had.bytes += len(b)
		return w.to.send(one)
	})
	if err != nil && w.to.broken == nil {
		w.to.broken = err // the reply may have been begun
	}
	return err
}

// readBackend fills b or fails.
func (t *transmission) readBackend(b []byte, off int64) error {
	n, err := t.exp.Backend.ReadAt(b, off)
	if n == len(b) { // with or without io.EOF: io.ReaderAt
		return nil
	}
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
