package nbd

import (
	"fmt"
	"io"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// read is NBD_CMD_READ with simple replies.
func (t *transmission) read(req protocol.TransmissionRequestHeader) error {
	// FUA is valid on every command, and clients are known to send it here.
	if req.CommandFlags&^cmdFlagFUA != 0 || req.Length > maxPayload || !t.inside(req) {
		return t.out.reply(protocol.TRANSMISSION_ERROR_EINVAL, req.Handle)
	}
	n := int(req.Length)
	if n > pieceSize {
		return t.readLong(req)
	}
	b, err := t.out.reserve(n)
	if err != nil {
		return err
	}
	if err := t.readBackend(b[replySize:], int64(req.Offset)); err != nil {
		putReply(b, t.failed("read", req, err), req.Handle)
		t.out.commit(replySize)
		return nil
	}
	putReply(b, errnoNone, req.Handle)
	t.out.commit(replySize + n)
	t.stats.Read += uint64(n)
	t.srv.counts.read.Add(uint64(n))
	return nil
}

// readLong answers a READ that is not held in memory as a whole. An error in a
// later piece cannot be said any more: "If an error occurs while reading after
// the server has already sent out the reply header […] the server MUST
// immediately initiate a hard disconnect".
func (t *transmission) readLong(req protocol.TransmissionRequestHeader) error {
	if err := t.out.flush(); err != nil {
		return err
	}
	buf := t.srv.buffers.get(largeBuffer)
	defer t.srv.buffers.put(buf)
	buf = buf[:largeBuffer]

	if err := t.readBackend(buf[replySize:], int64(req.Offset)); err != nil {
		return t.out.reply(t.failed("read", req, err), req.Handle)
	}
	putReply(buf, errnoNone, req.Handle)
	t.out.mu.Lock()
	defer t.out.mu.Unlock()
	if err := t.out.write(buf); err != nil {
		return err
	}
	for done := pieceSize; done < int(req.Length); {
		if t.dropped.Load() {
			return errDropped
		}
		piece := buf[:min(pieceSize, int(req.Length)-done)]
		if err := t.readBackend(piece, int64(req.Offset)+int64(done)); err != nil {
			t.failed("read", req, err)
			return fmt.Errorf("a reply was begun and cannot be finished: %w", err)
		}
		if err := t.out.write(piece); err != nil {
			return err
		}
		done += len(piece)
	}
	t.stats.Read += uint64(req.Length)
	t.srv.counts.read.Add(uint64(req.Length))
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
