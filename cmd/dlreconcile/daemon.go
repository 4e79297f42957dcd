package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/handover"
)

// maxSocketPath is how long a path of a socket may be.
const maxSocketPath = handover.MaxUnixPath

// checkSocket says in words what the kernel would say as EINVAL.
func (c *cli) checkSocket() error {
	if c.settings.API.URL != "" && !c.daemon {
		return nil // another machine's daemon is asked
	}
	if n := len(c.settings.Socket); n > maxSocketPath {
		return fmt.Errorf("the path of the socket, %s, has %d bytes, and Linux allows %d: name a shorter one with --socket, such as /run/dlreconcile/api.sock", c.settings.Socket, n, maxSocketPath)
	}
	return nil
}

// findDaemon gives a client for the daemon, or nil when none listens here. One on another
// machine is not looked for before it is asked: nothing here stands in for it. A daemon
// that this user may not talk to is an error: working around it, on the state
// directory that it holds, would fail in a less clear way.
func (c *cli) findDaemon(ctx context.Context) (*api.Client, error) {
	if c.settings.API.URL != "" {
		return c.settings.API.client()
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.settings.Socket)
	switch {
	case err == nil:
		conn.Close()
		return api.NewClient(c.settings.Socket), nil
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the daemon on %s does not talk to this user: run the command as root, or as a member of the group that owns the socket", c.settings.Socket)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, nil
}

// needDaemon is findDaemon for commands that are of no use without one.
func (c *cli) needDaemon(ctx context.Context) (*api.Client, error) {
	if err := c.checkSocket(); err != nil {
		return nil, err
	}
	client, err := c.findDaemon(ctx)
	if err == nil && client == nil {
		err = fmt.Errorf("%w on %s: start one with `dlreconcile serve`, or name its state directory with --state, or its socket with --socket", api.ErrNoDaemon, c.settings.Socket)
	}
	return client, err
}

// goesOn is what most orders mean to the daemon once they are given.
const goesOn = "the daemon goes on with it; see `dlreconcile status`"

// interrupted says what an interrupt of a command means that waits for the daemon: means,
// if it has the order and nobody knows yet what came of it. err is what the command got.
func interrupted(ctx context.Context, err error, means string) error {
	var open *api.UnansweredError
	switch {
	case ctx.Err() == nil:
		return err
	case errors.As(err, &open):
		return errors.New("interrupted while waiting: " + means)
	case errors.Is(err, ctx.Err()), errors.Is(err, context.Cause(ctx)):
		return errors.New("interrupted before the daemon had the order: nothing was done")
	}
	return err // its answer
}
