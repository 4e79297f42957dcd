package api

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/dlreconcile/dlreconcile/engine/store"
)

// caller is who asks, and what he may do.
type caller struct {
	role Role
	by   store.Actor
}

// name says who it is, for people.
func (c caller) name() string {
	switch {
	case c.by.Name != "":
		return fmt.Sprintf("%q", c.by.Name)
	case c.by.UID != nil:
		return fmt.Sprintf("user %d", *c.by.UID)
	}
	return "this client"
}

// of gives the caller that a principal is, over TCP.
func of(p *Principal) caller {
	return caller{role: p.Role, by: store.Actor{Via: store.ViaTCP, Name: p.Name}}
}

// remote gives the address that a request comes from.
func remote(r *http.Request) netip.Addr {
	ap, _ := netip.ParseAddrPort(r.RemoteAddr) // the zero Addr counts as one too
	return ap.Addr().Unmap()
}

// callerKey finds who makes a request.
type callerKey struct{}

func withCaller(ctx context.Context, c caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// callerOf says who makes the request of a handler.
func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// actor says who asks, for the record of what is done.
func actor(ctx context.Context) store.Actor { return callerOf(ctx).by }
