package nbd

import "encoding/binary"

// maxReadRuns bounds the holes that one READ tells apart; what comes after them is
// sent as data.
const maxReadRuns = 64

// readChunks is NBD_CMD_READ with structured replies: holes are not sent, and an
// error is said where it is, whatever was sent before it. length is 1 to maxPayload.
func (w *worker) readChunks(c command) error {
	off, left := int64(c.offset), int64(c.length)
	if c.flags&cmdFlagDF != 0 {
		w.runs = append(w.runs[:0], run{length: left})
	} else {
		w.readRuns(off, left)
	}
	if done, err := w.lendChunks(c); done || err != nil {
		return err
	}
	if w.waits() {
		if len(w.runs) == 1 && left <= smallPiece {
			if done, err := w.dataNow(c); done || err != nil {
				return err
			}
		}
		return w.slow.add(c)
	}
	if c.flags&cmdFlagDF != 0 {
		return w.readWhole(c)
	}
	for _, r := range w.runs {
		if r.hole {
			if err := w.hole(c, off, r.length, r.length == left); err != nil {
				return err
			}
			off, left = off+r.length, left-r.length
			continue
		}
		for end := off + r.length; off < end; {
			n := int64(w.srv.buffers.piece(int(end - off)))
			if more, err := w.data(c, off, int(n), n == left); !more || err != nil {
				return err
			}
			off, left = off+n, left-n
		}
	}
	return nil
}

// readRuns is runsOf for all of a range: what is not known is sent as data, and an
// error only means that nothing is known.
func (w *worker) readRuns(off, length int64) {
	runs, _ := w.runsOf(off, length, maxReadRuns)
	rest := length
	for _, r := range runs {
		rest -= r.length
	}
	switch last := len(runs) - 1; {
	case rest == 0:
	case runs[last].hole:
		w.runs = append(w.runs, run{length: rest})
	default:
		runs[last].length += rest
	}
}

// lendChunks answers with the bytes as they lie, a chunk for each of w.runs, if it can
// do so for all of them.
func (w *worker) lendChunks(c command) (done bool, err error) {
	w.pieces, w.cuts = w.pieces[:0], w.cuts[:0]
	off := int64(c.offset)
	for _, r := range w.runs {
		if !r.hole {
			before := len(w.pieces)
			if !w.inPlace || !w.lendMore(off, int(r.length)) {
				return false, nil
			}
			w.cuts = append(w.cuts, len(w.pieces)-before)
		}
		off += r.length
	}
	off, pieces, cuts := int64(c.offset), w.pieces, w.cuts
	for i, r := range w.runs {
		last := i == len(w.runs)-1
		if r.hole {
			err = w.hole(c, off, r.length, last)
		} else if err = w.dataHeader(c, off, int(r.length), last); err == nil {
			w.lend(pieces[:cuts[0]])
			pieces, cuts = pieces[cuts[0]:], cuts[1:]
		}
		if err != nil {
			return false, err
		}
		off += r.length
	}
	return true, nil
}

// dataHeader adds the header of an OFFSET_DATA chunk of n bytes.
func (w *worker) dataHeader(c command, off int64, n int, last bool) error {
	head := w.form.chunkSize()
	b, err := w.out.reserve(head + 8)
	if err != nil {
		return err
	}
	w.form.putChunk(b, chunkDone(last), chunkOffsetData, c, 8+n)
	binary.BigEndian.PutUint64(b[head:], uint64(off))
	w.out.commit(head + 8)
	return nil
}

// hole adds an OFFSET_HOLE chunk. n is at most maxPayload.
func (w *worker) hole(c command, off, n int64, last bool) error {
	const payload = 8 + 4
	head := w.form.chunkSize()
	b, err := w.out.reserve(head + payload)
	if err != nil {
		return err
	}
	w.form.putChunk(b, chunkDone(last), chunkOffsetHole, c, payload)
	binary.BigEndian.PutUint64(b[head:], uint64(off))
	binary.BigEndian.PutUint32(b[head+8:], uint32(n))
	w.out.commit(head + payload)
	return nil
}

