package nbd

import (
	"fmt"
	"io"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// read is NBD_CMD_READ with simple replies.
func (t *transmission) read(c command) error {
	// FUA is valid on every command, and clients are known to send it here.
	flags := cmdFlagFUA
	if t.form != simple {
		flags |= cmdFlagDF
	}
	if c.flags&^flags != 0 || c.length > maxPayload || !t.inside(c) {
		return t.out.reply(protocol.TRANSMISSION_ERROR_EINVAL, c)
	}
	if t.form != simple {
		return t.readChunks(c)
	}
	n := int(c.length)
	if n > pieceSize {
		return t.readLong(c)
	}
	b, err := t.out.reserve(replySize + n)
	if err != nil {
		return err
	}
	if err := t.readBackend(b[replySize:], int64(c.offset)); err != nil {
		putReply(b, t.failed("read", c, err), c.cookie)
		t.out.commit(replySize)
		return nil
	}
	putReply(b, errnoNone, c.cookie)
	t.out.commit(replySize + n)
	t.sent(n)
	return nil
}

// sent counts payload.
func (t *transmission) sent(n int) {
	t.stats.Read += uint64(n)
	t.srv.counts.read.Add(uint64(n))
}

// readLong answers a READ that is not held in memory as a whole. An error in a
// later piece cannot be said any more: "If an error occurs while reading after
// the server has already sent out the reply header […] the server MUST
// immediately initiate a hard disconnect".
func (t *transmission) readLong(c command) error {
	if err := t.out.flush(); err != nil {
		return err
	}
	buf := t.srv.buffers.get(largeBuffer)
	defer t.srv.buffers.put(buf)
	buf = buf[:replySize+pieceSize]

	if err := t.readBackend(buf[replySize:], int64(c.offset)); err != nil {
		return t.out.reply(t.failed("read", c, err), c)
	}
	putReply(buf, errnoNone, c.cookie)
	t.out.mu.Lock()
	defer t.out.mu.Unlock()
	if err := t.out.write(buf); err != nil {
		return err
	}
	for done := pieceSize; done < int(c.length); {
		if t.dropped.Load() {
			return errDropped
		}
		piece := buf[:min(pieceSize, int(c.length)-done)]
		if err := t.readBackend(piece, int64(c.offset)+int64(done)); err != nil {
			t.failed("read", c, err)
			return fmt.Errorf("a reply was begun and cannot be finished: %w", err)
		}
		if err := t.out.write(piece); err != nil {
			return err
		}
		done += len(piece)
	}
	t.sent(int(c.length))
	return nil
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
