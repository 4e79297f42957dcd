package nbd

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// linger has a busy connection wait for more requests in the kernel for a moment, and keep
// its processor, before it waits as all others do. A client on this machine, a guest for
// one, or on a fast network sends them sooner than the runtime has gone to sleep and come
// back.
type linger struct {
	may   bool      // now: set by the request loop
	quick bool      // what came last came soon
	since time.Time // nothing has been there; zero: something is
}

const (
	// lingerFor is how long it waits. On networks where requests take longer it does so
	// once.
	lingerFor = 100 * time.Microsecond
	// Who asks for one thing at a time is served best on the processor that it asks on;
	// who is sent much is busy with that for longer.
	lingerRequests = 4
	lingerBytes    = 128 << 10
)

// more reports whether something came to the socket after nothing was there.
func (l *linger) more(fd uintptr) bool {
	if !l.since.IsZero() { // it waited already, or was told in vain
		return false
	}
	l.since = time.Now()
	if !l.may || !l.quick {
		return false
	}
	p := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	ts := unix.NsecToTimespec(int64(lingerFor))
	// The runtime is not told: it would give the processor to others, and have to be
	// asked for it again.
	n, _, _ := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	return n == 1
}

// came notes that something is there.
func (l *linger) came() {
	if !l.since.IsZero() {
		l.quick, l.since = time.Since(l.since) < lingerFor, time.Time{}
	}
}

// few reports whether there are so few connections that one of them may keep its
// processor.
func (t *turns) few() bool { return int(t.attached.Load()) <= runtime.GOMAXPROCS(0)/2 }
