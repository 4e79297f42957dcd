package nbd

import (
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Diskless machines vanish without a FIN: a guest powers off with its root still
// attached. Without probes its connection, and all that it pins, would stay for
// good.
const (
	probeIdle     = 10 * time.Second
	probeInterval = 10 * time.Second
	probeCount    = 3
	// unackedTimeout ends a connection whose peer acknowledges nothing, which
	// probes alone do not notice while data is in flight (TCP_USER_TIMEOUT,
	// RFC 5482). It overrides probeCount, so the two agree.
	unackedTimeout = probeIdle + probeCount*probeInterval
)

// userTimeout is unackedTimeout for clients that may stall for so long. Linux ends a
// connection by TCP_USER_TIMEOUT also when its peer answers all along that it has no
// room, which is what a client says that takes nothing.
func userTimeout(stall time.Duration) time.Duration { return max(unackedTimeout, stall) }

// tune sets what the protocol needs on a TCP connection. Nagle is off already:
// Go does that.
func tune(c *net.TCPConn, stall time.Duration) error {
	fail := func(err error) error { return fmt.Errorf("nbd: tuning the connection: %w", err) }
	if err := c.SetKeepAliveConfig(net.KeepAliveConfig{
		Enable: true, Idle: probeIdle, Interval: probeInterval, Count: probeCount,
	}); err != nil {
		return fail(err)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return fail(err)
	}
	var set error
	if err := raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout(stall).Milliseconds()))
	}); err != nil {
		return fail(err)
	}
	if set != nil {
		return fail(set)
	}
	return nil
}
