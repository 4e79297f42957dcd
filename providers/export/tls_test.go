package export

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/schema"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// pair is a certificate that ends at a time.
func (a *authority) pair(use x509.ExtKeyUsage, end time.Time) []tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
}

// Who came with a wrong certificate, or none, left nothing in the log.
func TestFailedTLSIsTold(t *testing.T) {
	r := newRig(t)
	log := &bytes.Buffer{}
	r.log = slog.New(slog.NewTextHandler(log, nil))
	ours, theirs := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	server := &tls.Config{Certificates: ours.pair(x509.ExtKeyUsageServerAuth, later), ClientCAs: ours.pool(), ClientAuth: tls.RequireAndVerifyClientCert}
	client := func(pair []tls.Certificate, trust *authority) func(net.Conn) {
		return func(nc net.Conn) {
			c := tls.Client(nc, &tls.Config{RootCAs: trust.pool(), ServerName: "localhost", Certificates: pair})
			if c.Handshake() == nil {
				c.Read(make([]byte, 1)) // what the server makes of the certificate
			}
		}
	}
	// handshake gives what the server gets.
	handshake := func(do func(net.Conn)) error {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			nc, err := net.Dial("tcp4", l.Addr().String())
			if err != nil {
				t.Error(err)
				l.Close()
				return
			}
			defer nc.Close()
			do(nc)
		}()
		nc, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		err = tls.Server(nc, server).HandshakeContext(t.Context())
		nc.Close()
		<-done
		return err
	}
	for i, c := range []struct {
		do   func(net.Conn)
		want string
	}{
		{client(nil, ours), "it has no certificate"},
		{client(theirs.pair(x509.ExtKeyUsageClientAuth, later), ours), "signed by none"},
		{client(ours.pair(x509.ExtKeyUsageClientAuth, time.Now().Add(-time.Hour)), ours), "expired"},
		{client(ours.pair(x509.ExtKeyUsageServerAuth, later), ours), "not accepted"},
		{client(nil, theirs), "it is this server's"},
		{func(nc net.Conn) { nc.Write([]byte("IHAVEOPT and so on, in the clear")) }, "no TLS"},
		{func(net.Conn) {}, "hung up"},
	} {
		err := handshake(c.do)
		if err == nil {
			t.Errorf("%s: it was let in", c.want)
			continue
		}
		log.Reset()
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		for range 50 {
			r.tlsFailed(netip.AddrPortFrom(addr, 1), err)
		}
		got := log.String()
		if !strings.Contains(got, c.want) || !strings.Contains(got, "client="+addr.String()) || !strings.Contains(got, "level=WARN") {
			t.Errorf("%v: %s, want %q", err, got, c.want)
		}
		if n := strings.Count(got, "\n"); n > 10 {
			t.Errorf("%d lines of one client", n)
		}
	}
}

// Each generation that is kept is prepared at the start, and each told of the same export.
func TestNoCertificateIsToldOnce(t *testing.T) {
	r := newRig(t)
	log := &lines{}
	r.stop()
	r.logTo = slog.New(slog.NewTextHandler(log, nil))
	r.start()
	a, _ := r.artifact(1, 1<<20)
	for gen := range uint64(4) {
		in := r.input(gen+1, a)
		in.Offline, in.Retained = true, gen < 3
		in.Want.Exports[0].TLS, in.Want.Exports[1].TLS = schema.TLSRequired, schema.TLSRequired
		r.commit(in)
	}
	if got := log.String(); strings.Count(got, "no certificate") != 2 || strings.Count(got, "export="+exportCOW.String()) != 1 {
		t.Errorf("%s", got)
	}
}
