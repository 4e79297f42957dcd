package api

import (
	"context"
	"net"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/store"
)

// peerKey finds who is at the other end of a request's connection.
type peerKey struct{}

// withPeer keeps who is at the other end of c, as the kernel says (SO_PEERCRED, see
// unix(7)): the user that the process had when it connected.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred.Uid)
}

// actor says who asks. Its UID is nil when the kernel does not tell.
func actor(ctx context.Context) store.Actor {
	a := store.Actor{Via: store.ViaSocket}
	if uid, ok := ctx.Value(peerKey{}).(uint32); ok {
		a.UID = &uid
	}
	return a
}
