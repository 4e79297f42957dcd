package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/dlreconcile/dlreconcile/engine"
)

// Remote says how a daemon is reached over TCP.
type Remote struct {
	URL   string      // https://HOST[:PORT], and a path where a proxy wants one
	Token string      // "": none
	TLS   *tls.Config // who is trusted, and the client's certificate; nil: the system's authorities, and none
}

// NewRemoteClient makes a client for a daemon elsewhere. Nothing is dialled yet. What it
// is given goes to that host alone: no redirection is followed.
func NewRemoteClient(r Remote) (*Client, error) {
	u, err := url.Parse(r.URL)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q is not the address of an API: want https://HOST:PORT", r.URL)
	}
	conf := r.TLS.Clone()
	if conf == nil {
		conf = &tls.Config{}
	}
	conf.MinVersion = tls.VersionTLS12
	tr := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:     conf,
		TLSHandshakeTimeout: 10 * time.Second,
		DisableKeepAlives:   true,
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{where: r.URL, base: u, token: r.Token, http: &http.Client{Transport: tr, CheckRedirect: stay}}, nil
}

// unreached says what an error without an answer means, and what to do about it.
func (c *Client) unreached(ctx context.Context, err error) error {
	var op *net.OpError
	var unknown x509.UnknownAuthorityError
	switch {
	case ctx.Err() != nil:
		return err
	case errors.As(err, &op) && op.Op == "remote error": // an alert: RFC 8446, Section 6
		return &engine.Failure{Reason: engine.ReasonDenied, Message: fmt.Sprintf("the daemon on %s does not let this client in (%v): give a certificate that its client_ca signed with --api-cert and --api-key", c.where, op.Err)}
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: name who signed it with --api-ca", err)
	case errors.As(err, &op) && op.Op == "dial":
		return fmt.Errorf("%w on %s (%w): is it up, and does its daemon.hcl have an api block that listens there?", ErrNoDaemon, c.where, op.Err)
	}
	return err
}
