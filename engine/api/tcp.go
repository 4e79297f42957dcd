package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/dlreconcile/dlreconcile/engine/keyfile"
	"github.com/dlreconcile/dlreconcile/engine/throttle"
)

// TCP is how the API is served on the network: over TLS 1.2 or newer, to those of the
// Server's Principals who prove that they are.
type TCP struct {
	Certificate *keyfile.Value[*tls.Certificate]
	// ClientCA signs the certificates of clients; nil: they have none. Clients need
	// one then, unless there are tokens.
	ClientCA *keyfile.Value[*x509.CertPool]
}

const (
	maxConnections     = 256 // at once, over TCP
	maxConnectionsEach = 64  // of them from one address
	idleTimeout        = time.Minute
)

// failedLimits are how often an address may name a wrong token: ten times, and then
// once in five seconds. Addresses do not get into each other's way.
var failedLimits = throttle.Limits{Each: 0.2, EachBurst: 10, All: 1e6, AllBurst: 1e6}

// ServeTCP answers on l until ctx ends, and returns when every request has ended. It
// closes l.
func (s *Server) ServeTCP(ctx context.Context, l net.Listener, t TCP) error {
	g := &gate{
		who: s.Principals, log: s.log(),
		failed: throttle.New(failedLimits, nil), told: throttle.New(failedLimits, nil),
	}
	srv := &http.Server{
		Handler:     s.patience.orDefault().patient(s.routes(g.identify)),
		IdleTimeout: idleTimeout,
		ErrorLog:    log.New(&connectionLog{log: g.log, some: rate.Sometimes{First: 10, Interval: time.Second}}, "", 0),
	}
	l = throttle.Listen(l, maxConnections, maxConnectionsEach)
	return s.serve(ctx, tls.NewListener(l, t.config(s.Principals.tokens())), srv, shutdownGraceTCP)
}

// config gives the settings of TLS.
func (t TCP) config(tokens bool) *tls.Config {
	return keyfile.TLS{
		Certificate: t.Certificate, ClientCA: t.ClientCA, Optional: tokens, Protocols: []string{"http/1.1"},
	}.Config()
}

// gate lets in who can prove who he is.
type gate struct {
	who    *Principals
	log    *slog.Logger
	failed *throttle.Table // wrong tokens
	told   *throttle.Table // lines about those who were turned away
}

var (
	errNoProof  = errors.New("say who you are: with a client certificate, or with Authorization: Bearer TOKEN")
	errWrong    = errors.New("this token is nobody's")
	errTooMany  = errors.New("too many wrong tokens came from this address: wait a few seconds")
	errStranger = errors.New("the certificate is good, and no principal block of the daemon's settings names it")
	errExpired  = errors.New("the certificate has expired")
)

// identify says who makes a request. A token goes before the certificate beside it: a
// proxy may have one for all whom it serves.
func (g *gate) identify(w http.ResponseWriter, r *http.Request) (caller, bool) {
	from := remote(r)
	if header := r.Header.Get("Authorization"); header != "" {
		if g.failed.Spent(from) {
			w.Header().Set("Retry-After", "5")
			return g.refuse(w, r, http.StatusTooManyRequests, errTooMany)
		}
		scheme, token, _ := strings.Cut(header, " ")
		if p := g.who.ofToken(strings.TrimSpace(token)); p != nil && strings.EqualFold(scheme, "bearer") {
			return of(p), true
		}
		g.failed.Take(from)
		return g.refuse(w, r, http.StatusUnauthorized, errWrong)
	}
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return g.refuse(w, r, http.StatusUnauthorized, errNoProof)
	}
	leaf := r.TLS.PeerCertificates[0]
	if time.Now().After(leaf.NotAfter) { // the connection is older
		return g.refuse(w, r, http.StatusUnauthorized, errExpired)
	}
	if p := g.who.ofCertificate(leaf); p != nil {
		return of(p), true
	}
	return g.refuse(w, r, http.StatusForbidden, errStranger, "subject", leaf.Subject.String())
}

// refuse turns somebody away, and says so in the log; never what he showed.
func (g *gate) refuse(w http.ResponseWriter, r *http.Request, code int, why error, more ...any) (caller, bool) {
	if g.told.Take(remote(r)) {
		g.log.Warn("the API turned somebody away", append([]any{"address", r.RemoteAddr, "why", why}, more...)...)
	}
	if code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="dlreconcile"`)
	}
	problem(w, code, why)
	return caller{}, false
}

// connectionLog tells of connections that failed before there was a request, such as
// by a certificate that nobody knows.
type connectionLog struct {
	log  *slog.Logger
	some rate.Sometimes
}

func (c *connectionLog) Write(b []byte) (int, error) {
	c.some.Do(func() { c.log.Warn("a connection to the API fails", "why", strings.TrimSpace(string(b))) })
	return len(b), nil
}
