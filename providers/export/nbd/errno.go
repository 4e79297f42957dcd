package nbd

import (
	"errors"
	"syscall"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// The error values of proto.md, "Error values", that package protocol lacks.
const (
	errnoNone   = uint32(0)
	errnoIO     = uint32(5)
	errnoNoMem  = uint32(12)
	errnoNoSpc  = uint32(28)
	errnoNotSup = uint32(95)
)

// errnoOf says how a backend's error reads on the wire. EDQUOT and EFBIG are
// ENOSPC, as "Error values" asks; what is not in its list is EIO. So is EOPNOTSUPP:
// NBD_ENOTSUP answers nothing but FAST_ZERO; see zero.
func errnoOf(err error) uint32 {
	var e syscall.Errno
	if !errors.As(err, &e) {
		return errnoIO
	}
	switch e {
	case syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG:
		return errnoNoSpc
	case syscall.EPERM, syscall.EACCES, syscall.EROFS:
		return protocol.TRANSMISSION_ERROR_EPERM
	case syscall.ENOMEM:
		return errnoNoMem
	}
	return errnoIO
}
