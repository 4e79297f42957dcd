package nbd

import (
	"encoding/binary"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// maxDescriptors bounds the reply to one BLOCK_STATUS; the client asks on.
const maxDescriptors = 1024

// The flags of base:allocation.
const (
	stateHole = 1 << 0
	stateZero = 1 << 1
)

// allocationID is the id of base:allocation, the one context there is.
const allocationID = 1

// blockStatus is NBD_CMD_BLOCK_STATUS, with descriptors of 32 bits, or of 64 with
// extended headers. EINVAL when no context was selected, and beyond the end.
func (w *worker) blockStatus(c command) error {
	if w.allocation == nil || c.flags&^(cmdFlagFUA|cmdFlagReqOne) != 0 || c.length == 0 || !w.inside(c) {
		return w.out.reply(protocol.TRANSMISSION_ERROR_EINVAL, c)
	}
	most := maxDescriptors
	if c.flags&cmdFlagReqOne != 0 {
		most = 1
	}
	runs, err := w.lookUp(c, most)
	if err != nil {
		return err
	}
	head, typ, n := w.form.chunkSize(), chunkBlockStatus, 4+8*len(runs)
	if w.form == extended {
		typ, n = chunkBlockStatusExt, 8+16*len(runs)
	}
	b, err := w.out.reserve(head + n)
	if err != nil {
		return err
	}
	w.form.putChunk(b, chunkFlagDone, typ, c, n)
	putDescriptors(b[head:], runs, w.form == extended)
	w.out.commit(head + n)
	return nil
}

// mapLanes is how many lookups there are at once. What they take is the processor, so that
// an address has as many as half of the processors; but where one waits for a disk that
// hangs, that of another address must not.
const mapLanes = 64

// maxStatus is how much of a disk is looked at for one request; the client asks on.
const maxStatus = 4 << 30

// lookUp is runsOf for BLOCK_STATUS, in a lane: a fragmented file is asked thousands of
// times, and a client can ask for that again before it has the answer. An error ends the
// connection.
func (w *worker) lookUp(c command, most int) ([]run, error) {
	from, maps := w.remote.Addr(), w.srv.maps
	if !maps.try(from) {
		if err := w.out.flush(); err != nil { // about to wait
			return nil, err
		}
		if !maps.enter(from, w.myTurn, w.gone) {
			return nil, errDropped
		}
	}
	defer maps.leave(from)
	runs, err := w.runsOf(int64(c.offset), int64(min(c.length, maxStatus)), most)
	if err != nil {
		// "a server MAY reply with a single block status descriptor […] and status
		// of 0 rather than reporting the error": that is what runs has.
		w.failed("block status", c, err)
	}
	// Who waits for the lane is next before anybody has looked at who asked for what.
	if w.srv.looked.Add(int64(w.asked)) >= turnPieces {
		w.srv.looked.Store(0)
		w.letOthers()
	}
	return runs, nil
}

// putDescriptors writes the payload of a block status chunk. long says of which
// kind: NBD_REPLY_TYPE_BLOCK_STATUS_EXT, or not.
func putDescriptors(b []byte, runs []run, long bool) {
	binary.BigEndian.PutUint32(b, allocationID)
	b = b[4:]
	if long {
		binary.BigEndian.PutUint32(b, uint32(len(runs)))
		b = b[4:]
	}
	for _, r := range runs {
		state := uint32(0)
		if r.hole {
			state = stateHole | stateZero
		}
		if long {
			binary.BigEndian.PutUint64(b, uint64(r.length))
			binary.BigEndian.PutUint64(b[8:], uint64(state))
			b = b[16:]
			continue
		}
		binary.BigEndian.PutUint32(b, uint32(r.length)) // no more than was asked for
		binary.BigEndian.PutUint32(b[4:], state)
		b = b[8:]
	}
}
