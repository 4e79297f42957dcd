package nbd

import "encoding/binary"

// maxReadRuns bounds the holes that one READ tells apart; what comes after them is
// sent as data.
const maxReadRuns = 64

// readChunks is NBD_CMD_READ with structured replies: holes are not sent, and an
// error is said where it is, whatever was sent before it. length is at most
// maxPayload.
func (t *transmission) readChunks(c command) error {
	off, left := int64(c.offset), int64(c.length)
	if left == 0 { // a content chunk may not be empty
		return t.out.reply(errnoNone, c)
	}
	if c.flags&cmdFlagDF != 0 {
		return t.readWhole(c)
	}
	for _, r := range t.readRuns(off, left) {
		if r.hole {
			if err := t.hole(c, off, r.length, r.length == left); err != nil {
				return err
			}
			off, left = off+r.length, left-r.length
			continue
		}
		for end := off + r.length; off < end; {
			n := min(end-off, pieceSize)
			if more, err := t.data(c, off, int(n), n == left); !more || err != nil {
				return err
			}
			off, left = off+n, left-n
		}
	}
	return nil
}

// readRuns is runsOf for all of a range: what is not known is sent as data, and an
// error only means that nothing is known.
func (t *transmission) readRuns(off, length int64) []run {
	runs, _ := t.runsOf(off, length, maxReadRuns)
	rest := length
	for _, r := range runs {
		rest -= r.length
	}
	switch last := len(runs) - 1; {
	case rest == 0:
	case runs[last].hole:
		t.runs = append(t.runs, run{length: rest})
	default:
		runs[last].length += rest
	}
	return t.runs
}

// hole adds an OFFSET_HOLE chunk. n is at most maxPayload.
func (t *transmission) hole(c command, off, n int64, last bool) error {
	const payload = 8 + 4
	head := t.form.chunkSize()
	b, err := t.out.reserve(head + payload)
	if err != nil {
		return err
	}
	t.form.putChunk(b, done(last), chunkOffsetHole, c, payload)
	binary.BigEndian.PutUint64(b[head:], uint64(off))
	binary.BigEndian.PutUint32(b[head+8:], uint32(n))
	t.out.commit(head + payload)
	return nil
}

// data adds an OFFSET_DATA chunk of n bytes, at most pieceSize, or the error that
// ends the reply; more says that it goes on.
func (t *transmission) data(c command, off int64, n int, last bool) (more bool, err error) {
	if t.dropped.Load() {
		return false, errDropped
	}
	head := t.form.chunkSize()
	b, err := t.out.reserve(head + 8 + n)
	if err != nil {
		return false, err
	}
	if err := t.readBackend(b[head+8:], off); err != nil {
		return false, t.readError(c, off, t.failed("read", c, err))
	}
	t.form.putChunk(b, done(last), chunkOffsetData, c, 8+n)
	binary.BigEndian.PutUint64(b[head:], uint64(off))
	t.out.commit(head + 8 + n)
	t.sent(n)
	return true, nil
}

// readError adds the ERROR_OFFSET chunk that ends a reply. What was reserved
// before and not committed is overwritten.
func (t *transmission) readError(c command, off int64, errno uint32) error {
	head := t.form.chunkSize()
	b, err := t.out.reserve(head + errorSize + 8)
	if err != nil {
		return err
	}
	t.form.putChunk(b, chunkFlagDone, chunkErrorOffset, c, errorSize+8)
	putError(b[head:], errno)
	binary.BigEndian.PutUint64(b[head+errorSize:], uint64(off))
	t.out.commit(head + errorSize + 8)
	return nil
}

// readWhole answers a READ with NBD_CMD_FLAG_DF: one chunk of data, whatever its
// length. Only a piece of it is in memory at once, so an error after its beginning
// is padded, and said in a chunk of its own.
func (t *transmission) readWhole(c command) error {
	off, n := int64(c.offset), int(c.length)
	if n <= pieceSize {
		_, err := t.data(c, off, n, true)
		return err
	}
	if err := t.out.flush(); err != nil {
		return err
	}
	head := t.form.chunkSize() + 8
	buf := t.srv.buffers.get(largeBuffer)
	defer t.srv.buffers.put(buf)
	buf = buf[:head+pieceSize]
	if err := t.readBackend(buf[head:], off); err != nil {
		return t.readError(c, off, t.failed("read", c, err))
	}
	t.form.putChunk(buf, 0, chunkOffsetData, c, 8+n)
	binary.BigEndian.PutUint64(buf[head-8:], uint64(off))
	bad, errno, err := t.streamPieces(c, buf, n)
	if err != nil {
		return err
	}
	t.sent(n)
	if errno != errnoNone {
		return t.readError(c, bad, errno)
	}
	b, err := t.out.reserve(headRoom)
	if err != nil {
		return err
	}
	t.form.putChunk(b, chunkFlagDone, chunkNone, c, 0)
	t.out.commit(t.form.chunkSize())
	return nil
}

// streamPieces sends buf, which has the header of a chunk and the first piece of
// its n bytes, and then the others. errno says that the backend failed at bad;
// zeros were sent from there on.
func (t *transmission) streamPieces(c command, buf []byte, n int) (bad int64, errno uint32, err error) {
	t.out.mu.Lock()
	defer t.out.mu.Unlock()
	if err := t.out.write(buf); err != nil {
		return 0, errnoNone, err
	}
	for done := pieceSize; done < n; {
		if t.dropped.Load() {
			return 0, errnoNone, errDropped
		}
		piece, at := buf[:min(pieceSize, n-done)], int64(c.offset)+int64(done)
		if errno == errnoNone {
			if err := t.readBackend(piece, at); err != nil {
				bad, errno = at, t.failed("read", c, err)
			}
		}
		if errno != errnoNone {
			clear(piece)
		}
		if err := t.out.write(piece); err != nil {
			return 0, errnoNone, err
		}
		done += len(piece)
	}
	return bad, errno, nil
}

func done(last bool) uint16 {
	if last {
		return chunkFlagDone
	}
	return 0
}
