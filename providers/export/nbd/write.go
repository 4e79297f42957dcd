package nbd

import (
	"fmt"
	"io"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// write is NBD_CMD_WRITE. The payload is taken off the wire whatever happens to
// it, or the connection ends.
func (t *transmission) write(req protocol.TransmissionRequestHeader) error {
	if req.Length > maxPayload {
		// "Block size constraints" allows a hard disconnect here.
		return fmt.Errorf("%w: a WRITE of %d bytes", errHostile, req.Length)
	}
	if errno := t.refuseWrite(req, cmdFlagFUA); errno != errnoNone {
		if err := t.skipPayload(int(req.Length)); err != nil {
			return err
		}
		return t.out.reply(errno, req.Handle)
	}
	errno, err := t.takePayload(req)
	if err != nil {
		return err
	}
	return t.answerWrite(req, errno)
}

// refuseWrite checks what WRITE, TRIM and WRITE_ZEROES have in common
// ("Error values"): EPERM on a read-only export, EINVAL for unknown flags,
// ENOSPC beyond the end.
func (t *transmission) refuseWrite(req protocol.TransmissionRequestHeader, flags uint16) uint32 {
	switch {
	case t.exp.ReadOnly:
		return protocol.TRANSMISSION_ERROR_EPERM
	case req.CommandFlags&^flags != 0:
		return protocol.TRANSMISSION_ERROR_EINVAL
	case !t.inside(req):
		return errnoNoSpc
	}
	return errnoNone
}

// answerWrite replies to what was written, after a sync if FUA asks for one.
func (t *transmission) answerWrite(req protocol.TransmissionRequestHeader, errno uint32) error {
	if errno == errnoNone && req.CommandFlags&cmdFlagFUA != 0 {
		return t.syncThenReply(req.Handle)
	}
	return t.out.reply(errno, req.Handle)
}

// takePayload moves the payload to the backend. errno is the backend's first
// error; err ends the connection.
func (t *transmission) takePayload(req protocol.TransmissionRequestHeader) (errno uint32, err error) {
	off, left := int64(req.Offset), int(req.Length)
	if left <= t.in.Buffered() { // all of it is here: no copy
		b, err := t.in.Peek(left)
		if err != nil {
			return errnoNone, err
		}
		errno = t.writeBackend(req, b, off)
		t.in.Discard(left)
		return errno, nil
	}
	if err := t.out.flush(); err != nil { // about to wait
		return errnoNone, err
	}
	buf := t.srv.buffers.get(min(left, pieceSize))
	defer t.srv.buffers.put(buf)
	for left > 0 {
		// Pieces end on block boundaries: a backend that works in blocks then
		// never sees one in two halves.
		piece := buf[:min(left, pieceSize-int(off%preferredBlock))]
		if err := t.awaitPayload(); err != nil {
			return errnoNone, err
		}
		if _, err := io.ReadFull(t.in, piece); err != nil {
			return errnoNone, err
		}
		if errno == errnoNone {
			errno = t.writeBackend(req, piece, off)
		}
		off, left = off+int64(len(piece)), left-len(piece)
	}
	return errno, t.payloadDone()
}

func (t *transmission) writeBackend(req protocol.TransmissionRequestHeader, b []byte, off int64) uint32 {
	n, err := t.exp.Backend.WriteAt(b, off)
	t.stats.Written += uint64(n)
	t.srv.counts.written.Add(uint64(n))
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return t.failed("write", req, err)
	}
	return errnoNone
}

// skipPayload takes the payload of a refused WRITE off the wire.
func (t *transmission) skipPayload(n int) error {
	if n > t.in.Buffered() {
		if err := t.out.flush(); err != nil {
			return err
		}
	}
	for n > 0 {
		if err := t.awaitPayload(); err != nil {
			return err
		}
		skip, err := t.in.Discard(min(n, pieceSize))
		if err != nil {
			return err
		}
		n -= skip
	}
	return t.payloadDone()
}

// zero is NBD_CMD_TRIM and NBD_CMD_WRITE_ZEROES, which end alike here: the range
// reads as zeros, and its space is given back. NO_HOLE only asks that later
// writes cannot run out of space; "NBD_CMD_WRITE_ZEROES" makes it a SHOULD NOT,
// and no overlay can promise it. Their length has no payload, so no limit but the
// export's size.
func (t *transmission) zero(req protocol.TransmissionRequestHeader) error {
	flags := cmdFlagFUA
	if req.Type == cmdWriteZeroes {
		flags |= cmdFlagNoHole
	}
	if errno := t.refuseWrite(req, flags); errno != errnoNone {
		return t.out.reply(errno, req.Handle)
	}
	z, ok := t.exp.Backend.(Zeroer)
	if !ok || !t.exp.Zeroes { // not offered
		return t.out.reply(protocol.TRANSMISSION_ERROR_EINVAL, req.Handle)
	}
	errno := errnoNone
	if err := z.Zero(int64(req.Offset), int64(req.Length)); err != nil {
		errno = t.failed("zero", req, err)
	}
	return t.answerWrite(req, errno)
}
