package keyfile

import (
	"crypto/tls"
	"crypto/x509"
)

// TLS is what a server speaks TLS 1.2 or newer with.
type TLS struct {
	Certificate *Value[*tls.Certificate]
	// ClientCA signs the certificates of clients; nil: none is asked for.
	ClientCA *Value[*x509.CertPool]
	// Optional lets in who has no certificate, where there is a ClientCA; one that is
	// shown must be good all the same.
	Optional bool
	// Protocols are those of RFC 7301; nil: it is not spoken.
	Protocols []string
}

// Config gives the settings of the server. Files are looked at for each connection, so
// that a new certificate or authority counts from the next one on, and the last good
// one while it is unreadable; nothing is resumed, or a client's certificate would count
// for longer than it is valid.
func (t TLS) Config() *tls.Config {
	c := &tls.Config{
		MinVersion:             tls.VersionTLS12,
		NextProtos:             t.Protocols,
		SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := t.Certificate.Get()
			if pair != nil {
				return pair, nil
			}
			return nil, err
		},
	}
	if t.ClientCA == nil {
		return c
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	if t.Optional {
		c.ClientAuth = tls.VerifyClientCertIfGiven
	}
	outer := c.Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		pool, err := t.ClientCA.Get()
		if pool == nil {
			return nil, err
		}
		now := c.Clone()
		now.ClientCAs = pool
		return now, nil
	}
	return outer
}

// Usable says why no connection could be made; nil when one could.
func (t TLS) Usable() error {
	if pair, err := t.Certificate.Get(); pair == nil {
		return err
	}
	if t.ClientCA == nil {
		return nil
	}
	if pool, err := t.ClientCA.Get(); pool == nil {
		return err
	}
	return nil
}
