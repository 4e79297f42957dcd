package main

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// device is what the resident loop needs from the kernel. *kernelNBD is the one;
// tests put another in its place.
type device interface {
	connect(e exportInfo, fd int) error
	reconfigure(fd int) error
	linkDead() error
}

// resident keeps one device attached. One goroutine runs it.
type resident struct {
	target target
	dev    device
	dial   func() (net.Conn, error)
	log    func(format string, args ...any)
	pause  func()           // between two attempts
	now    func() time.Time // for the deadline of the first attachment

	negotiateTimeout time.Duration
	have             exportInfo // of the first attachment
}

// retryEvery is the pause between two attempts. It is short because every request
// of the machine waits for it.
const retryEvery = 300 * time.Millisecond

// attach makes the device. It tries until a server answers, or the deadline has
// passed; then it gives the last reason.
func (r *resident) attach() error {
	until := r.now().Add(r.target.deadline)
	told := ""
	for {
		conn, e, err := r.open()
		if err == nil {
			r.have = e
			err = withFD(conn, func(fd int) error { return r.dev.connect(e, fd) })
			conn.Close() // the kernel holds its own reference
			return err
		}
		if err.Error() != told {
			told = err.Error()
			r.log("%s: %s; trying again", r.target.server, told)
		}
		if !r.now().Before(until) {
			return fmt.Errorf("no root from %s within %s: %w", r.target.server, r.target.deadline, err)
		}
		r.pause()
	}
}

// keep brings a new connection for each one that died, until the device is gone.
func (r *resident) keep() error {
	for {
		if err := r.dev.linkDead(); err != nil {
			return err
		}
		start := r.now()
		r.log("connection to %s is lost", r.target.server)
		if err := r.replace(); err != nil {
			return err
		}
		r.log("connected to %s again after %s", r.target.server, r.now().Sub(start).Round(10*time.Millisecond))
	}
}

// replace brings one connection. It gives up only when the kernel has no such
// device any more.
func (r *resident) replace() error {
	told := ""
	for {
		conn, e, err := r.open()
		if err == nil && !e.canReplace(r.have) {
			// Serving other bytes under a mounted file system would destroy it.
			conn.Close()
			err = fmt.Errorf("export %q is another one now: %d bytes, flags %#x; attached were %d bytes, flags %#x",
				r.target.export, e.size, e.flags, r.have.size, r.have.flags)
		}
		if err == nil {
			err = withFD(conn, r.dev.reconfigure)
			conn.Close()
			if err == nil {
				return nil
			}
			if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENODEV) {
				return fmt.Errorf("%s was detached: %w", r.target.device(), err)
			}
		}
		if err.Error() != told {
			told = err.Error()
			r.log("%s: %s; trying again", r.target.server, told)
		}
		r.pause()
	}
}

// open gives a connection that has passed GO.
func (r *resident) open() (net.Conn, exportInfo, error) {
	conn, err := r.dial()
	if err != nil {
		return nil, exportInfo{}, err
	}
	// A stopped server accepts connections and says nothing.
	if err := conn.SetDeadline(time.Now().Add(r.negotiateTimeout)); err != nil {
		conn.Close()
		return nil, exportInfo{}, err
	}
	e, err := negotiate(conn, r.target.export)
	if err != nil {
		conn.Close()
		return nil, exportInfo{}, err
	}
	return conn, e, nil
}

// withFD calls f with the file descriptor of conn.
func withFD(conn net.Conn, f func(fd int) error) error {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return errors.New("connection without a file descriptor")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := raw.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	return ferr
}
