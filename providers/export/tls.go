package export

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
)

// tlsFailed tells the log of a client that asked for TLS and has none: as often as of one
// that is refused an export.
func (p *Provider) tlsFailed(remote netip.AddrPort, err error) {
	if p.told.Take(remote.Addr()) {
		p.log.Warn("a client has no TLS", "client", remote.Addr().String(), "why", tlsWhy(err))
	}
}

// tlsWhy says why a handshake failed as whoever hands out certificates sees it.
func tlsWhy(err error) string {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var refused *net.OpError
	var record tls.RecordHeaderError
	var timeout net.Error
	switch {
	case errors.As(err, &unknown):
		return "its certificate is signed by none of client_ca: " + err.Error()
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate is expired, or not valid yet: " + err.Error()
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return "its certificate is not accepted: " + err.Error()
	case strings.Contains(err.Error(), "client didn't provide a certificate"): // crypto/tls has no type for it
		return "it has no certificate, and client_ca asks for one"
	case errors.As(err, &refused) && refused.Op == "remote error": // an alert: crypto/tls keeps its type to itself
		return fmt.Sprintf("the client ended the handshake: %v; where that is about a certificate, it is this server's", refused.Err)
	case errors.As(err, &record):
		return "what it sent is no TLS"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it hung up in the handshake"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "it took too long over the handshake"
	}
	return "the handshake failed: " + err.Error()
}
