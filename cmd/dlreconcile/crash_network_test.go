package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// configure writes the settings of a lane's daemons: with the API over TCP and a webhook,
// whose listeners are of the last two ports.
func (l *crashLane) configure() error {
	own, err := newSigner()
	if err != nil {
		return err
	}
	return errors.Join(
		writePEM(filepath.Join(l.dir, "ca.crt"), "CERTIFICATE", own.cert.Raw),
		own.issue(l.dir, "server", "server"),
		os.WriteFile(filepath.Join(l.dir, "secret"), []byte("0123456789abcdef0123456789abcdef\n"), 0o600),
		os.WriteFile(l.config(), fmt.Appendf(nil, strings.ReplaceAll(`
api {
  listen    = "127.0.0.1:%d"
  tls_cert  = "DIR/server.crt"
  tls_key   = "DIR/server.key"
  client_ca = "DIR/ca.crt"
}

webhook {
  listen      = "127.0.0.1:%d"
  secret_file = "DIR/secret"
}
`, "DIR", l.dir), l.ports[4], l.ports[5]), 0o600),
	)
}

// reachable waits until strangers are turned away by both of those listeners: by the API
// in the handshake, where it asks for a certificate, and by the webhook.
func (d *crashDaemon) reachable() error {
	ctx, cancel := d.context()
	defer cancel()
	err := patiently(ctx, func() error {
		asked := false
		dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return &tls.Certificate{}, nil
		}}}
		c, err := dialer.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", d.lane.ports[4]))
		if err == nil {
			c.Close()
		}
		if !asked {
			return fmt.Errorf("the API over TCP asks for no certificate: %w", err)
		}
		return nil
	})
	if err == nil {
		err = patiently(ctx, func() error { return d.turnsAway(ctx) })
	}
	if d.dead() {
		return nil
	}
	return err
}

func (d *crashDaemon) turnsAway(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/", d.lane.ports[5]), strings.NewReader("{}"))
	if err != nil {
		return err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("the webhook: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode < 400 || resp.StatusCode >= 500 {
		return fmt.Errorf("the webhook answers a stranger %s", resp.Status)
	}
	return nil
}
