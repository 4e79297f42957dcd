package nbd

import (
	"errors"
	"syscall"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// Zeroer is a backend that makes a range read as zeros without being sent them.
type Zeroer interface {
	// Zero makes [off, off+length) read as zeros, and gives back the space it
	// took if it can.
	Zero(off, length int64) error
}

// RangeZeroer is a Zeroer that can be told how.
type RangeZeroer interface {
	// ZeroRange is Zero; with noHole the range keeps, or takes, the space that
	// writes to it will need, and with fast it is done in no time, or not at all:
	// then the error is EOPNOTSUPP, and the range reads as before.
	ZeroRange(off, length int64, noHole, fast bool) error
}

// zero is NBD_CMD_TRIM and NBD_CMD_WRITE_ZEROES. The range reads as zeros after
// either. Their length has no payload, so no limit but the export's size.
//
// NO_HOLE to a backend that is no RangeZeroer is not kept, as the clause, a SHOULD
// NOT, allows. FAST_ZERO to one is NBD_ENOTSUP.
func (t *transmission) zero(c command) error {
	flags := cmdFlagFUA
	if c.typ == cmdWriteZeroes {
		flags |= cmdFlagNoHole
		if t.form != simple { // as offered; see Info.flags
			flags |= cmdFlagFastZero
		}
	}
	if errno := t.refuseWrite(c, flags); errno != errnoNone {
		return t.main.out.reply(errno, c)
	}
	z, ok := t.exp.Backend.(Zeroer)
	if !ok || !t.exp.Zeroes { // not offered
		return t.main.out.reply(protocol.TRANSMISSION_ERROR_EINVAL, c)
	}
	if err := t.prepareWrite(int64(c.offset), int64(c.length)); err != nil {
		return err
	}
	errno, err := errnoNone, t.zeroBackend(z, c)
	switch {
	case err == nil:
	case c.flags&cmdFlagFastZero != 0 && errors.Is(err, syscall.EOPNOTSUPP):
		errno = errnoNotSup // an answer, and no failure
	default:
		errno = t.failed("zero", c, err)
	}
	return t.answerWrite(c, errno)
}

func (t *transmission) zeroBackend(z Zeroer, c command) error {
	defer t.srv.writes.leave()
	off, n := int64(c.offset), int64(c.length)
	noHole, fast := c.flags&cmdFlagNoHole != 0, c.flags&cmdFlagFastZero != 0
	if rz, ok := z.(RangeZeroer); ok {
		return rz.ZeroRange(off, n, noHole, fast)
	}
	if fast {
		return syscall.EOPNOTSUPP
	}
	return z.Zero(off, n)
}
