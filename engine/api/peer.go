package api

import (
	"context"
	"net"
	"net/http"
	"os"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/store"
)

// peerKey finds who is at the other end of a request's connection.
type peerKey struct{}

// withPeer keeps who is at the other end of c, as the kernel says (SO_PEERCRED, see
// unix(7)): the user and group that the process had when it connected.
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
	return context.WithValue(ctx, peerKey{}, *cred)
}

// local says who asks through the unix socket. Whoever may open it is an operator,
// unless the principals say otherwise; root and the daemon's own user, who could do
// anything to its files anyway, are admins.
func (s *Server) local(_ http.ResponseWriter, r *http.Request) (caller, bool) {
	c := caller{role: RoleOperator, by: store.Actor{Via: store.ViaSocket}}
	cred, ok := r.Context().Value(peerKey{}).(unix.Ucred)
	if !ok {
		c.role = RoleViewer // the kernel does not tell
		return c, true
	}
	c.by.UID = &cred.Uid
	if cred.Uid == 0 || int(cred.Uid) == os.Geteuid() {
		c.role = RoleAdmin
		return c, true
	}
	if p := s.Principals.ofUser(cred.Uid, cred.Gid); p != nil {
		c.role, c.by.Name = p.Role, p.Name
	}
	return c, true
}
