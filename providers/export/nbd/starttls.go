package nbd

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// Security says how a server speaks TLS ("TLS support"). The zero value is "NOTLS
// mode"; a Config alone is "SELECTIVETLS mode", in which the Handler says which
// exports need TLS, by ErrTLSRequired.
type Security struct {
	// Config has the server's certificate. Its ClientAuth says whether clients need
	// one; which of them may attach to what is the Handler's affair (Peer.TLS). It
	// is not changed after it was given; GetConfigForClient may renew certificates.
	Config *tls.Config
	// Forced lets a client do nothing without TLS ("FORCEDTLS mode").
	Forced bool
	// Failed is told that a client asked for TLS and why it has none; its connection is
	// over. It is called by that connection's goroutine. nil: nobody is told.
	Failed func(remote netip.AddrPort, err error)
}

// Secure sets how connections that come from now on are secured.
func (s *Server) Secure(sec Security) { s.security.Store(&sec) }

// wantsTLS reports whether nothing goes on without TLS.
func (c *conn) wantsTLS() bool { return c.secure != nil && c.forced && c.tls == nil }

// startTLS is NBD_OPT_STARTTLS. An error ends the connection: after the ACK it is too
// late to go on in the clear.
func (c *conn) startTLS(ctx context.Context, hasData bool) error {
	refuse := func(typ uint32, why string) error {
		_, err := c.nc.Write(appendOptionReply(nil, optStartTLS, typ, []byte(why)))
		return err
	}
	switch {
	case c.secure == nil:
		return refuse(protocol.NEGOTIATION_TYPE_REPLY_ERR_UNSUPPORTED, "")
	case hasData:
		return refuse(repErrInvalid, "STARTTLS takes no data")
	case c.tls != nil:
		return refuse(repErrInvalid, "this is TLS already")
	case c.in.buffered() > 0:
		// Whoever sent that did not wait for the ACK. It could be somebody between,
		// whose words must not pass for the client's.
		return fmt.Errorf("%w: data in the clear after STARTTLS", errHostile)
	}
	if _, err := c.nc.Write(appendOptionReply(nil, optStartTLS, protocol.NEGOTIATION_TYPE_REPLY_ACK)); err != nil {
		return err
	}
	under := newPaced(c.nc, c.srv.limits.Stall)
	secured := tls.Server(under, c.secure)
	if err := secured.HandshakeContext(ctx); err != nil {
		if c.tlsFailed != nil && !c.dropped.Load() {
			c.tlsFailed(c.remote, err)
		}
		return fmt.Errorf("TLS handshake: %w", err)
	}
	state := secured.ConnectionState()
	c.nc, c.tls = secured, &state
	c.in.close()
	c.in = newSecuredInbox(secured, under, &c.srv.buffers)
	// What was said in the clear counts no more.
	c.form, c.allocation = simple, nil
	return nil
}