// dataNow answers with one OFFSET_DATA chunk, of at most smallPiece bytes, if they are
// to be had without waiting.
func (w *worker) dataNow(c command) (done bool, err error) {
	head, n := w.form.chunkSize(), int(c.length)
	b, err := w.out.reserve(head + 8 + n)
	if err != nil || !w.readNow(b[head+8:], int64(c.offset)) {
		return false, err
	}
	w.putData(b, c, int64(c.offset), n, true)
	return true, nil
}

// putData writes the header of the chunk whose n bytes are in b already, and commits
// it.
func (w *worker) putData(b []byte, c command, off int64, n int, last bool) {
	head := w.form.chunkSize()
	w.form.putChunk(b, chunkDone(last), chunkOffsetData, c, 8+n)
	binary.BigEndian.PutUint64(b[head:], uint64(off))
	w.out.commit(head + 8 + n)
	w.out.carried(n)
}

// data adds an OFFSET_DATA chunk of n bytes, at most pieceSize, or the error that
// ends the reply; more says that it goes on.
func (w *worker) data(c command, off int64, n int, last bool) (more bool, err error) {
	if w.dropped.Load() {
		return false, errDropped
	}
	head := w.form.chunkSize()
	b, err := w.out.reserve(head + 8 + n)
	if err != nil {
		return false, err
	}
	if err := w.readBackend(b[head+8:], off); err != nil {
		return false, w.readError(c, off, w.failed("read", c, err))
	}
	w.putData(b, c, off, n, last)
	return true, nil
}

// readError adds the ERROR_OFFSET chunk that ends a reply. What was reserved
// before and not committed is overwritten.
func (w *worker) readError(c command, off int64, errno uint32) error {
	head := w.form.chunkSize()
	b, err := w.out.reserve(head + errorSize + 8)
	if err != nil {
		return err
	}
	w.form.putChunk(b, chunkFlagDone, chunkErrorOffset, c, errorSize+8)
	putError(b[head:], errno)
	binary.BigEndian.PutUint64(b[head+errorSize:], uint64(off))
	w.out.commit(head + errorSize + 8)
	return nil
}

// readWhole answers a READ with NBD_CMD_FLAG_DF: one chunk of data, whatever its
// length. Only a piece of it is in memory at once, so an error after its beginning
// is padded, and said in a chunk of its own.
func (w *worker) readWhole(c command) error {
	off, n := int64(c.offset), int(c.length)
	size := w.srv.buffers.piece(n)
	if n <= size {
		_, err := w.data(c, off, n, true)
		return err
	}
	head := w.form.chunkSize() + 8
	buf := w.srv.buffers.get(head + size)
	defer w.srv.buffers.put(buf)
	buf = buf[:head+size]
	if err := w.readBackend(buf[head:], off); err != nil {
		return w.readError(c, off, w.failed("read", c, err))
	}
	w.form.putChunk(buf, 0, chunkOffsetData, c, 8+n)
	binary.BigEndian.PutUint64(buf[head-8:], uint64(off))
	bad, errno, err := w.streamPieces(c, buf, size)
	if err != nil {
		return err
	}
	if errno != errnoNone {
		return w.readError(c, bad, errno)
	}
	b, err := w.out.reserve(headRoom)
	if err != nil {
		return err
	}
	w.form.putChunk(b, chunkFlagDone, chunkNone, c, 0)
	w.out.commit(w.form.chunkSize())
	return nil
}

// streamPieces sends buf, which has the header of a chunk and its first size bytes,
// and then the others. errno says that the backend failed at bad; zeros were sent from
// there on.
func (w *worker) streamPieces(c command, buf []byte, size int) (bad int64, errno uint32, err error) {
	n := int(c.length)
	err = w.direct(func(send func([]byte) error) error {
		w.to.sent(n)
		if err := send(buf); err != nil {
			return err
		}
		for done := size; done < n; {
			if w.dropped.Load() {
				return errDropped
			}
			piece, at := buf[:min(size, n-done)], int64(c.offset)+int64(done)
			if errno == errnoNone {
				if err := w.readBackend(piece, at); err != nil {
					bad, errno = at, w.failed("read", c, err)
				}
			}
			if errno != errnoNone {
				clear(piece)
			}
			if err := send(piece); err != nil {
				return err
			}
			done += len(piece)
		}
		return nil
	})
	return bad, errno, err
}

func chunkDone(last bool) uint16 {
	if last {
		return chunkFlagDone
	}
	return 0
}
