package nbd

import (
	"fmt"
	"io"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// write is NBD_CMD_WRITE. The payload is taken off the wire whatever happens to
// it, or the connection ends.
func (t *transmission) write(c command) error {
	if c.length > maxPayload {
		// "Block size constraints" allows a hard disconnect here.
		return fmt.Errorf("%w: a WRITE of %d bytes", errHostile, c.length)
	}
	flags := cmdFlagFUA
	if t.form == extended {
		// It must be set there; who forgets it has a payload all the same.
		flags |= cmdFlagPayloadLen
	}
	if errno := t.refuseWrite(c, flags); errno != errnoNone {
		if err := t.skipPayload(int(c.length)); err != nil {
			return err
		}
		return t.main.out.reply(errno, c)
	}
	errno, err := t.takePayload(c)
	if err != nil {
		return err
	}
	return t.answerWrite(c, errno)
}

// refuseWrite checks what WRITE, TRIM and WRITE_ZEROES have in common
// ("Error values"): EPERM on a read-only export, EINVAL for unknown flags, and beyond
// the end ENOSPC, or EINVAL for TRIM.
func (t *transmission) refuseWrite(c command, flags uint16) uint32 {
	switch {
	case t.exp.ReadOnly:
		return protocol.TRANSMISSION_ERROR_EPERM
	case c.flags&^flags != 0:
		return protocol.TRANSMISSION_ERROR_EINVAL
	case t.inside(c):
		return errnoNone
	case c.typ == cmdTrim:
		return protocol.TRANSMISSION_ERROR_EINVAL
	}
	return errnoNoSpc
}

// answerWrite replies to what was written, after a sync if FUA asks for one.
func (t *transmission) answerWrite(c command, errno uint32) error {
	if errno == errnoNone && c.flags&cmdFlagFUA != 0 {
		return t.syncThenReply(c)
	}
	return t.main.out.reply(errno, c)
}

// takePayload moves the payload to the backend. errno is the backend's first
// error; err ends the connection.
func (t *transmission) takePayload(c command) (errno uint32, err error) {
	off, left := int64(c.offset), int(c.length)
	if left <= t.in.buffered() { // all of it is here: no copy
		b, err := t.in.peek(left)
		if err != nil {
			return errnoNone, err
		}
		if err := t.prepareWrite(off, int64(left)); err != nil {
			return errnoNone, err
		}
		errno = t.writeBackend(c, b, off)
		return errno, t.in.discard(left)
	}
	if err := t.main.out.flush(); err != nil { // about to wait
		return errnoNone, err
	}
	size := t.srv.buffers.piece(left)
	buf := t.srv.buffers.get(size)
	defer t.srv.buffers.put(buf)
	for left > 0 {
		// Pieces end on block boundaries: a backend that works in blocks then
		// never sees one in two halves.
		piece := buf[:min(left, size)]
		if left > size {
			piece = buf[:size-int(off%preferredBlock)]
		}
		if err := t.in.pace.begin(len(piece)); err != nil {
			return errnoNone, err
		}
		if err := t.in.read(piece); err != nil {
			return errnoNone, unexpected(err)
		}
		if errno == errnoNone {
			if err := t.prepareWrite(off, int64(len(piece))); err != nil {
				return errnoNone, err
			}
			errno = t.writeBackend(c, piece, off)
		}
		off, left = off+int64(len(piece)), left-len(piece)
	}
	return errno, t.in.pace.end()
}

// WriteFetcher is a backend whose writes may read first what they write only a part of.
type WriteFetcher interface {
	// WriteWaits reports whether to write or zero [off, off+n) waits for a disk to read.
	WriteWaits(off, n int64) bool
	// FetchForWrite waits for it, so that the write has no need to.
	FetchForWrite(off, n int64) error
}

// prepareWrite gets ready what a write to [off, off+n) reads first, in a lane: backends
// hold others up while they write. Then it waits for a slot, which writeBackend or
// zeroBackend gives back. An error ends the connection.
func (t *transmission) prepareWrite(off, n int64) error {
	if t.writeFetcher != nil && t.writeFetcher.WriteWaits(off, n) {
		// Replies that wait for company must not wait for the disk.
		if err := t.main.out.flush(); err != nil {
			return err
		}
		from := t.remote.Addr()
		if !t.srv.disk.enter(from, t.myTurn, t.gone) {
			return errDropped
		}
		// What fails here fails again where it is written.
		_ = t.writeFetcher.FetchForWrite(off, n)
		t.srv.disk.leave(from)
	}
	if t.srv.writes.try() {
		return nil
	}
	if err := t.main.out.flush(); err != nil {
		return err
	}
	if !t.srv.writes.enter(t.gone) {
		return errDropped
	}
	return nil
}

func (t *transmission) writeBackend(c command, b []byte, off int64) uint32 {
	n, err := t.exp.Backend.WriteAt(b, off)
	t.srv.writes.leave()
	t.stats.Written += uint64(n)
	t.srv.counts.written.Add(uint64(n))
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return t.failed("write", c, err)
	}
	return errnoNone
}

// skipPayload takes the payload of a refused WRITE off the wire.
func (t *transmission) skipPayload(n int) error {
	if n > t.in.buffered() {
		if err := t.main.out.flush(); err != nil {
			return err
		}
	}
	for n > 0 {
		skip := min(n, smallPiece)
		if err := t.in.pace.begin(skip); err != nil {
			return err
		}
		if err := t.in.discard(skip); err != nil {
			return err
		}
		n -= skip
	}
	return t.in.pace.end()
}

// refusePayload answers a request that has a payload and should not: with extended
// headers NBD_CMD_FLAG_PAYLOAD_LEN says so for any command.
func (t *transmission) refusePayload(c command) error {
	if c.length > maxPayload {
		return fmt.Errorf("%w: a payload of %d bytes", errHostile, c.length)
	}
	if err := t.skipPayload(int(c.length)); err != nil {
		return err
	}
	return t.main.out.reply(protocol.TRANSMISSION_ERROR_EINVAL, c)
}
