package engine

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/source"
)

// Causes of a failure with ReasonMachine. The set is closed.
const (
	CauseDisk       = "disk_full"
	CausePort       = "port_in_use"
	CausePermission = "permission"
	CauseNetwork    = "network" // a mirror or the repo did not answer
	CauseProgram    = "program" // one that this machine runs failed: a build
	CauseKeys       = "keys"    // the operator's files of trusted keys cannot be read
	CauseOther      = "other"
)

// causeOf tells by what an error came about, as far as that changes how long to wait
// before another try.
func causeOf(err error) string {
	var (
		op   *net.OpError
		name *net.DNSError
		web  *url.Error
		exit *exec.ExitError
	)
	is := func(list ...error) bool {
		for _, one := range list {
			if errors.Is(err, one) {
				return true
			}
		}
		return false
	}
	switch {
	case is(source.ErrKeys): // whatever keeps the file from being read
		return CauseKeys
	case is(syscall.ENOSPC, syscall.EDQUOT):
		return CauseDisk
	case is(syscall.EADDRINUSE):
		return CausePort
	case is(syscall.EPERM, syscall.EACCES, syscall.EROFS):
		return CausePermission
	// Not net.Error: every errno is one.
	case is(source.ErrUnreachable, context.DeadlineExceeded, os.ErrDeadlineExceeded, syscall.ECONNREFUSED, syscall.ECONNRESET,
		syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ETIMEDOUT),
		errors.As(err, &name), errors.As(err, &web), errors.As(err, &op) && op.Op != "listen":
		return CauseNetwork
	case errors.As(err, &exit):
		return CauseProgram
	}
	return CauseOther
}

// retryUnit is what the waits below are written for: Config.Retry in units of it
// stretches them.
const retryUnit = 5 * time.Second

// waits gives how long a revision that failed by cause waits for its second attempt,
// and what the doubled waits grow to. A port is free the moment its holder ends; a
// full disk and a missing right wait for somebody to come; a build that fails costs
// minutes each time and may come from a mirror that is being updated.
func waits(cause string) (first, most time.Duration) {
	switch cause {
	case CauseDisk:
		return 30 * time.Second, 10 * time.Minute
	case CausePort:
		return 2 * time.Second, time.Minute
	case CausePermission:
		return time.Minute, 30 * time.Minute
	case CauseNetwork:
		return 5 * time.Second, 5 * time.Minute
	case CauseKeys:
		return 5 * time.Second, time.Minute
	case CauseProgram:
		return 30 * time.Second, 30 * time.Minute
	}
	return 5 * time.Second, 5 * time.Minute
}

// backoff is how long the next try of a revision waits.
type backoff struct {
	revision string // that it is about; "": none
	cause    string
	wait     time.Duration
}

// next gives the wait after another failure. Another revision, and another cause,
// begin anew: what was in the way before is out of it.
func (b *backoff) next(revision, cause string, unit time.Duration) time.Duration {
	first, most := waits(cause)
	scale := func(d time.Duration) time.Duration {
		return time.Duration(float64(d) * float64(unit) / float64(retryUnit))
	}
	if b.revision != revision || b.cause != cause {
		*b = backoff{revision: revision, cause: cause}
	}
	b.wait = min(max(2*b.wait, scale(first)), scale(most))
	return b.wait
}
